"""One run per item, whoever triggers it; a run that was killed leaves nothing and loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from engine.errors import Conflict, NotFound
from engine.store import Transport
from engine.sync.run import LostLease
from tests.support.scripted_plaid import ScriptedPlaid, page, transaction
from tests.support.syncing import World, deps
from tests.support.wait import until

SYNC = "/transactions/sync"


@pytest.fixture
def world(store: Transport, database_url: str, scripted_bank: ScriptedPlaid) -> Iterator[World]:
    made = World(deps(store, scripted_bank.url), database_url).link()
    yield made
    made.deps.plaid.close()


def test_a_second_run_is_busy_and_its_trigger_is_not_lost(world: World, scripted_bank: ScriptedPlaid) -> None:
    outcome: list[Any] = []

    def meanwhile(body: dict[str, Any]) -> Any:
        world.want()
        world.want()
        outcome.append(world.run("webhook", job_id="job-2").state)
        return page([transaction("t1")], cursor="c1")

    scripted_bank.answer(SYNC, meanwhile)
    first = world.run("link")
    assert outcome == ["busy"]
    assert first.state == "done"
    assert first.wanted_more
    scripted_bank.answer(SYNC, page([transaction("t2")], cursor="c2"))
    second = world.run()
    assert (second.state, second.wanted_more) == ("done", False)
    # Three triggers in all, and exactly one more run.
    assert world.run().state == "nothing"
    assert scripted_bank.cursors() == [None, "c1"]


def test_many_threads_on_one_item_run_it_one_at_a_time(world: World, scripted_bank: ScriptedPlaid) -> None:
    inside = threading.Semaphore(1)
    overlaps: list[int] = []
    number = iter(range(10_000))

    def answer(body: dict[str, Any]) -> Any:
        if not inside.acquire(blocking=False):
            overlaps.append(1)
            return page(cursor="bad")
        try:
            cursor = int((body.get("cursor") or "c0")[1:])
            return page([transaction(f"t{next(number)}")], cursor=f"c{cursor + 1}")
        finally:
            inside.release()

    scripted_bank.handlers[SYNC] = answer
    results: list[str] = []

    def work() -> None:
        for _ in range(5):
            world.want()
            results.append(world.run().state)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if world.row()["wanted"] > world.row()["done"]:
        results.append(world.run().state)
    assert overlaps == []
    assert set(results) <= {"done", "busy", "nothing"}
    done = results.count("done")
    assert world.row()["cursor"] == f"c{done}"
    assert len(world.live()) == done
    assert world.row()["wanted"] == world.row()["done"]


def test_a_lease_taken_over_voids_the_run_that_slept(world: World, scripted_bank: ScriptedPlaid) -> None:
    def slept(body: dict[str, Any]) -> Any:
        # As a process that was stopped for minutes: its lease ran out, and another worker took the item.
        world.execute("update syncdesk.item_leases set expires_at = now() - interval '1 second'")
        scripted_bank.answer(SYNC, page([transaction("t1")], cursor="other"))
        assert world.run("webhook", job_id="job-2").state == "done"
        return page([transaction("void")], cursor="mine")

    scripted_bank.answer(SYNC, slept)
    assert world.run("link").state == "stale"
    assert list(world.live()) == ["t1"]
    assert world.row()["cursor"] == "other"
    states = {row["job_id"]: row["state"] for row in world.rows("select * from syncdesk.sync_runs")}
    assert states == {"job-1": "abandoned", "job-2": "done"}


@pytest.mark.parametrize(
    "change",
    ["update syncdesk.items set cursor = 'of a backup'", "update syncdesk.item_leases set fence = fence + 1"],
    ids=["cursor", "fence"],
)
def test_a_commit_looks_at_cursor_and_fence_itself(world: World, scripted_bank: ScriptedPlaid, change: str) -> None:
    """Also where nobody marked its run as over."""

    def meanwhile(body: dict[str, Any]) -> Any:
        world.execute(change)
        return page([transaction("void")], cursor="mine")

    scripted_bank.answer(SYNC, meanwhile)
    assert world.run("link").state == "stale"
    assert list(world.live()) == []
    assert world.row()["cursor"] != "mine"


def test_a_lease_is_renewed_while_the_bank_is_slow(
    store: Transport, database_url: str, scripted_bank: ScriptedPlaid
) -> None:
    world = World(deps(store, scripted_bank.url, lease_s=1.0), database_url).link()
    expiries: set[Any] = set()

    def slow(body: dict[str, Any]) -> Any:
        def renewed() -> bool:
            expiries.add(world.rows("select expires_at from syncdesk.item_leases")[0]["expires_at"])
            return len(expiries) > 5

        until(renewed, 30)
        return page([transaction("t1")])

    scripted_bank.answer(SYNC, slow)
    assert world.run("link").state == "done"


def test_a_run_that_lost_its_lease_stops_between_pages(
    store: Transport, database_url: str, scripted_bank: ScriptedPlaid
) -> None:
    world = World(deps(store, scripted_bank.url, lease_s=1.0), database_url).link()

    def taken(body: dict[str, Any]) -> Any:
        world.execute("update syncdesk.item_leases set fence = fence + 1000")
        held = world.deps.leases._held
        until(lambda: all(lease.lost.is_set() for lease in list(held)), 30)
        return page([transaction("t2")], cursor="c2", more=True)

    scripted_bank.answer(SYNC, page([transaction("t1")], cursor="c1", more=True), taken)
    scripted_bank.handlers[SYNC] = lambda body: page([transaction("t3")], cursor="c3")
    with pytest.raises(LostLease):
        world.run("link")
    assert world.live() == {}
    assert world.rows("select * from syncdesk.stage") == []


def test_what_a_process_held_is_free_at_once(world: World, scripted_bank: ScriptedPlaid) -> None:
    def die(body: dict[str, Any]) -> Any:
        assert world.deps.store.call("leases_release", owner="test/1/")["released"] == 1
        return page([transaction("void")])

    scripted_bank.answer(SYNC, die)
    assert world.run("link").state == "stale"
    assert world.rows("select state from syncdesk.sync_runs")[0]["state"] == "abandoned"
    scripted_bank.answer(SYNC, page([transaction("t1")]))
    assert world.run().state == "done"


def test_paused_and_removed_items_do_not_run(world: World) -> None:
    call = world.deps.store.call
    call("item_pause", item=world.item, paused=True, by="me", correlation="c")
    assert world.run().state == "paused"
    with pytest.raises(Conflict, match="paused"):
        world.want()
    assert call("items_want", items=None, trigger="manual", correlation="c", lane="high")["hints"] == []
    hints = call("item_pause", item=world.item, paused=False, by="me", correlation="c")["hints"]
    assert [hint["item_id"] for hint in hints] == [world.item]
    call("item_remove", item=world.item, by="person", correlation="c")
    assert world.run().state == "removed"
    with pytest.raises(Conflict, match="removed"):
        world.want()
    with pytest.raises(NotFound):
        call("items_want", items=["00000000-0000-0000-0000-000000000000"], trigger="m", correlation="c", lane="high")


@pytest.mark.parametrize("moment", ["after_claim", "after_stage", "before_commit", "after_commit"])
def test_kill_nine_between_any_two_steps(world: World, scripted_bank: ScriptedPlaid, moment: str) -> None:
    """A worker process dies at each step; the next run ends with each row once."""
    scripted_bank.handlers[SYNC] = _three_pages
    program = "import sys\nfrom tests.integration.test_leases import doomed\ndoomed(*sys.argv[1:])\n"
    process = subprocess.run(
        [sys.executable, "-c", program, world.database_url, scripted_bank.url, world.item, moment],
        capture_output=True,
        timeout=60,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    if moment == "after_commit":
        assert world.run().state == "nothing"
    else:
        assert world.live() == {}
        assert world.row()["cursor"] is None
        # Its lease still stands; the host frees what a process that ended held.
        assert world.run().state == "busy"
        world.deps.store.call("leases_release", owner="doomed")
        assert world.run().state == "done"
    assert sorted(world.live()) == ["t1", "t2", "t3"]
    assert [line["change"] for line in world.history("t1")] == ["added"]
    world.deps.store.call("sync_sweep")
    assert world.rows("select * from syncdesk.stage") == []


def _three_pages(body: dict[str, Any]) -> Any:
    number = int((body.get("cursor") or "c0")[1:]) + 1
    return page([transaction(f"t{number}")], cursor=f"c{number}", more=number < 3)


def doomed(database_url: str, bank_url: str, item: str, moment: str) -> None:
    """Run in a process of its own: sync, and die at ``moment``."""
    from engine.store.direct import Direct
    from engine.sync.run import run_item

    class Killing(Direct):
        def call(self, name: str, /, **params: Any) -> Any:
            if moment == "before_commit" and name == "sync_commit":
                os.kill(os.getpid(), signal.SIGKILL)
            answer = super().call(name, **params)
            if name == {"after_claim": "sync_claim", "after_stage": "sync_stage", "after_commit": "sync_commit"}.get(
                moment
            ):
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

    made = deps(Killing(database_url), bank_url, owner="doomed/1", lease_s=300.0)
    run_item(made, item, job_id="job-doomed", trigger="link", correlation="corr-d")


def test_a_crash_of_the_database_empties_the_stage_and_the_commit_notices(
    world: World, scripted_bank: ScriptedPlaid
) -> None:
    def crashed(body: dict[str, Any]) -> Any:
        until(lambda: world.rows("select from syncdesk.stage"))  # the next page is asked for meanwhile
        world.execute("delete from syncdesk.stage")  # what recovery does to an unlogged table
        return page([transaction("t2")], cursor="c2")

    scripted_bank.answer(SYNC, page([transaction("t1")], cursor="c1", more=True), crashed)
    scripted_bank.handlers[SYNC] = lambda body: (
        page([transaction("t1")], cursor="c1", more=True)
        if "cursor" not in body
        else page([transaction("t2")], cursor="c2")
    )
    assert world.run("link").state == "done"
    assert sorted(world.live()) == ["t1", "t2"]
    assert scripted_bank.cursors() == [None, "c1", None, "c1"]
