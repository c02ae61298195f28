"""Rows that the database or their reader refuse: set aside whole, seen, tried again, and ended by what comes later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.store import Transport
from engine.sync.set_aside import TriedAgain, try_again
from tests.conftest import BACKENDS
from tests.integration.test_sync_history import fold, normal, plain, stored
from tests.support.scripted_plaid import ScriptedPlaid, page, transaction
from tests.support.syncing import World, deps

pytestmark = pytest.mark.parametrize("any_backend", BACKENDS[:2], indirect=True)  # direct and rest

SYNC = "/transactions/sync"
HALF = "caf\ud83d"
RULES = """
    alter table syncdesk.transactions add constraint house_rule check (amount < 1000);
    create unique index house_number on syncdesk.transactions (item_id, check_number);
    create index house_price on syncdesk.transactions ((amount::numeric(6, 2)));
    create table syncdesk.house_merchants (id text primary key);
    insert into syncdesk.house_merchants values ('known');
    alter table syncdesk.transactions add constraint house_merchant
        foreign key (merchant_entity_id) references syncdesk.house_merchants (id);
"""
# What each kind of hostile row has, and what the reason says of it.
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "check": ({"amount": 5000}, "sqlstate 23514 house_rule"),
    "unique": ({"check_number": "taken"}, "sqlstate 23505 house_number"),
    "foreign": ({"merchant_entity_id": "nobody"}, "sqlstate 23503 house_merchant"),
    "overflow": ({"amount": -50000}, "sqlstate 22003"),
    "late": ({"datetime": "294999-01-01T00:00:00Z"}, "sqlstate 22008"),
    "nul": ({"name": "a\0b"}, "text with a NUL character"),
    "half": ({"merchant_name": HALF}, "lone surrogate"),
    "deep": ({"location": {"city": "x\0y"}}, "text with a NUL character"),
    "no amount": ({"amount": None}, "amount"),
    "no date": ({"date": "2026-02-30"}, "a date that is none"),
    "bad time": ({"datetime": "soonish"}, "sqlstate 22007"),
    "much money": ({"amount": "1E+400"}, "no sum of money"),
    "long key": ({"check_number": "".join(chr(0x4E00 + n * 7919 % 20000) for n in range(9000))}, "sqlstate 54000"),
}


@pytest.fixture
def world(any_store: Transport, any_database_url: str, scripted_bank: ScriptedPlaid) -> Iterator[World]:
    made = World(deps(any_store, scripted_bank.url), any_database_url).link()
    made.execute(RULES)
    scripted_bank.answer(SYNC, page([transaction("first", check_number="taken")], cursor="c0"))
    made.run("link")
    yield made
    made.deps.plaid.close()


def hostile(identity: str, kind: str) -> dict[str, Any]:
    return transaction(identity, **HOSTILE[kind][0])


def sent(*pages: dict[str, Any]) -> list[Any]:
    """Pages as the bank sends them: amounts given as text are numbers of that many digits."""
    return [(200, json.dumps(one).replace('"1E+400"', "1E+400").encode(), {}) for one in pages]


def open_rows(world: World) -> dict[str, dict[str, Any]]:
    listed = world.deps.store.call("set_aside_list", item=world.item, after=None, limit=500)
    found = {row["transaction_id"]: row for row in listed["rows"]}
    assert listed["total"] == len(listed["rows"]) == len(found)
    return found


def check_counts(world: World) -> None:
    """The item's own count, and the history of each row, tell what is there."""
    assert world.row()["transactions"] == len(world.live())
    rows = stored(world)
    told = normal(world, {identity: fold(world.history(identity)) for identity in rows})
    assert {identity: plain(row) for identity, row in told.items()} == {
        identity: plain(row) for identity, row in rows.items()
    }


def test_a_row_is_kept_whole_with_its_reason(world: World, scripted_bank: ScriptedPlaid) -> None:
    rows = {kind: hostile(kind, kind) for kind in HOSTILE}
    scripted_bank.answer(SYNC, *sent(page([*rows.values(), transaction("good")])))
    result = world.sync()
    assert sorted(world.live()) == ["first", "good"]
    assert (result.added, result.skipped) == (1, len(HOSTILE))
    found = open_rows(world)
    for kind, (_, words) in HOSTILE.items():
        assert words in found[kind]["reason"]
        assert "taken" not in found[kind]["reason"]
        assert "nobody" not in found[kind]["reason"]
    raws = {row["transaction_id"]: row["raw"] for row in world.rows("select * from syncdesk.skipped_rows")}
    for kind in ("nul", "half", "deep", "no date"):
        assert json.loads(raws[kind]) == rows[kind]
    assert '"amount":1E+400' in raws["much money"]
    check_counts(world)


