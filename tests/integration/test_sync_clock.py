"""Syncs after a clock that was ahead for a while: times in the future are not taken for fresh."""

from __future__ import annotations

import pytest

from engine.store import Transport
from tests.support.scripted_plaid import ScriptedPlaid, page, transaction
from tests.support.syncing import World, deps

HOUR_S = 3600


@pytest.mark.parametrize("moved", ["last_success_at", "wanted_at"])
def test_the_backup_sync_asks_again_for_what_a_clock_ahead_has_seen(
    moved: str, store: Transport, database_url: str
) -> None:
    bank = ScriptedPlaid()
    try:
        world = World(deps(store, bank.url), database_url).link()
        bank.answer("/transactions/sync", page([transaction("t1")]))
        world.run("link")
        assert _wanted(store) == []
        if moved == "wanted_at":
            world.execute("update syncdesk.items set wanted = done + 1, last_success_at = null")
        world.execute(f"update syncdesk.items set {moved} = clock_timestamp() + interval '1 hour'")
        assert _wanted(store) == [world.item]
    finally:
        bank.close()


def _wanted(store: Transport) -> list[str]:
    found = store.call("items_want_stale", age_s=HOUR_S, limit=10, correlation="c")
    return [hint["item_id"] for hint in found["hints"]]
