"""The sandbox bank's webhooks: Plaid's shapes, believed by our verifier, retried; and the pages of hosted Link."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from engine.plaid.types import VerificationKey
from engine.plaid.webhooks import Refused, Verifier
from engine.sandbox.deliveries import Pace
from engine.sandbox.shapes import FIREABLE
from tests.support import plaid_shapes
from tests.support.bank import RunningBank, running_bank
from tests.support.receiver import Receiver, receiver
from tests.support.wait import until

LINK: dict[str, Any] = {
    "client_name": "Syncdesk",
    "language": "en",
    "country_codes": ["US"],
    "user": {"client_user_id": "u"},
    "hosted_link": {},
}


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def codes(hook: Receiver) -> list[str]:
    return [json.loads(body)["webhook_code"] for _, body in list(hook.arrived)]


def arrived(hook: Receiver, code: str) -> dict[str, Any]:
    """The newest webhook of this code, waited for."""
    until(lambda: code in codes(hook), what=code)
    found: dict[str, Any] = next(
        json.loads(b) for _, b in reversed(hook.arrived) if json.loads(b)["webhook_code"] == code
    )
    return found


def test_our_verifier_believes_it_and_nothing_else(bank: RunningBank, hook: Receiver) -> None:
    bank.link(webhook=hook.url)
    arrived(hook, "HISTORICAL_UPDATE")

    def lookup(kid: str) -> VerificationKey:
        return msgspec.convert(bank.plaid("/webhook_verification_key/get", key_id=kid)[1]["key"], VerificationKey)

    verifier = Verifier(lookup)
    headers, body = hook.arrived[0]
    assert verifier.verify(headers, body).body_sha256 == hashlib.sha256(body).hexdigest()
    with pytest.raises(Refused):
        verifier.verify(headers, body + b" ")


def test_news_is_held_back_until_the_first_sync(bank: RunningBank, hook: Receiver) -> None:
    made = bank.link(webhook=hook.url)
    bank.do("transactions", item_id=made["item_id"])
    arrived(hook, "HISTORICAL_UPDATE")
    assert "SYNC_UPDATES_AVAILABLE" not in codes(hook)
    bank.plaid("/transactions/sync", access_token=made["access_token"])
    bank.do("transactions", item_id=made["item_id"])
    news = arrived(hook, "SYNC_UPDATES_AVAILABLE")
    assert news["initial_update_complete"]
    assert news["historical_update_complete"]


def test_every_webhook_has_plaids_shape(bank: RunningBank, hook: Receiver) -> None:
    plaid_shapes.needed()
    made = bank.link(webhook=hook.url)
    token, fired = made["access_token"], sorted(FIREABLE)
    for code in fired:
        assert bank.plaid("/sandbox/item/fire_webhook", access_token=token, webhook_code=code)[1]["webhook_fired"]
    bank.do("webhook", item_id=made["item_id"], webhook_code="PENDING_EXPIRATION")
    bank.plaid("/sandbox/item/reset_login", access_token=token)
    assert arrived(hook, "ERROR")["error"]["error_code"] == "ITEM_LOGIN_REQUIRED"
    bank.do("repair", item_id=made["item_id"])
    bank.plaid("/item/webhook/update", access_token=token, webhook=hook.url)
    arrived(hook, "WEBHOOK_UPDATE_ACKNOWLEDGED")
    sent = bank.get("webhooks")["webhooks"]
    for each in sent:
        plaid_shapes.check_webhook(each["body"])
    assert {each["webhook_code"] for each in sent} >= {*fired, "LOGIN_REPAIRED", "PENDING_EXPIRATION", "INITIAL_UPDATE"}


def test_a_refused_webhook_comes_again() -> None:
    with receiver() as hook, running_bank(Pace(first_retry_s=0.4), speed=20) as bank:
        hook.answers += [500, 503]
        bank.link(webhook=hook.url)
        until(lambda: all(each["state"] == "delivered" for each in bank.get("webhooks")["webhooks"]), what="delivery")
        sent = bank.get("webhooks")["webhooks"]
        statuses = sorted(attempt["status"] for each in sent for attempt in each["attempts"])
        assert statuses == [200, 200, 500, 503]
        for each in sent:
            times = [float(attempt["sent_ms"]) for attempt in each["attempts"]]
            gaps = [after - before for before, after in pairwise(times)]
            assert all(gap >= wanted for gap, wanted in zip(gaps, (20, 80), strict=False))


def test_a_day_of_refusals_is_seven_tries() -> None:
    """After 30 s, then four times as long each: 30, 120, 480, 1,920, 7,680 and 30,720 s; the next were after a day."""
    with receiver() as hook, running_bank(speed=20_000) as bank:
        hook.answers += [500] * 100
        bank.link(webhook=hook.url, living=False)
        until(lambda: states(bank) == {"given_up"}, what="the end of all tries")
        sent = bank.get("webhooks")["webhooks"]
        assert [len(each["attempts"]) for each in sent] == [7] * len(sent)


def test_who_refuses_nearly_everything_is_not_tried_again() -> None:
    with receiver() as hook, running_bank(Pace(first_retry_s=3600)) as bank:
        hook.answers += [500] * 100
        made = bank.link(webhook=hook.url, living=False)
        for _ in range(58):
            bank.plaid(
                "/sandbox/item/fire_webhook", access_token=made["access_token"], webhook_code="NEW_ACCOUNTS_AVAILABLE"
            )
        until(lambda: states(bank) == {"retrying", "given_up"}, what="a first try of each")
        sent = bank.get("webhooks")["webhooks"]
        assert all(len(each["attempts"]) == 1 for each in sent)
        # From the fiftieth on more than nine of ten were refused.
        assert [each["state"] for each in sent].count("retrying") == 49


def states(bank: RunningBank) -> set[str]:
    return {each["state"] for each in bank.get("webhooks")["webhooks"]}


def test_nobody_there_does_not_hold_up_the_bank(bank: RunningBank) -> None:
    made = bank.link(webhook="http://127.0.0.1:9/nobody")
    until(lambda: states(bank) == {"retrying"}, what="the first try")
    assert bank.plaid("/transactions/sync", access_token=made["access_token"])[0] == 200


def hosted(bank: RunningBank, hook: Receiver, **more: Any) -> tuple[str, str]:
    _, answer = bank.plaid("/link/token/create", **LINK, webhook=hook.url, **more)
    return answer["link_token"], answer["hosted_link_url"].removeprefix(bank.url)


def session(bank: RunningBank, link_token: str) -> dict[str, Any]:
    answer = bank.raw(
        "/link/token/get", json.dumps({"client_id": "a", "secret": "b", "link_token": link_token}).encode()
    )
    if plaid_shapes.DESCRIPTION.exists():
        plaid_shapes.check_answer("/link/token/get", answer.status_code, answer.content)
    found: dict[str, Any] = answer.json()["link_sessions"][-1]
    return found


def test_a_bank_is_linked_on_the_hosted_page(bank: RunningBank, hook: Receiver) -> None:
    link_token, page = hosted(bank, hook, products=["transactions"], transactions={"days_requested": 730})
    assert "桜信託銀行" in bank.page("GET", page).text
    assert session(bank, link_token)["finished_at"] is None
    done = bank.page("POST", f"{page}/finish", data={"institution": "ins_900003"})
    assert done.status_code == 200
    finished = arrived(hook, "SESSION_FINISHED")
    assert finished["status"] == "SUCCESS"
    [added] = session(bank, link_token)["results"]["item_add_results"]
    assert finished["public_tokens"] == [added["public_token"]]
    assert arrived(hook, "ITEM_ADD_RESULT")["public_token"] == added["public_token"]
    _, exchanged = bank.plaid("/item/public_token/exchange", public_token=added["public_token"])
    accounts = bank.plaid("/accounts/get", access_token=exchanged["access_token"])[1]["accounts"]
    assert [each["id"] for each in added["accounts"]] == [each["account_id"] for each in accounts]
    for each in bank.get("webhooks")["webhooks"]:
        if plaid_shapes.DESCRIPTION.exists():
            plaid_shapes.check_webhook(each["body"])


def test_giving_up_links_nothing_although_it_redirects(bank: RunningBank, hook: Receiver) -> None:
    body = {**LINK, "hosted_link": {"completion_redirect_uri": "http://127.0.0.1:9/back"}, "products": ["transactions"]}
    _, answer = bank.plaid("/link/token/create", **body, webhook=hook.url)
    page = answer["hosted_link_url"].removeprefix(bank.url)
    left = bank.page("POST", f"{page}/exit")
    assert (left.status_code, left.headers["location"]) == (303, "http://127.0.0.1:9/back")
    assert arrived(hook, "SESSION_FINISHED")["status"] == "EXITED"
    assert "results" not in session(bank, answer["link_token"])


def test_update_mode_mends_the_item(bank: RunningBank, hook: Receiver) -> None:
    made = bank.link(webhook=hook.url)
    token = made["access_token"]
    bank.plaid("/sandbox/item/reset_login", access_token=token)
    _, page = hosted(bank, hook, access_token=token)
    assert "First Lakeside Bank" in bank.page("GET", page).text
    bank.page("POST", f"{page}/finish")
    assert arrived(hook, "SESSION_FINISHED")["status"] == "SUCCESS"
    assert bank.plaid("/transactions/sync", access_token=token)[0] == 200
    assert "LOGIN_REPAIRED" not in codes(hook)


def test_a_removed_item_is_not_mended(bank: RunningBank, hook: Receiver) -> None:
    token = bank.link(webhook=hook.url)["access_token"]
    link_token, page = hosted(bank, hook, access_token=token)
    bank.plaid("/item/remove", access_token=token)
    assert bank.page("POST", f"{page}/finish").status_code == 400
    assert session(bank, link_token)["finished_at"] is None


def test_an_unknown_page_has_expired(bank: RunningBank) -> None:
    assert bank.page("GET", "/hosted/nothing").status_code == 404
    assert bank.page("POST", "/hosted/nothing/finish").status_code == 404