def test_tried_again_one_or_all(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer(SYNC, *sent(page([hostile(kind, kind) for kind in ("check", "unique", "foreign", "nul")])))
    world.sync()
    store, found = world.deps.store, open_rows(world)
    assert try_again(store, world.item, [found["check"]["id"]], correlation="c") == TriedAgain(0, 1, 0)
    assert open_rows(world)["check"]["tries"] == 1
    world.execute("alter table syncdesk.transactions drop constraint house_rule")
    world.execute("drop index syncdesk.house_number")
    assert try_again(store, world.item, [found["check"]["id"]], correlation="c") == TriedAgain(1, 0, 0)
    assert try_again(store, world.item, [found["check"]["id"]], correlation="c") == TriedAgain(0, 0, 0)
    assert store.call("set_aside_retry", id=int(found["check"]["id"]), body="{}", reason=None, correlation="c") == {
        "status": "gone"
    }
    assert try_again(store, world.item, None, correlation="c") == TriedAgain(1, 2, 0)
    assert set(open_rows(world)) == {"foreign", "nul"}
    assert sorted(world.live()) == ["check", "first", "unique"]
    assert world.live()["check"]["amount"] == Decimal(5000)
    check_counts(world)


def test_what_comes_later_ends_the_entry(world: World, scripted_bank: ScriptedPlaid) -> None:
    kept = transaction("unchanged")
    scripted_bank.answer(
        SYNC, *sent(page([kept, *(hostile(one, "check") for one in ("good later", "gone", "bad again"))]))
    )
    world.sync()
    scripted_bank.answer(SYNC, *sent(page(modified=[hostile("unchanged", "nul")], cursor="c2")))
    world.sync()
    assert set(open_rows(world)) == {"good later", "gone", "bad again", "unchanged"}
    before = open_rows(world)["bad again"]
    rows = [transaction("good later"), hostile("bad again", "foreign"), kept]
    scripted_bank.answer(SYNC, *sent(page(modified=rows, removed=["gone"], cursor="c3")))
    world.sync()
    (left,) = open_rows(world).values()
    assert left["transaction_id"] == "bad again"
    assert left["id"] != before["id"]
    assert "house_merchant" in left["reason"]
    check_counts(world)


def test_a_run_that_gives_up_ends_nothing_and_shows_nothing(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.answer(SYNC, *sent(page([hostile("a", "check")])))
    world.sync()
    before = open_rows(world)
    scripted_bank.answer(SYNC, *sent(page([hostile("b", "check"), transaction("a")], cursor="c2", more=True)))
    scripted_bank.answer(SYNC, (500, b"{}", {}))
    with pytest.raises(Exception, match=r"."):
        world.sync()
    assert open_rows(world) == before


PAGES = st.lists(st.lists(st.sampled_from(["good", "good", *HOSTILE]), max_size=5), min_size=1, max_size=3)


@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batches=PAGES, first=st.booleans())
def test_hostile_pages_end_with_good_rows_in_and_bad_ones_set_aside(
    any_store: Transport, any_database_url: str, scripted_bank: ScriptedPlaid, batches: list[list[str]], first: bool
) -> None:
    world = World(deps(any_store, scripted_bank.url), any_database_url).link()
    if not world.rows("select from pg_class where relname = 'house_merchants'"):
        world.execute(RULES)
    good, bad, cursor = {"first"}, {}, "c0"
    batches = [["first"], *batches] if first else batches
    if not first:
        scripted_bank.answer(SYNC, page([transaction("first", check_number="taken")], cursor=cursor))
        world.run("link")
    for number, kinds in enumerate(batches):
        rows, cursor = [], f"p{number}"
        for place, kind in enumerate(kinds):
            identity = f"{number}-{place}"
            if kind == "first":
                rows.append(transaction("first", check_number="taken"))
            elif kind == "good":
                good.add(identity)
                rows.append(transaction(identity))
            else:
                bad[identity] = HOSTILE[kind][1]
                rows.append(hostile(identity, kind))
        scripted_bank.answer(SYNC, *sent(page(rows, cursor=cursor, more=number + 1 < len(batches))))
    result = world.sync()
    assert (result.state, result.skipped) == ("done", len(bad))
    assert world.row()["cursor"] == cursor
    assert set(world.live()) == good
    found = open_rows(world)
    assert set(found) == set(bad)
    for identity, words in bad.items():
        assert words in found[identity]["reason"]
    check_counts(world)
    world.execute("delete from syncdesk.items where id = %s", world.item)
    world.deps.plaid.close()
