"""Households by seed, custom users, faults and the journal, in process."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import StartError
from engine.sandbox import custom
from engine.sandbox.bank import Bank, Options
from engine.sandbox.faults import Faults
from engine.sandbox.institutions import BY_ID, find, listed
from engine.sandbox.items import HISTORICAL, Item
from engine.sandbox.life import Life
from engine.sandbox.model import Transaction, currency
from engine.sandbox.refusals import Refusal
from engine.sandbox.world import Household
from tests.support import plaid_shapes

DAY = date(2026, 3, 31)


def bought(item_id: str, bank: str, seed: str) -> list[tuple[Any, ...]]:
    household = Household(item_id, find(bank), seed)
    return [(row.date, row.amount, row.name, row.merchant_name) for row in household.history(DAY, 60)]


@pytest.mark.parametrize("bank", sorted(BY_ID))
def test_one_seed_makes_one_household(bank: str) -> None:
    first = bought("one", bank, "s")
    assert first == bought("two", bank, "s")
    assert first != bought("one", bank, "t")
    assert len(first) > 60


def test_ids_are_the_items_own() -> None:
    ids = [
        {row.transaction_id for row in Household(i, find("ins_900001"), "s").history(DAY, 60)} for i in ("one", "two")
    ]
    assert not ids[0] & ids[1]


def test_a_history_has_bills_pay_refunds_and_other_currencies() -> None:
    rows = [row for bank in listed() for row in Household("i", bank, "s").history(DAY, 365)]
    assert {"USD", "JPY", "CAD", "AED", "EUR", "GBP"} == {row.iso_currency_code for row in rows}
    assert any("ا" in row.name for row in rows)
    assert any("サ" in row.name for row in rows)
    assert any(row.amount < 0 and row.merchant_name for row in rows), "no refund"
    assert any(row.amount < 0 and not row.merchant_name for row in rows), "no pay"
    yen = [row.amount for row in rows if row.iso_currency_code == "JPY"]
    assert all(amount == amount.to_integral_value() for amount in yen)


def test_a_bill_comes_once_a_month() -> None:
    household = Household("i", find("ins_900001"), "s")
    rent = [row for row in household.history(DAY, 365) if row.merchant_name == "Lakeside Apartments"]
    assert len({row.date[:7] for row in rent}) == len(rent) == 12
    power = [row.amount for row in household.history(DAY, 365) if row.merchant_name == "Tri-County Electric"]
    assert max(power) > min(power) * Decimal("1.5"), "a utility follows the seasons"


def test_a_named_user_is_the_same_person_at_every_link() -> None:
    bank = Bank(Options(living=False))

    def masks(username: str) -> list[str | None]:
        return [each.mask for each in bank.create_item("ins_900001", username=username).accounts]

    assert masks("anna") == masks("anna")
    assert masks("user_good") != masks("user_good")
    persistent = {bank.create_item("ins_900001", username="anna").accounts[0].persistent_account_id for _ in range(2)}
    assert len(persistent) == 1


def living_bank() -> tuple[Bank, Life, Item]:
    bank = Bank(Options(seed=5, living=False))
    life = Life(bank)
    item = bank.exchange(bank.create_item("ins_900001").opening.public_token)
    bank.advance(item, HISTORICAL)
    return bank, life, item


def test_life_posts_what_was_pending() -> None:
    _, life, item = living_bank()
    news = [row for _ in range(200) for row in life.step(item)]
    posted = [row for row in news if row.pending_transaction_id]
    assert len({row.transaction_id for row in news}) == len(news)
    assert any(row.pending for row in news)
    assert posted
    pending = {row.transaction_id: row for row in news if row.pending}
    differing = [row for row in posted if row.amount != pending[row.pending_transaction_id or ""].amount]
    assert differing, "some post with another amount"
    assert all(item.ledger.get(row.pending_transaction_id or "") is None for row in posted)
    today = max(row.date for row in news)
    assert all(row.date <= today for row in item.ledger.live())


@pytest.mark.parametrize("file", plaid_shapes.custom_users(), ids=lambda file: file.stem)
def test_custom_users_come_in_whole(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    user = json.loads(text, parse_float=Decimal)
    holder = custom.holder("item", custom.parse(text), "USD", date.max)
    accounts, rows = holder.accounts, holder.rows
    given = user["override_accounts"]
    assert [(each.type, each.subtype) for each in accounts] == [
        (each["type"] or "depository", each["subtype"] or "checking") for each in given
    ]
    wanted = [
        (
            accounts[number].account_id,
            each["date_posted"],
            each["date_transacted"],
            Decimal(each["amount"]),
            each["description"],
        )
        for number, account in enumerate(given)
        for each in account.get("transactions", ())
        if each["amount"] is not None
    ]
    assert [(row.account_id, row.date, row.authorized_date, row.amount, row.name) for row in rows] == wanted
    for account, entry in zip(accounts, given, strict=True):
        if entry.get("starting_balance") is not None:
            assert account.balances.current == Decimal(entry["starting_balance"])


def test_a_custom_user_keeps_every_digit_and_unofficial_money() -> None:
    text = (
        '{"override_accounts":[{"type":"depository","subtype":"checking","starting_balance":12.34567891,'
        '"surprise":{"x":1},"transactions":[{"date_transacted":"2026-01-01","date_posted":"2026-01-02",'
        '"amount":0.12345678,"description":"Ω","currency":"BTC","unheard_of":true}]}]}'
    )
    holder = custom.holder("item", custom.parse(text), "USD", DAY)
    [row] = holder.rows
    assert row.amount == Decimal("0.12345678")
    assert (row.iso_currency_code, row.unofficial_currency_code) == (None, "BTC")
    assert holder.accounts[0].balances.current == Decimal("12.34567891")


@pytest.mark.parametrize(
    "text",
    [
        "pass_good",
        "[]",
        '{"override_accounts": 3}',
        '{"override_accounts": [7]}',
        '{"override_accounts": [{"transactions": [{"amount": "x", "date_posted": "2026-01-01"}]}]}',
        '{"override_accounts": [{"transactions": [{"amount": 1, "date_posted": "yesterday"}]}]}',
    ],
)
def test_a_malformed_custom_user_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        custom.holder("item", custom.parse(text), "USD", DAY)
    assert caught.value.plaid_code == "INVALID_CREDENTIALS"


def test_a_custom_user_may_force_an_error() -> None:
    with pytest.raises(Refusal) as caught:
        custom.parse('{"override_accounts": [], "force_error": "INSTITUTION_DOWN"}')
    assert caught.value.plaid_code == "INSTITUTION_DOWN"


@pytest.mark.parametrize(
    ("code", "wanted"),
    [("eur", ("EUR", None)), (None, ("USD", None)), ("ETH", (None, "ETH")), ("Points", (None, "Points"))],
)
def test_exactly_one_currency_is_set(code: str | None, wanted: tuple[str | None, str | None]) -> None:
    assert currency(code) == wanted


def test_faults_pass_count_and_end() -> None:
    faults = Faults()
    faults.add({"path": "/item/get", "item_id": "i", "after": 1, "times": 2})
    hits = [faults.hit("/item/get", "i", None) is not None for _ in range(5)]
    assert hits == [False, True, True, False, False]
    endless = faults.add({"institution_id": "ins"})
    assert faults.hit("/item/get", "other", None) is None
    assert all(faults.hit("/accounts/get", "other", "ins") for _ in range(3))
    assert faults.clear(endless.id) == 1
    with pytest.raises(msgspec.ValidationError):
        faults.add({"kind": "meteor"})


def changed(bank: Bank) -> Item:
    item = bank.exchange(bank.create_item("ins_900003", webhook="http://127.0.0.1:9/w").opening.public_token)
    bank.advance(item, HISTORICAL)
    [pending] = bank.add(item, [row("p", Decimal("10.10"), pending=True)])
    bank.post(item, pending, {"amount": Decimal("12.00000001")})
    bank.modify(item, next(item.ledger.live()).transaction_id, {"name": "another", "amount": Decimal("1.10")})
    bank.remove(item, [list(item.ledger.live())[3].transaction_id])
    bank.set(item, sync_called=True, error="ITEM_LOGIN_REQUIRED")
    bank.rotate_token(item)
    return item


def row(name: str, amount: Decimal, *, pending: bool = False) -> Transaction:
    return Transaction(
        transaction_id=name, account_id="a", amount=amount, date="2026-01-01", name=name, pending=pending
    )


def test_a_bank_started_again_is_the_same_bank(tmp_path: Path) -> None:
    file = tmp_path / "bank.jsonl"
    first = Bank(Options(state=file, living=False))
    item = changed(first)
    cursor = item.ledger.page(None, 20).next_cursor
    after = item.ledger.page(cursor, 500)
    kid = first.keys.export()["kid"]
    first.close()
    with file.open("ab") as torn:
        torn.write(b'["add",{"item_id":"')
    second = Bank(Options(state=file, living=False))
    same = second.item(item.access_token)
    assert list(same.ledger.live()) == list(item.ledger.live())
    assert same.ledger.page(cursor, 500) == after
    assert (same.status, same.error, same.sync_called, same.webhook) == (HISTORICAL, item.error, True, item.webhook)
    assert same.accounts == item.accounts
    assert second.keys.jwk(kid) == first.keys.jwk(kid)
    assert second.add(same, [row("q", Decimal("1"))])
    second.close()
    third = Bank(Options(state=file, living=False))
    assert third.item(item.access_token).ledger.get("q") is not None
    third.close()


def test_a_damaged_journal_is_said(tmp_path: Path) -> None:
    file = tmp_path / "bank.jsonl"
    file.write_bytes(b"{}\n")
    with pytest.raises(StartError, match="damaged"):
        Bank(Options(state=file))
