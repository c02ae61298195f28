"""Test users of any kind: through the sandbox bank, in Plaid's shapes, into the database; wrong ones refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.sandbox import custom
from engine.store import Transport
from engine.sync import linking
from tests.support import plaid_shapes
from tests.support.bank import RunningBank, running_bank
from tests.support.syncing import World, deps

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


def row(amount: Any, **more: Any) -> dict[str, Any]:
    return {"date_transacted": "2026-08-01", "date_posted": "2026-08-02", "amount": amount, "description": "x", **more}


ODD: dict[str, dict[str, Any]] = {
    "many accounts": {
        "override_accounts": [
            {"type": "depository", "subtype": "savings", "transactions": [row(n), row(-n)]} for n in range(1, 41)
        ]
    },
    "no transactions": {"override_accounts": [{"type": "loan", "subtype": "student"}, {"type": "credit"}]},
    "nothing but an empty account": {"override_accounts": [{}]},
    "fields nobody knows": {
        "version": 2,
        "seed": "s",
        "streams": [{"name": "salary", "amount": 12}],
        "override_accounts": [
            {
                "type": "depository",
                "subtype": "checking",
                "inflow_model": {"type": "monthly-income", "income_amount": 5000, "payment_day_of_month": 1},
                "streams": [{"description": "Gym", "frequency": "MONTHLY"}],
                "holdings": [{"quantity": 1}],
                "transactions": [row(1.5, surprise=[1, {"a": None}], pending=True)],
            }
        ],
    },
    "currencies": {
        "override_accounts": [
            {"currency": "EUR", "transactions": [row(1), row(2, currency="GBP"), row(3, currency="jpy")]},
            {"currency": "BTC", "starting_balance": 0.00000001, "transactions": [row(0.00000001), row(4, currency="")]},
        ]
    },
    "fields that lack": {
        "override_accounts": [
            {
                "meta": None,
                "numbers": None,
                "identity": None,
                "transactions": [
                    {"date_posted": "2026-08-02", "amount": 1},
                    {"date_transacted": "2026-08-01", "amount": 2, "description": None},
                    {"date_transacted": None, "date_posted": None, "amount": None},
                    {"amount": 3},
                ],
            },
            {"transactions": None},
        ]
    },
    "texts and numbers": {
        "override_accounts": [
            {
                "meta": {"name": "日本 🏦 \u202e", "official_name": "x" * 4000, "limit": 12345678901.23},
                "numbers": {"account": 9876543210},
                "starting_balance": -123.456,
                "transactions": [
                    row(0), row(-0.01, description="é\n\t'\"\\"), row(99999999999.99, description="y" * 5000)
                ],
            }
        ]
    },
    "days": {
        "override_accounts": [
            {"transactions": [row(1, date_posted=day) for day in ("1999-12-31", "2099-01-01", "2028-02-29")]}
        ]
    },
    "types": {
        "override_accounts": [
            {"type": kind} for kind in ("investment", "credit", "depository", "loan", "brokerage", "other", None)
        ]
    },
}  # fmt: skip


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
    wanted = [
        Decimal(str(each["amount"]))
        for account in user["override_accounts"]
        for each in account.get("transactions") or []
        if each["amount"] is not None and (each.get("date_posted") or each.get("date_transacted"))
    ]
    assert sorted(found["amount"] for found in world.live().values()) == sorted(wanted)
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


WRONG: list[Any] = [
    "", "{", "null", "7", '"text"', "[]", "{}", '{"override_accounts": {}}', '{"override_accounts": [null]}',
    "[" * 100_000,
    *(
        json.dumps({"override_accounts": [account]})
        for account in (
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
    assert (status, answer["error_type"], answer["error_code"]) == (400, "INVALID_REQUEST", "INVALID_FIELD")
    assert answer["request_id"]
    assert len(bank.get("items")["items"]) == before


def test_a_user_without_accounts_cannot_be_linked(bank: RunningBank) -> None:
    status, answer = create(bank, '{"override_accounts": []}')
    assert (status, answer["error_type"], answer["error_code"]) == (400, "ITEM_ERROR", "NO_ACCOUNTS")


def test_a_user_that_forces_an_error_gets_it(bank: RunningBank) -> None:
    status, answer = create(bank, json.dumps({"override_accounts": [{}], "force_error": "ITEM_LOCKED"}))
    assert (status, answer["error_code"]) == (400, "ITEM_LOCKED")


def test_the_subtypes_are_plaids() -> None:
    plaid_shapes.needed()
    assert set(plaid_shapes.values_of("AccountSubtype")) == custom.SUBTYPES
    assert set(plaid_shapes.values_of("AccountType")) == custom.TYPES


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


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(ACCOUNT, ROWS), max_size=3), st.booleans())
def test_any_user_is_taken_or_refused(bank: RunningBank, parts: list[Any], as_text: bool) -> None:
    user = {"override_accounts": [{**account, "transactions": rows} for account, rows in parts]}
    status, answer = create(bank, json.dumps(user) if as_text else user)
    assert status in (200, 400), answer
    if status == 400:
        assert answer["error_code"] in ("INVALID_FIELD", "INVALID_BODY" if parts else "NO_ACCOUNTS")
