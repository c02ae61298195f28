"""The sandbox bank over HTTP: answers in Plaid's shapes, refusals as Plaid words them, trouble on demand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from engine.sandbox.shapes import REQUESTS
from tests.support import plaid_shapes
from tests.support.bank import RunningBank, running_bank
from tests.support.wait import until

KEYS = {"client_id": "id", "secret": "s"}
NOW: dict[str, Any] = {
    "client_name": "Syncdesk",
    "language": "en",
    "country_codes": ["US"],
    "user": {"client_user_id": "u"},
}


def ask(bank: RunningBank, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    """A request whose answer is held to Plaid's description, where that is at hand."""
    answer = bank.raw(path, json.dumps({**KEYS, **body}).encode())
    if plaid_shapes.DESCRIPTION.exists():
        plaid_shapes.check_answer(path, answer.status_code, answer.content)
    return answer.status_code, answer.json()


def refusal(bank: RunningBank, path: str, **body: Any) -> tuple[int, str, str]:
    status, answer = ask(bank, path, **body)
    return status, answer["error_type"], answer["error_code"]


@pytest.fixture
def waiting_bank() -> Iterator[RunningBank]:
    """A bank whose histories come when they are asked for, and not before."""
    with running_bank(initial_s=3600, historical_s=3600) as running:
        yield running


def test_every_answer_has_plaids_shape(waiting_bank: RunningBank) -> None:
    plaid_shapes.needed()
    bank = waiting_bank
    seen: set[str] = set()

    def good(path: str, **body: Any) -> dict[str, Any]:
        seen.add(path)
        status, answer = ask(bank, path, **body)
        assert status == 200, answer
        return answer

    options = {"webhook": "http://127.0.0.1:9/hook", "transactions": {"days_requested": 400}}
    public = good(
        "/sandbox/public_token/create", institution_id="ins_900003", initial_products=["transactions"], options=options
    )
    token = good("/item/public_token/exchange", public_token=public["public_token"])["access_token"]
    empty = good("/transactions/sync", access_token=token)
    assert (empty["added"], empty["next_cursor"]) == ([], "")
    [item] = bank.get("items")["items"]
    bank.do("ready", item_id=item["item_id"])
    page = good("/transactions/sync", access_token=token, count=500, options={"include_original_description": True})
    cursor = page["next_cursor"]
    while page["has_more"]:
        page = good("/transactions/sync", access_token=token, cursor=cursor)
        cursor = page["next_cursor"]
    page = good("/transactions/sync", access_token=token, count=500, options={"include_original_description": True})
    assert page["added"][0]["original_description"]
    assert page["transactions_update_status"] == "HISTORICAL_UPDATE_COMPLETE"
    bank.do("transactions", item_id=item["item_id"], count=3, pending=True)
    bank.do("post", item_id=item["item_id"])
    bank.do("modify", item_id=item["item_id"], transaction_id=page["added"][1]["transaction_id"], changes={"name": "x"})
    bank.do("remove", item_id=item["item_id"], transaction_ids=[page["added"][2]["transaction_id"]])
    news = good("/transactions/sync", access_token=token, cursor=cursor)
    assert (len(news["modified"]), len(news["removed"])) == (1, 1)
    assert news["added"][-1]["pending_transaction_id"]
    good("/transactions/refresh", access_token=token)
    assert good("/transactions/recurring/get", access_token=token)["outflow_streams"]
    good("/item/get", access_token=token)
    good("/item/webhook/update", access_token=token, webhook=None)
    good("/accounts/get", access_token=token, options={"account_ids": [page["accounts"][0]["account_id"]]})
    good(
        "/institutions/get_by_id",
        institution_id="ins_900003",
        country_codes=["US"],
        options={"include_optional_metadata": True},
    )
    link = good("/link/token/create", **NOW, products=["transactions"], hosted_link={})
    good("/link/token/get", link_token=link["link_token"])
    kid = bank.do("keys/rotate")["kid"]
    good("/webhook_verification_key/get", key_id=kid)
    good("/categories/get")
    good("/sandbox/transactions/create", access_token=token, transactions=[fresh()])
    bank.do("webhook", item_id=item["item_id"], webhook_type="ITEM", webhook_code="X")
    good("/item/webhook/update", access_token=token, webhook="http://127.0.0.1:9/hook")
    good("/sandbox/item/fire_webhook", access_token=token, webhook_code="DEFAULT_UPDATE")
    token = good("/item/access_token/invalidate", access_token=token)["new_access_token"]
    good("/sandbox/item/reset_login", access_token=token)
    good("/item/get", access_token=token)
    good("/item/remove", access_token=token)
    assert seen == set(REQUESTS)


