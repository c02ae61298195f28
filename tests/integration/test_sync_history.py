"""fold(history) equals the row, whatever the bank says in whatever order."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.store import Transport
from tests.support.scripted_plaid import ScriptedPlaid, page, transaction
from tests.support.syncing import World, deps

SYNC = "/transactions/sync"
IDS = [f"t{number}" for number in range(6)]

rows = st.builds(
    lambda identity, cents, name, merchant, pending, link, when: transaction(
        identity,
        float(Decimal(cents) / 100),
        name=name,
        merchant_name=merchant,
        pending=pending,
        pending_transaction_id=link if not pending and link != identity else None,
        datetime=when,
    ),
    st.sampled_from(IDS),
    st.integers(-100_000, 100_000),
    st.sampled_from(["Shop", "カフェ", "", 'O\'Brien \\ "x"']),
    st.sampled_from([None, "Merchant"]),
    st.booleans(),
    st.sampled_from([None, *IDS]),
    st.sampled_from([None, "2026-11-20T10:00:00Z", "2026-11-20T12:00:00+02:00"]),
)
syncs = st.lists(
    st.tuples(
        st.lists(rows, max_size=4),
        st.lists(rows, max_size=2),
        st.lists(st.sampled_from(IDS), max_size=2),
        st.sampled_from(["one page", "pages", "replay", "note", "undo"]),
    ),
    min_size=1,
    max_size=6,
)


def fold(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The state that a transaction's history tells."""
    state: dict[str, Any] = {}
    for line in lines:
        for name, value in (line["new"] or {}).items():
            if value is None:
                state.pop(name, None)
            else:
                state[name] = value
    return state


def stored(world: World) -> dict[str, dict[str, Any]]:
    """Every row of the item in the words of its history."""
    found = world.rows(
        "select t.transaction_id, syncdesk.bank_json(syncdesk.bank_row_of(t))"
        " || jsonb_strip_nulls(jsonb_build_object('note', t.note, 'replaced_by', t.replaced_by)) as body,"
        " t.removed_at is not null as removed from syncdesk.transactions t where item_id = %s",
        world.item,
    )
    return {row["transaction_id"]: {**row["body"], "removed": row["removed"]} for row in found}


def histories(world: World) -> dict[str, list[dict[str, Any]]]:
    """The item's history by transaction, oldest first."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in world.rows("select * from syncdesk.transaction_history where item_id = %s order by id", world.item):
        found[line["transaction_id"]].append(line)
    return found


def normal(world: World, states: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Folded states through the database's types, so that 12.50 and 12.5 or two zones are one."""
    found = world.rows(
        "select key, syncdesk.bank_json(jsonb_populate_record(null::syncdesk.bank_row, value)) as body"
        " from jsonb_each(%s::jsonb)",
        json.dumps(states),
    )
    bodies = {row["key"]: row["body"] for row in found}
    return {
        identity: {
            "extra": {},
            "name": "",
            "pending": False,
            **bodies[identity],
            **{name: state[name] for name in ("note", "replaced_by") if name in state},
            "removed": state.get("removed", False),
        }
        for identity, state in states.items()
    }


def plain(state: dict[str, Any]) -> dict[str, Any]:
    amount = Decimal(state["amount"]).normalize()
    return {**state, "amount": amount}


@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=syncs)
def test_fold_of_history_is_the_row(
    store: Transport, database_url: str, scripted_bank: ScriptedPlaid, steps: list[Any]
) -> None:
    world = World(deps(store, scripted_bank.url), database_url).link()
    for number, (added, modified, removed, how) in enumerate(steps):
        cursor = f"c{number}"
        if how == "pages":
            scripted_bank.answer(
                SYNC,
                page(added, cursor=cursor + "a", more=True),
                page(modified=modified, removed=removed, cursor=cursor),
            )
        elif how == "replay":
            world.execute("update syncdesk.items set cursor = null where id = %s", world.item)
            scripted_bank.answer(SYNC, page(added, cursor=cursor))
        else:
            scripted_bank.answer(SYNC, page(added, modified, removed, cursor=cursor))
        if how == "note":
            _annotate(world, f"note {number}")
        if how == "undo":
            _undo(world)
        assert world.sync().state == "done"
        rows_now, lines = stored(world), histories(world)
        told_now = normal(world, {identity: fold(lines[identity]) for identity in rows_now})
        for identity, row in rows_now.items():
            told = told_now[identity]
            # What moved over from a replaced row is told by the row it moved to.
            if "replaced_by" in row and "note" in row:
                told.setdefault("note", row["note"])
            assert plain(told) == plain(row), identity
        live = world.row()["transactions"]
        assert live == sum(not row["removed"] for row in rows_now.values())
    lines = histories(world)
    for identity, state in as_told(world).items():
        assert state == fold(lines[identity]), identity
    world.deps.plaid.close()


def as_told(world: World) -> dict[str, dict[str, Any]]:
    """What the API tells of each transaction."""
    found = world.rows("select id, transaction_id from syncdesk.transactions where item_id = %s", world.item)
    return {
        row["transaction_id"]: world.deps.store.call("transaction_get", id=row["id"], as_of=None)["state"]
        for row in found
    }


def _annotate(world: World, note: str) -> None:
    for row in world.live().values():
        world.deps.store.call("transaction_annotate", id=row["id"], changes={"note": note}, correlation="c")


def _undo(world: World) -> None:
    guessed = world.rows(
        "select t.id from syncdesk.posting_guesses g join syncdesk.transactions t"
        " on t.item_id = g.item_id and t.transaction_id = g.posted_id where g.undone_at is null and g.item_id = %s",
        world.item,
    )
    for row in guessed[:1]:
        world.deps.store.call("posting_undo", id=row["id"], correlation="c")
