"""Test users of any kind: through the sandbox bank, in Plaid's shapes, into the database; wrong ones refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import clock
from engine.sandbox import custom
from engine.store import Transport
from engine.sync import linking
from tests.support import plaid_shapes
from tests.support.bank import RunningBank, running_bank
from tests.support.custom_users import ODD, amounts, row
from tests.support.syncing import World, deps
from tests.support.wait import until

KEYS = {"client_id": "simulated", "secret": "simulated"}
CREATE = "/sandbox/public_token/create"


@pytest.fixture(scope="module")
def bank() -> Iterator[RunningBank]:
    with running_bank() as made:
        yield made


def create(bank: RunningBank, password: Any, institution: str = "ins_900001") -> tuple[int, dict[str, Any]]:
    """The answer to a test user, held to Plaid's shapes."""
    body = {
        **KEYS,
        "institution_id": institution,
        "initial_products": ["transactions"],
        "options": {"override_username": "user_custom", "override_password": password},
    }
    answer = bank.raw(CREATE, json.dumps(body).encode())
    if plaid_shapes.DESCRIPTION.exists():
        plaid_shapes.check_answer(CREATE, answer.status_code, answer.content)
    found: dict[str, Any] = answer.json()
    return answer.status_code, found


@pytest.mark.parametrize("name", ODD)
def test_an_odd_user_arrives_whole(store: Transport, database_url: str, bank: RunningBank, name: str) -> None:
    user = ODD[name]
    status, answer = create(bank, json.dumps(user))
    assert status == 200, answer
    world = World(deps(store, bank.url), database_url)
    world.item = linking.link(world.deps, answer["public_token"])
    item = world.row()["plaid_item_id"]
    bank.do("ready", item_id=item)
    world.run("link")
    if world.row()["cursor"] is None:
        world.sync()
    assert sorted(found["amount"] for found in world.live().values()) == amounts(user)
    assert len(world.rows("select * from syncdesk.accounts")) == len(user["override_accounts"])
    for found in world.live().values():
        assert [found["iso_currency_code"], found["unofficial_currency_code"]].count(None) == 1
    assert world.rows("select * from syncdesk.skipped_rows") == []
    if plaid_shapes.DESCRIPTION.exists():
        body = {
            **KEYS,
            "access_token": next(i for i in bank.get("items")["items"] if i["item_id"] == item)["access_token"],
        }
        for path in ("/transactions/sync", "/accounts/get", "/item/get"):
            got = bank.raw(path, json.dumps(body).encode())
            plaid_shapes.check_answer(path, got.status_code, got.content)
    world.deps.plaid.close()


#: What ``force_error`` may be, by Plaid's description of custom users.
FORCED = [
    "INSTITUTION_NOT_RESPONDING", "INSTITUTION_NO_LONGER_SUPPORTED", "INVALID_CREDENTIALS", "INVALID_MFA",
    "ITEM_LOCKED", "ITEM_LOGIN_REQUIRED", "ITEM_NOT_SUPPORTED", "INVALID_LINK_TOKEN", "MFA_NOT_SUPPORTED",
    "NO_ACCOUNTS", "PLAID_ERROR", "USER_INPUT_TIMEOUT", "USER_SETUP_REQUIRED",
]  # fmt: skip