def fresh() -> dict[str, Any]:
    from engine import clock

    today = clock.now().date().isoformat()
    return {"date_transacted": today, "date_posted": today, "amount": 3.14, "description": "Pie"}


@pytest.fixture
def item(bank: RunningBank) -> dict[str, Any]:
    return bank.link(living=False)


@pytest.fixture(scope="module")
def steady_bank() -> Iterator[RunningBank]:
    """One bank for the tests that are refused and change nothing."""
    with running_bank() as running:
        yield running


@pytest.fixture(scope="module")
def steady_item(steady_bank: RunningBank) -> dict[str, Any]:
    return steady_bank.link(living=False)


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ({}, "MISSING_FIELDS", "access_token"),
        ({"access_token": 7}, "INVALID_FIELD", "access_token must be a non-empty string"),
        ({"access_token": "$", "count": 0}, "INVALID_FIELD", "count must be greater than or equal to 1"),
        ({"access_token": "$", "count": 501}, "INVALID_FIELD", "count must be less than or equal to 500"),
        ({"access_token": "$", "count": "9"}, "INVALID_FIELD", "count must be an integer"),
        ({"access_token": "$", "count": 9.5}, "INVALID_FIELD", "count must be an integer"),
        ({"access_token": "$", "cursor": None}, "INVALID_FIELD", "cursor must be a string"),
        ({"access_token": "$", "cursor": "nonsense"}, "INVALID_FIELD", "cursor not associated with access_token"),
        ({"access_token": "$", "colour": "red"}, "UNKNOWN_FIELDS", "colour"),
        ({"access_token": "$", "options": {"x": 1}}, "UNKNOWN_FIELDS", "options.x"),
        ({"access_token": "$", "options": {"account_id": "no"}}, "INVALID_ACCOUNT_ID", ""),
        ({"access_token": "sesame"}, "INVALID_ACCESS_TOKEN", "invalid format"),
        ({"access_token": "access-production-1"}, "INVALID_ACCESS_TOKEN", 'expected "sandbox", got "production"'),
        ({"access_token": "access-sandbox-1"}, "INVALID_ACCESS_TOKEN", "could not find"),
    ],
)
def test_sync_refuses_as_plaid_does(
    steady_bank: RunningBank, steady_item: dict[str, Any], body: dict[str, Any], code: str, says: str
) -> None:
    body = {name: steady_item["access_token"] if value == "$" else value for name, value in body.items()}
    status, answer = ask(steady_bank, "/transactions/sync", **body)
    assert (status, answer["error_code"]) == (400, code)
    assert says in answer["error_message"]


@pytest.mark.parametrize(
    ("content", "headers", "code"),
    [
        (b"{", {}, "INVALID_BODY"),
        (b"[]", {}, "INVALID_BODY"),
        (b"\xff", {}, "INVALID_BODY"),
        (b'{"access_token": NaN}', {}, "INVALID_BODY"),
        (b'{"access_token": 1e9999999999999999999999}', {}, "INVALID_BODY"),
        (b'{"access_token": "\\ud83d"}', {}, "INVALID_BODY"),
        (b'{"access_token": ' + b"[" * 100_000, {}, "INVALID_BODY"),
        (b"{}", {}, "MISSING_FIELDS"),
        (b'{"client_id": ""}', {"PLAID-SECRET": "s"}, "INVALID_FIELD"),
        (b"{}", {"PLAID-CLIENT-ID": "id", "PLAID-SECRET": "s", "content-type": "text/plain"}, "INVALID_HEADERS"),
    ],
)
def test_a_request_that_is_none_is_refused(
    steady_bank: RunningBank, content: bytes, headers: dict[str, str], code: str
) -> None:
    assert steady_bank.raw("/item/get", content, headers).json()["error_code"] == code


def test_unknown_addresses_and_methods_are_refused(steady_bank: RunningBank) -> None:
    assert steady_bank.raw("/nowhere", b"{}").status_code == 404
    assert steady_bank.page("GET", "/item/get").json()["error_code"] == "NOT_FOUND"


