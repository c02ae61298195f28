"""Pending transactions that went without a named successor, those that never post, and what a person attaches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.store import Transport
from engine.sync import postings
from tests.support.days import ago
from tests.support.scripted_plaid import ScriptedPlaid, page, transaction
from tests.support.syncing import World, deps

pytestmark = pytest.mark.usefixtures("one_day")
SYNC = "/transactions/sync"


@pytest.fixture
def world(store: Transport, database_url: str, scripted_bank: ScriptedPlaid) -> Iterator[World]:
    made = World(deps(store, scripted_bank.url), database_url).link()
    yield made
    made.deps.plaid.close()


@pytest.fixture
def any_world(any_store: Transport, any_database_url: str, scripted_bank: ScriptedPlaid) -> Iterator[World]:
    made = World(deps(any_store, scripted_bank.url), any_database_url).link()
    yield made
    made.deps.plaid.close()


def day(back: int = 0) -> str:
    return ago(back)


def annotate(world: World, identity: str, **changes: Any) -> None:
    world.deps.store.call("transaction_annotate", id=world.live()[identity]["id"], changes=changes, correlation="c-me")


def first(world: World, bank: ScriptedPlaid, *rows: Any) -> None:
    bank.answer(SYNC, page(list(rows), cursor="c1"))
    assert world.run("link").state == "done"


def row(world: World, identity: str) -> dict[str, Any]:
    found = world.rows("select * from syncdesk.transactions where transaction_id = %s", identity)
    return found[0]


def flags(world: World, flag: str | None = None) -> dict[str, list[str]]:
    found = world.deps.store.call("transactions_list", user="me", item=None, q=None, flag=flag, after=None, limit=100)[
        "transactions"
    ]
    return {each["transaction_id"]: each["flags"] for each in found}


@pytest.mark.parametrize("later", [False, True], ids=["in one update", "in a later one"])
def test_a_missing_link_is_guessed_recorded_and_undone(
    any_world: World, scripted_bank: ScriptedPlaid, later: bool
) -> None:
    world = any_world
    first(world, scripted_bank, transaction("p1", 10, pending=True, date=day(2)), transaction("other", 55, date=day(2)))
    annotate(world, "p1", note="lunch", person_category="FUN")
    posted = transaction("t1", 12, date=day(), name="Shop p1 posted")
    if later:
        scripted_bank.answer(SYNC, page(removed=["p1"], cursor="c2"), page([posted], cursor="c3"))
        world.sync()
        assert row(world, "p1")["replaced_by"] is None
    else:
        scripted_bank.answer(SYNC, page([posted], removed=["p1"], cursor="c2"))
    world.sync()
    assert (row(world, "t1")["note"], row(world, "t1")["person_category"]) == ("lunch", "FUN")
    assert row(world, "p1")["replaced_by"] == "t1"
    assert [line["change"] for line in world.history("t1")] == ["added", "posted"]
    told = world.history("t1")[1]
    assert (told["source"], told["old"], told["new"]["guessed"]) == ("matcher", {"transaction_id": "p1"}, True)
    assert flags(world, "posted_by_guess") == {"t1": ["posted_by_guess"]}
    assert world.row()["transactions"] == 2

    world.deps.store.call("posting_undo", id=row(world, "t1")["id"], correlation="c-undo")
    assert (row(world, "t1")["note"], row(world, "p1")["note"], row(world, "p1")["replaced_by"]) == (
        None,
        "lunch",
        None,
    )
    assert flags(world, "posted_by_guess") == {}
    # What was undone is not guessed again.
    assert postings.guess(world.deps, world.item, None, "c") == 0
    assert world.history("t1")[-1]["source"] == "person"


def test_a_note_that_was_changed_since_stays(world: World, scripted_bank: ScriptedPlaid) -> None:
    first(world, scripted_bank, transaction("p1", 10, pending=True, date=day(2)))
    annotate(world, "p1", note="lunch")
    scripted_bank.answer(SYNC, page([transaction("t1", 10, date=day())], removed=["p1"], cursor="c2"))
    world.sync()
    annotate(world, "t1", note="dinner")
    world.deps.store.call("posting_undo", id=row(world, "t1")["id"], correlation="c-undo")
    assert (row(world, "t1")["note"], row(world, "p1")["note"]) == ("dinner", "lunch")


@pytest.mark.parametrize(
    "posted",
    [
        [transaction("t1", 10, account_id="acc-2", date=day())],
        [transaction("t1", -10, date=day())],
        [transaction("t1", 10, iso_currency_code="EUR", date=day())],
        [transaction("t1", 40, date=day())],
        [transaction("t1", 11, date=day(), name="Elsewhere", merchant_name="Elsewhere")],
        [transaction("t1", 10, date=day(20))],
        [transaction(f"t{n}", 10, date=day(), name=f"X{n}", merchant_name=f"X{n}") for n in range(2)],
    ],
    ids=["other account", "money in", "other currency", "other sum", "other shop", "long before", "two as good"],
)
def test_what_is_not_clear_is_not_guessed(world: World, scripted_bank: ScriptedPlaid, posted: list[Any]) -> None:
    first(world, scripted_bank, transaction("p1", 10, pending=True, date=day(2)))
    annotate(world, "p1", note="lunch")
    scripted_bank.answer(SYNC, page(posted, removed=["p1"], cursor="c2"))
    world.sync()
    assert world.rows("select * from syncdesk.posting_guesses") == []
    assert row(world, "p1")["note"] == "lunch"


def test_what_the_bank_says_later_takes_the_place_of_a_guess(world: World, scripted_bank: ScriptedPlaid) -> None:
    first(world, scripted_bank, transaction("p1", 10, pending=True, date=day(3)))
    annotate(world, "p1", note="lunch")
    scripted_bank.answer(SYNC, page([transaction("wrong", 10, date=day(1))], removed=["p1"], cursor="c2"))
    world.sync()
    assert row(world, "wrong")["note"] == "lunch"
    scripted_bank.answer(SYNC, page([transaction("right", 10, date=day(), pending_transaction_id="p1")], cursor="c3"))
    world.sync()
    assert (row(world, "wrong")["note"], row(world, "right")["note"]) == (None, "lunch")
    assert row(world, "p1")["replaced_by"] == "right"
    assert flags(world, "posted_by_guess") == {}


def test_a_pending_row_that_comes_back_takes_its_note_along(world: World, scripted_bank: ScriptedPlaid) -> None:
    pending = transaction("p1", 10, pending=True, date=day(3))
    first(world, scripted_bank, pending)
    annotate(world, "p1", note="lunch")
    scripted_bank.answer(SYNC, page([transaction("t1", 10, date=day(1))], removed=["p1"], cursor="c2"))
    world.sync()
    scripted_bank.answer(SYNC, page([pending], cursor="c3"))
    world.sync()
    assert (row(world, "t1")["note"], row(world, "p1")["note"], row(world, "p1")["removed_at"]) == (None, "lunch", None)


def test_a_pending_row_that_never_posts_is_flagged_and_stays(world: World, scripted_bank: ScriptedPlaid) -> None:
    first(
        world,
        scripted_bank,
        transaction("old", pending=True, date=day(15)),
        transaction("young", pending=True, date=day(13)),
    )
    assert flags(world) == {"young": [], "old": ["never_posted"]}
    assert flags(world, "never_posted") == {"old": ["never_posted"]}
    assert sorted(world.live()) == ["old", "young"]
    # It posts after all.
    scripted_bank.answer(
        SYNC, page([transaction("t1", date=day(), pending_transaction_id="old")], removed=["old"], cursor="c2")
    )
    world.sync()
    assert flags(world, "never_posted") == {}


def test_history_tells_any_moment(any_world: World, scripted_bank: ScriptedPlaid) -> None:
    world = any_world
    first(world, scripted_bank, transaction("t1", 10))
    annotate(world, "t1", note="a")
    scripted_bank.answer(SYNC, page(modified=[transaction("t1", 11)], cursor="c2"))
    world.sync()
    annotate(world, "t1", note=None, person_category="FUN")
    scripted_bank.answer(SYNC, page(removed=["t1"], cursor="c3"))
    world.sync()
    number = row(world, "t1")["id"]
    get = world.deps.store.call
    whole = get("transaction_get", id=number, as_of=None)
    changes = [line["change"] for line in whole["history"]]
    assert changes == ["added", "noted", "modified", "noted", "categorised", "removed"]
    assert [line["source"] for line in whole["history"]] == ["run", "person", "run", "person", "person", "run"]
    assert all(line["correlation_id"] and line["at"] for line in whole["history"])
    assert (whole["state"]["amount"], whole["state"]["removed"]) == ("11", True)
    seen = []
    for line in whole["history"]:
        then = get("transaction_get", id=number, as_of=line["at"])["state"]
        seen.append((then["amount"], then.get("note"), then.get("person_category"), then.get("removed", False)))
    # Changes within one millisecond are one moment.
    assert (seen[0][0], seen[-1]) == ("10", ("11", None, "FUN", True))
    assert ("11", "a", None, False) in seen or ("10", "a", None, False) in seen
    before = get("transaction_get", id=number, as_of="2020-01-01T00:00:00Z")
    assert (before["state"], before["history"]) == (None, [])


def test_one_purchase_under_two_links_is_shown_and_never_merged(world: World, scripted_bank: ScriptedPlaid) -> None:
    today = day()
    first(world, scripted_bank, transaction("t1", 10, date=today), transaction("t2", 20, date=today))
    other = World(world.deps, world.database_url).link()
    scripted_bank.answer(SYNC, page([transaction("u1", 10, date=today, name="Shop t1")], cursor="d1"))
    assert other.run("link").added == 1
    assert flags(world) == {"u1": ["maybe_twice"], "t2": [], "t1": ["maybe_twice"]}
    assert sorted(flags(world, "maybe_twice")) == ["t1", "u1"]
    assert (world.row()["transactions"], other.row()["transactions"]) == (2, 1)
