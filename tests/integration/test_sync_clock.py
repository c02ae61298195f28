"""Syncs after a clock that was ahead for a while: times in the future are not taken for fresh."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from engine.store import Transport
from tests.support.scripted_plaid import ScriptedPlaid, page, transaction
from tests.support.syncing import World, deps
from tests.support.wait import until

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


@pytest.fixture
def linked(store: Transport, database_url: str) -> Iterator[World]:
    bank = ScriptedPlaid()
    world = World(deps(store, bank.url), database_url).link()
    bank.answer("/transactions/sync", page([transaction("t1")]))
    yield world
    world.deps.plaid.close()
    bank.close()


def test_a_lease_of_a_clock_that_was_ahead_holds_nobody_up(linked: World) -> None:
    call = linked.deps.store.call
    claim = {"item": linked.item, "job": "j", "trigger": "link", "correlation": "c", "lease_ms": 60_000}
    assert call("sync_claim", run=str(uuid.uuid4()), owner="dead/1", **claim)["status"] == "claimed"
    assert call("sync_claim", run=str(uuid.uuid4()), owner="other/1", **claim)["status"] == "busy"
    assert call("unfinished")["items"] == []
    linked.execute("update syncdesk.item_leases set expires_at = expires_at + interval '1 hour'")
    assert [item["id"] for item in call("unfinished")["items"]] == [linked.item]
    assert linked.run("link").state == "done"


def test_a_scheduler_that_died_ahead_of_time_is_followed_at_once(linked: World) -> None:
    call = linked.deps.store.call
    assert call("named_lease_claim", name="scheduler", owner="dead", ttl_s=60)["held"]
    assert not call("named_lease_claim", name="scheduler", owner="next", ttl_s=60)["held"]
    linked.execute("update syncdesk.named_leases set expires_at = expires_at + interval '1 hour'")
    assert call("named_lease_claim", name="scheduler", owner="next", ttl_s=60)["held"]


def test_looks_that_were_put_off_by_a_clock_ahead_are_due(linked: World) -> None:
    call = linked.deps.store.call
    linked.run("link")
    due = {"base_s": 900, "limit": 10, "correlation": "c"}
    linked.execute("update syncdesk.items set quick_until = clock_timestamp() + interval '1 hour'")
    assert call("items_want_due", **due)["hints"] == []  # no hour of looks every few seconds
    linked.execute("update syncdesk.items set last_attempt_at = clock_timestamp() + interval '1 hour'")
    assert len(call("items_want_due", **due)["hints"]) == 1
    soon = "update syncdesk.items set state = 'needs_you', next_probe_at = clock_timestamp() + interval "
    linked.execute(soon + "'23 hours'")
    assert call("items_probe", limit=10)["items"] == []
    linked.execute(soon + "'25 hours'")
    assert call("items_probe", limit=10)["items"] == [linked.item]


def test_an_alarm_that_calmed_down_in_the_future_ends(linked: World) -> None:
    call = linked.deps.store.call
    alarm = "insert into syncdesk.queue_alarms (queue, since, calm_since) values ('webhooks', now(), now() + interval "
    linked.execute(alarm + "'-1 minute')")
    assert call("failing_look")["changes"] == []
    linked.execute("update syncdesk.queue_alarms set calm_since = now() + interval '1 hour'")
    assert [change["high"] for change in call("failing_look")["changes"]] == [False]


def test_a_pace_owed_to_a_clock_ahead_is_forgiven(linked: World) -> None:
    room = "select syncdesk.bulk_room('transactions', 20) as room"
    linked.execute("insert into syncdesk.bulk_pace values ('transactions', clock_timestamp() + interval '1 hour')")
    linked.rows(room)
    until(lambda: linked.rows(room)[0]["room"] > 0, what="a second to pass")