def test_only_the_keys_it_was_given_are_taken() -> None:
    with running_bank(client_id="id", secret="right") as bank:
        wrong = bank.plaid("/item/get", client_id="id", secret="wrong", access_token="x")
        assert wrong[1]["error_code"] == "INVALID_API_KEYS"
        assert (
            bank.plaid("/item/get", client_id="id", secret="right", access_token="x")[1]["error_code"]
            == "INVALID_ACCESS_TOKEN"
        )


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        (
            "/sandbox/public_token/create",
            {"institution_id": "ins_0", "initial_products": ["transactions"]},
            "INVALID_INSTITUTION",
        ),
        ("/sandbox/public_token/create", {"institution_id": "ins_900001", "initial_products": []}, "INVALID_FIELD"),
        (
            "/sandbox/public_token/create",
            {"institution_id": "ins_900001", "initial_products": ["gold"]},
            "INVALID_FIELD",
        ),
        ("/item/public_token/exchange", {"public_token": "public-sandbox-1"}, "INVALID_PUBLIC_TOKEN"),
        ("/institutions/get_by_id", {"institution_id": "ins_900001", "country_codes": ["XX"]}, "INVALID_FIELD"),
        ("/institutions/get_by_id", {"institution_id": "ins_900001"}, "MISSING_FIELDS"),
        ("/link/token/create", {**NOW}, "MISSING_FIELDS"),
        ("/link/token/get", {"link_token": "link-sandbox-1"}, "INVALID_LINK_TOKEN"),
        ("/webhook_verification_key/get", {"key_id": "k"}, "INVALID_WEBHOOK_VERIFICATION_KEY_ID"),
    ],
)
def test_other_endpoints_refuse_too(steady_bank: RunningBank, path: str, body: dict[str, Any], code: str) -> None:
    assert refusal(steady_bank, path, **body)[2] == code


def test_transactions_are_made_by_plaids_rules(steady_bank: RunningBank, steady_item: dict[str, Any]) -> None:
    path, token = "/sandbox/transactions/create", steady_item["access_token"]
    old = {**fresh(), "date_transacted": "2020-01-01"}
    assert refusal(steady_bank, path, access_token=token, transactions=[old])[2] == "INVALID_FIELD"
    assert refusal(steady_bank, path, access_token=token, transactions=[fresh()] * 11)[2] == "INVALID_FIELD"
    assert refusal(steady_bank, path, access_token=token, transactions=[{"amount": 1}])[2] == "MISSING_FIELDS"
    empty = {**fresh(), "description": "a\0b"}
    assert refusal(steady_bank, path, access_token=token, transactions=[empty])[2] == "INVALID_FIELD"
    other = {**fresh(), "account_id": "another item's"}
    assert refusal(steady_bank, path, access_token=token, transactions=[other])[2] == "INVALID_ACCOUNT_ID"


def test_a_transaction_without_an_account_is_of_the_first_depository_one(bank: RunningBank) -> None:
    user = {"override_accounts": [{"type": "credit"}, {"type": "depository", "subtype": "savings"}]}
    made = bank.link(username="user_custom", password=user)
    body = {"access_token": made["access_token"], "transactions": [fresh()]}
    assert ask(bank, "/sandbox/transactions/create", **body)[0] == 200
    truth = bank.get("truth", item_id=made["item_id"])["items"][made["item_id"]]
    assert [row["account_id"] for row in truth["transactions"]] == [truth["accounts"][1]["account_id"]]


def test_a_public_token_is_used_once(bank: RunningBank) -> None:
    token = bank.public_token()
    assert ask(bank, "/item/public_token/exchange", public_token=token)[0] == 200
    assert refusal(bank, "/item/public_token/exchange", public_token=token)[2] == "INVALID_PUBLIC_TOKEN"


def test_a_removed_item_no_longer_syncs(bank: RunningBank, item: dict[str, Any]) -> None:
    token = item["access_token"]
    assert ask(bank, "/item/remove", access_token=token)[0] == 200
    assert refusal(bank, "/transactions/sync", access_token=token) == (400, "ITEM_ERROR", "ITEM_NOT_FOUND")


def test_another_items_cursor_is_refused(bank: RunningBank, item: dict[str, Any]) -> None:
    other = bank.link()
    cursor = ask(bank, "/transactions/sync", access_token=other["access_token"])[1]["next_cursor"]
    status, answer = ask(bank, "/transactions/sync", access_token=item["access_token"], cursor=cursor)
    assert (status, answer["error_message"]) == (400, "cursor not associated with access_token")


def test_history_comes_in_two_steps(bank: RunningBank) -> None:
    made = bank.do("items", institution_id="ins_900001", exchange=True, days=120)

    def status() -> str:
        state: str = ask(bank, "/transactions/sync", access_token=made["access_token"])[1]["transactions_update_status"]
        return state

    until(lambda: status() == "HISTORICAL_UPDATE_COMPLETE", what="the history")
    assert min(row["date"] for row in bank.truth(made["item_id"]).values()) < made_days_ago(100)


def made_days_ago(days: int) -> str:
    from datetime import timedelta

    from engine import clock

    return (clock.now().date() - timedelta(days=days)).isoformat()