WRONG: list[Any] = [
    "", "{", "null", "7", '"text"', "[]", "pass_good",
    '{"a": 1e9999999999999999999999}', '{"override_accounts": {}}', '{"override_accounts": [null]}',
    "[" * 100_000,
    *(
        json.dumps({"override_accounts": [account]})
        for account in (
            {"meta": {"mask": "12345"}}, {"has_null_available_balance": True, "force_available_balance": 1},
            {"type": "treasure"}, {"type": 3}, {"subtype": "chequing"}, {"subtype": ["checking"]},
            {"meta": "name"}, {"meta": {"name": 5}}, {"meta": {"limit": "high"}}, {"numbers": [1]},
            {"currency": 840}, {"starting_balance": "100"}, {"starting_balance": True}, {"starting_balance": 1e300},
            {"transactions": {"a": 1}}, {"transactions": "none"}, {"transactions": [5]},
            {"transactions": [row("12.30")]}, {"transactions": [row(float("nan"))]}, {"transactions": [row(1e16)]},
            {"transactions": [row(1, date_posted="2026-02-30")]}, {"transactions": [row(1, date_posted=20260801)]},
            {"transactions": [row(1, description={"a": 1})]}, {"transactions": [row(1, description="a\0b")]},
            {"transactions": [row(1, description="\ud83d")]},
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG, ids=[str(text)[:60] for text in WRONG])
def test_a_wrong_user_is_refused_as_plaid_refuses(bank: RunningBank, text: str) -> None:
    before = len(bank.get("items")["items"])
    status, answer = create(bank, text)
    assert (status, answer["error_type"], answer["error_code"]) == (400, "ITEM_ERROR", "INVALID_CREDENTIALS")
    assert answer["request_id"]
    assert answer["display_message"] == "The provided credentials were not correct. Please try again."
    assert len(bank.get("items")["items"]) == before


@pytest.mark.parametrize("password", [7, True, ["x"]])
def test_a_password_that_is_no_text_is_a_wrong_field(bank: RunningBank, password: Any) -> None:
    status, answer = create(bank, password)
    assert (status, answer["error_type"], answer["error_code"]) == (400, "INVALID_REQUEST", "INVALID_FIELD")


def test_a_user_without_accounts_cannot_be_linked(bank: RunningBank) -> None:
    status, answer = create(bank, '{"override_accounts": []}')
    assert (status, answer["error_type"], answer["error_code"]) == (400, "ITEM_ERROR", "NO_ACCOUNTS")


@pytest.mark.parametrize("code", FORCED)
def test_a_user_that_forces_an_error_gets_it(bank: RunningBank, code: str) -> None:
    for user in ({"force_error": code}, {"override_accounts": [{}], "force_error": code}):
        status, answer = create(bank, json.dumps(user))
        assert (status >= 400, answer["error_code"]) == (True, code)


def test_a_bad_recaptcha_is_refused(bank: RunningBank) -> None:
    status, answer = create(bank, '{"recaptcha": "bad"}')
    assert (status, answer["error_type"], answer["error_code"]) == (400, "RECAPTCHA_ERROR", "RECAPTCHA_BAD")


def test_a_published_test_password_forces_its_error(bank: RunningBank) -> None:
    body = {"institution_id": "ins_109508", "initial_products": ["transactions"]}
    options = {"override_username": "user_good", "override_password": "error_ITEM_LOCKED"}
    status, answer = bank.plaid(CREATE, **body, options=options)
    assert (status, answer["error_code"]) == (400, "ITEM_LOCKED")
    status, _ = bank.plaid(CREATE, **body, options={"override_username": "user_good", "override_password": "pass_good"})
    assert status == 200


def linked(bank: RunningBank, user: Any) -> dict[str, Any]:
    """What the bank holds of a test user whose history has come, and its access token."""
    status, answer = create(bank, json.dumps(user))
    assert status == 200, answer
    status, item = bank.plaid("/item/public_token/exchange", public_token=answer["public_token"])
    bank.do("ready", item_id=item["item_id"])
    return {**bank.get("truth", item_id=item["item_id"])["items"][item["item_id"]], **item}


@pytest.mark.parametrize("user", [{}, {"override_accounts": None}, {"version": 2, "mfa": {"type": "device"}}])
def test_a_user_that_says_no_accounts_is_made_up(bank: RunningBank, user: Any) -> None:
    held = linked(bank, user)
    assert held["accounts"]
    assert held["transactions"]


def test_a_seed_makes_the_same_user_again(bank: RunningBank) -> None:
    first, second, other = (linked(bank, {"seed": seed}) for seed in ("one", "one", "two"))

    def rows(held: dict[str, Any]) -> list[Any]:
        return [(each["date"], each["amount"], each["name"]) for each in held["transactions"]]

    assert rows(first) == rows(second) != rows(other)


@pytest.mark.usefixtures("one_day")
def test_dates_roll_so_that_the_last_thing_happened_today(bank: RunningBank) -> None:
    before = clock.now().date()
    held = linked(bank, ODD["rolled to today"])
    older, newest = held["transactions"]
    today = date.fromisoformat(newest["date"])
    assert before <= today <= clock.now().date()
    assert older["date"] == (today - timedelta(days=1)).isoformat()
    assert (newest["authorized_date"], newest["date"]) == (today.isoformat(), today.isoformat())
    assert (older["pending"], newest["pending"]) == (False, True), "it posts two days after it happened"


def test_a_transaction_that_posts_later_is_pending(bank: RunningBank) -> None:
    later = (clock.now().date() + timedelta(days=3)).isoformat()
    held = linked(bank, {"override_accounts": [{"transactions": [row(1), row(2, date_posted=later)]}]})
    dates = {each["amount"]: (each["pending"], each["date"]) for each in held["transactions"]}
    assert dates == {1: (False, "2026-08-02"), 2: (True, "2026-08-01")}
    assert bank.plaid("/transactions/refresh", access_token=held["access_token"])[0] == 200
    truth = until(
        lambda: [each for each in bank.truth(held["item_id"]).values() if each["pending_transaction_id"]],
        what="the pending one to post",
    )
    assert [(each["amount"], each["pending"]) for each in truth] == [(2, False)]


def test_masks_and_available_balances_are_the_files(bank: RunningBank) -> None:
    user = {
        "override_accounts": [
            {"meta": {"mask": "77x"}, "numbers": {"account": "1111222233335555"}, "starting_balance": 10},
            {"numbers": {"account": "1111222233335555"}, "force_available_balance": 5, "starting_balance": 10},
            {"numbers": {"international_iban": "IE29AIBK93115212345678"}, "has_null_available_balance": True},
        ]
    }
    held = linked(bank, user)
    assert [each["mask"] for each in held["accounts"]] == ["77x", "5555", "5678"]
    assert [each["balances"]["available"] for each in held["accounts"]] == [10, 5, None]
    today = clock.now().date().isoformat()
    bought = {"date_transacted": today, "date_posted": today, "amount": 3, "description": "Pie"}
    for account in held["accounts"]:
        made = {**bought, "account_id": account["account_id"]}
        body = {"access_token": held["access_token"], "transactions": [made]}
        assert bank.plaid("/sandbox/transactions/create", **body)[0] == 200
    _, answer = bank.plaid("/accounts/get", access_token=held["access_token"])
    assert [each["balances"]["available"] for each in answer["accounts"]] == [7, 5, None], "one is forced, one is null"
    assert [each["balances"]["current"] for each in answer["accounts"]][:2] == [7, 7]


def test_the_subtypes_are_plaids() -> None:
    plaid_shapes.needed()
    assert set(plaid_shapes.values_of("AccountSubtype")) == custom.SUBTYPES
    assert set(plaid_shapes.values_of("AccountType")) == custom.TYPES


@pytest.mark.parametrize("subtype", sorted(custom.SUBTYPES))
def test_every_subtype_is_taken_however_it_is_written(subtype: str) -> None:
    users = [custom.parse({"override_accounts": [{"subtype": word}]}) for word in (subtype, subtype.upper())]
    for user in users:
        [account] = custom.holder("i", user, "USD", clock.now().date()).accounts
        assert account.subtype == subtype


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)
ACCOUNT = st.dictionaries(
    st.sampled_from(["type", "subtype", "starting_balance", "force_available_balance", "currency", "meta", "numbers"]),
    st.sampled_from(["depository", "credit", "checking", "EUR", 5, -1.5, None]) | JSON,
    max_size=4,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"amount": st.integers(-9999, 9999) | JSON, "date_posted": st.sampled_from(["2026-08-02", None]) | JSON},
        optional={"description": st.text(max_size=9) | JSON, "currency": st.sampled_from(["USD", "ETH"]) | JSON},
    ),
    max_size=3,
)


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(ACCOUNT, ROWS), max_size=3), st.booleans())
def test_any_user_is_taken_or_refused(bank: RunningBank, parts: list[Any], as_text: bool) -> None:
    user = {"override_accounts": [{**account, "transactions": rows} for account, rows in parts]}
    status, answer = create(bank, json.dumps(user) if as_text else user)
    assert status in (200, 400), answer
    if status == 400:
        assert answer["error_code"] in ("INVALID_CREDENTIALS", "INVALID_BODY" if parts else "NO_ACCOUNTS")
