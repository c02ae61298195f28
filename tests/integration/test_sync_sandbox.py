"""The sync against the sandbox bank: after any life of its accounts the database holds exactly what the bank has."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.store import Transport
from engine.sync import linking
from tests.support.bank import RunningBank
from tests.support.syncing import World, deps

CUSTOM = Path(__file__).parents[3] / "shared" / "data" / "plaid" / "custom-users"


def linked(store: Transport, database_url: str, bank: RunningBank, public_token: str) -> World:
    world = World(deps(store, bank.url), database_url)
    world.item = linking.link(world.deps, public_token)
    return world


def plaid_id(world: World) -> str:
    return str(world.row()["plaid_item_id"])


def same(world: World, bank: RunningBank) -> None:
    """Row for row and field for field."""
    truth, live = bank.truth(plaid_id(world)), world.live()
    assert sorted(live) == sorted(truth)
    for identity, theirs in truth.items():
        ours = live[identity]
        category = theirs.get("personal_finance_category") or {}
        assert {
            "amount": ours["amount"],
            "date": ours["date"].isoformat(),
            "name": ours["name"],
            "merchant": ours["merchant_name"],
            "pending": ours["pending"],
            "account": ours["account_id"],
            "currency": ours["iso_currency_code"] or ours["unofficial_currency_code"],
            "category": ours["category_detailed"],
        } == {
            "amount": Decimal(theirs["amount"]),
            "date": theirs["date"],
            "name": theirs["name"],
            "merchant": theirs.get("merchant_name"),
            "pending": theirs["pending"],
            "account": theirs["account_id"],
            "currency": theirs["iso_currency_code"] or theirs["unofficial_currency_code"],
            "category": category.get("detailed"),
        }, identity
    assert world.row()["transactions"] == len(truth)


@pytest.mark.parametrize("seed", range(4))
def test_any_life_ends_equal(store: Transport, database_url: str, bank: RunningBank, seed: int) -> None:
    chance = random.Random(seed)
    world = linked(store, database_url, bank, bank.public_token(days=60, seed=str(seed), living=False))
    item = plaid_id(world)
    # Called once before the data is there, as right after the exchange.
    assert world.run("link").state in ("not_ready", "done")
    bank.do("ready", item_id=item)
    assert world.sync().state == "done"
    same(world, bank)
    for _ in range(12):
        for _ in range(chance.randrange(1, 5)):
            _something(chance, bank, item)
        if chance.random() < 0.3:
            bank.do("mutate", item_id=item)
        if chance.random() < 0.15:
            world.execute("update syncdesk.items set cursor = null where id = %s", world.item)
        world.sync()
        same(world, bank)
    assert world.rows("select * from syncdesk.skipped_rows") == []
    twice = world.rows(
        "select transaction_id from syncdesk.transaction_history where change = 'added' group by 1 having count(*) > 1"
    )
    assert twice == []


def _something(chance: random.Random, bank: RunningBank, item: str) -> None:
    live = bank.truth(item)
    pending = [identity for identity, row in live.items() if row["pending"]]
    what = chance.choice(["add", "add", "pending", "post", "modify", "remove"])
    if what == "add":
        bank.do("transactions", item_id=item, count=chance.randrange(1, 4))
    elif what == "pending":
        bank.do("transactions", item_id=item, count=1, pending=True)
    elif what == "post" and pending:
        changes = {"amount": str(Decimal(chance.randrange(100, 9999)) / 100)}
        bank.do("post", item_id=item, transaction_id=chance.choice(pending), changes=changes)
    elif what == "modify":
        bank.do("modify", item_id=item, transaction_id=chance.choice(sorted(live)), changes={"amount": "77.70"})
    elif what == "remove":
        bank.do("remove", item_id=item, transaction_ids=[chance.choice(sorted(live))])


def test_many_pages(store: Transport, database_url: str, bank: RunningBank) -> None:
    world = linked(store, database_url, bank, bank.public_token(transactions=1730, living=False))
    bank.do("ready", item_id=plaid_id(world))
    result = world.run("link")
    if result.state == "not_ready":
        result = world.sync()
    assert result.pages == 4
    same(world, bank)


def test_a_sign_in_that_broke_and_was_repaired(store: Transport, database_url: str, bank: RunningBank) -> None:
    from engine.plaid.errors import NeedsPerson

    world = linked(store, database_url, bank, bank.public_token(days=10, living=False))
    item = plaid_id(world)
    bank.do("ready", item_id=item)
    world.run("link")
    bank.do("break", item_id=item)
    with pytest.raises(NeedsPerson):
        world.sync()
    assert world.row()["state"] == "needs_you"
    assert linking.probe(world.deps, world.item) == "ITEM_LOGIN_REQUIRED"
    bank.do("repair", item_id=item)
    assert linking.probe(world.deps, world.item) is None
    assert world.run("probe").state == "done"
    same(world, bank)


def test_a_removed_item_stays_with_its_rows(store: Transport, database_url: str, bank: RunningBank) -> None:
    world = linked(store, database_url, bank, bank.public_token(days=10, living=False))
    bank.do("ready", item_id=plaid_id(world))
    world.run("link")
    rows = len(world.live())
    linking.remove(world.deps, world.item)
    assert bank.get("truth", item_id=plaid_id(world))["items"][plaid_id(world)]["removed"]
    assert world.row()["state"] == "removed"
    assert len(world.live()) == rows


@pytest.mark.parametrize("name", [path.name for path in sorted(CUSTOM.glob("*.json"))] or ["none"])
def test_custom_users_arrive_whole(store: Transport, database_url: str, bank: RunningBank, name: str) -> None:
    if name == "none":
        pytest.skip("needs ../shared/data/plaid/custom-users, which is not here")
    text = (CUSTOM / name).read_text()
    status, answer = bank.plaid(
        "/sandbox/public_token/create",
        institution_id="ins_900001",
        initial_products=["transactions"],
        options={"override_username": "user_custom", "override_password": text},
    )
    assert status == 200, answer
    world = linked(store, database_url, bank, answer["public_token"])
    bank.do("ready", item_id=plaid_id(world))
    world.run("link")
    if world.row()["cursor"] is None:
        world.sync()
    same(world, bank)
    accounts: list[Any] = json.loads(text).get("override_accounts", [])
    # A template's empty row is no transaction.
    wanted = sum(1 for account in accounts for row in account.get("transactions", []) if row.get("date_posted"))
    assert len(world.live()) >= wanted
    assert len(world.rows("select * from syncdesk.accounts where item_id = %s", world.item)) == len(accounts)