def test_a_change_on_an_earlier_page_restarts_the_update(bank: RunningBank, item: dict[str, Any]) -> None:
    token = item["access_token"]
    first = ask(bank, "/transactions/sync", access_token=token, count=5)[1]
    bank.do("mutate", item_id=item["item_id"])
    code = "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION"
    assert refusal(bank, "/transactions/sync", access_token=token, cursor=first["next_cursor"]) == (
        400,
        "TRANSACTIONS_ERROR",
        code,
    )
    again = ask(bank, "/transactions/sync", access_token=token, count=5)[1]
    assert ask(bank, "/transactions/sync", access_token=token, cursor=again["next_cursor"])[0] == 200


def test_published_limits_hold_when_they_are_on() -> None:
    with running_bank(item_limit=3, client_limit=5) as bank:
        one, two = bank.link(), bank.link()
        codes = [ask(bank, "/transactions/sync", access_token=one["access_token"])[0] for _ in range(4)]
        codes += [ask(bank, "/transactions/sync", access_token=two["access_token"])[0] for _ in range(3)]
        assert codes == [200, 200, 200, 429, 200, 200, 429]
        limited = refusal(bank, "/transactions/sync", access_token=one["access_token"])
        assert limited == (429, "RATE_LIMIT_EXCEEDED", "TRANSACTIONS_SYNC_LIMIT")


@pytest.fixture
def sync(bank: RunningBank, item: dict[str, Any]) -> Iterator[Any]:
    with httpx.Client(base_url=bank.url, trust_env=False, timeout=10) as client:
        yield lambda: client.post("/transactions/sync", json={**KEYS, "access_token": item["access_token"]})


def test_any_error_on_demand(bank: RunningBank, item: dict[str, Any], sync: Any) -> None:
    bank.do("faults", path="/transactions/sync", item_id=item["item_id"], error_code="INSTITUTION_DOWN", times=2)
    assert [sync().json().get("error_code") for _ in range(3)] == ["INSTITUTION_DOWN", "INSTITUTION_DOWN", None]
    bank.do("faults", error_code="BRAND_NEW_CODE", error_type="API_ERROR", status=500)
    assert (sync().status_code, sync().json()["error_code"]) == (500, "BRAND_NEW_CODE")
    bank.do("faults/clear")
    assert sync().status_code == 200


def test_broken_answers_on_demand(bank: RunningBank, item: dict[str, Any], sync: Any) -> None:
    bank.do("faults", kind="html", times=1)
    page = sync()
    assert (page.status_code, page.headers["content-type"]) == (502, "text/html")
    bank.do("faults", kind="empty", times=1)
    assert sync().content == b""
    for kind in ("reset", "truncated"):
        bank.do("faults", kind=kind, times=1)
        with pytest.raises(httpx.RemoteProtocolError):
            sync()
    bank.do("faults", kind="drip", delay_s=0.001, times=1)
    assert sync().json()["added"]
    bank.do("faults", kind="delay", delay_s=0.05, times=1)
    assert sync().json()["added"]
    log = bank.get("requests", path="/transactions/sync")["requests"]
    assert [each["fault"] for each in log] == ["html", "empty", "reset", "truncated", "drip", "delay"]
    assert float(log[-1]["own_ms"]) >= 50
    assert all(each["answered_ms"] >= each["received_ms"] for each in log)


def test_a_mistake_at_the_control_surface_is_said(steady_bank: RunningBank) -> None:
    assert steady_bank.raw("/sandbox/_control/post", b'{"item_id": "no"}').status_code == 400
    assert steady_bank.raw("/sandbox/_control/nonsense", b"{}").status_code == 404
    assert steady_bank.raw("/sandbox/_control/faults", b'{"kind": "meteor"}').status_code == 400


def test_no_page_in_a_browser_drives_the_bank(steady_bank: RunningBank) -> None:
    answer = steady_bank.raw("/sandbox/_control/latency", b'{"ms": 5}', {"origin": "http://evil.example"})
    assert answer.status_code == 403


def test_money_keeps_every_digit(bank: RunningBank, item: dict[str, Any]) -> None:
    [made] = bank.do("transactions", item_id=item["item_id"], transactions=[{"amount": "12345678901.12345678"}])[
        "transaction_ids"
    ]
    raw = bank.raw(
        "/transactions/sync", json.dumps({**KEYS, "access_token": item["access_token"], "count": 500}).encode()
    )
    assert b'"amount":12345678901.12345678' in raw.content
    assert str(bank.truth(item["item_id"])[made]["amount"]) == "12345678901.12345678"
