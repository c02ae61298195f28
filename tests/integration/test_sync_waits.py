"""A run that Plaid's limits make wait gives its thread back and is carried on later, from where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.jobs.actors import Parts, declare
from engine.queue import Hints, buckets
from engine.store import Transport
from tests.integration.test_bills_sync import add_bill, charge, tags
from tests.support.queue import Bench, bench
from tests.support.scripted_plaid import ScriptedPlaid, error, page, transaction
from tests.support.syncing import World, deps
from tests.support.wait import until

SYNC = "/transactions/sync"


@pytest.fixture
def world(store: Transport, database_url: str, scripted_bank: ScriptedPlaid) -> Iterator[World]:
    made = World(deps(store, scripted_bank.url), database_url).link()
    yield made
    made.deps.plaid.close()


@pytest.fixture
def queue(redis_url: str, namespace: str, store: Transport) -> Iterator[Bench]:
    with bench(redis_url, namespace, store) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


def calls_allowed(count: int) -> Callable[[str, float], float]:
    """A limiter with room for ``count`` calls, and none after."""
    left = [count]

    def limiter(name: str, per_minute: float) -> float:
        if name == "client":
            return 0.0
        left[0] -= 1
        return 0.0 if left[0] >= 0 else 1.2

    return limiter


def pages_of(count: int) -> Callable[[dict[str, Any]], Any]:
    def answer(body: dict[str, Any]) -> Any:
        number = int((body.get("cursor") or "c0")[1:]) + 1
        return page([transaction(f"t{number:03}")], cursor=f"c{number}", more=number < count)

    return answer


def test_a_run_waits_without_a_thread_and_keeps_its_pages(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.handlers[SYNC] = pages_of(7)
    world.deps.limiter = calls_allowed(3)
    first = world.run("link")
    assert (first.state, first.pages) == ("waiting", 3)
    assert first.wait_s >= 6
    assert world.live() == {}
    shown = world.deps.store.call("item_get", item=world.item)["item"]
    assert (shown["state"], shown["progress"]) == ("syncing", 3)
    world.deps.store.call("sync_sweep")
    world.want()
    world.deps.limiter = calls_allowed(3)
    second = world.run()
    assert (second.state, second.pages, second.run_id) == ("waiting", 6, first.run_id)
    world.deps.limiter = calls_allowed(3)
    third = world.run()
    assert (third.state, third.pages, third.added, third.wanted_more) == ("done", 7, 7, True)
    # Every page was asked for once.
    assert scripted_bank.cursors() == [None, "c1", "c2", "c3", "c4", "c5", "c6"]
    assert len(world.live()) == 7
    assert [row["state"] for row in world.rows("select state from syncdesk.sync_runs")] == ["done"]


def test_data_that_changes_while_a_run_waits_starts_the_pagination_anew(
    world: World, scripted_bank: ScriptedPlaid
) -> None:
    scripted_bank.handlers[SYNC] = pages_of(4)
    world.deps.limiter = calls_allowed(2)
    assert world.run("link").state == "waiting"
    world.deps.limiter = None
    scripted_bank.answer(SYNC, error("TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION", "TRANSACTIONS_ERROR"))
    assert world.run("link").added == 4
    assert scripted_bank.cursors() == [None, "c1", "c2", None, "c1", "c2", "c3"]


def test_a_run_that_may_not_even_begin_waits_too(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.handlers[SYNC] = pages_of(2)
    world.deps.limiter = calls_allowed(0)
    assert world.run("link").state == "waiting"
    world.deps.limiter = None
    assert world.run("link").added == 2


def test_a_run_killed_after_it_was_carried_on_begins_anew(world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.handlers[SYNC] = pages_of(4)
    world.deps.limiter = calls_allowed(2)
    assert world.run("link").state == "waiting"

    def killed() -> None:
        raise KeyboardInterrupt

    world.deps.limiter = lambda name, per_minute: killed()  # type: ignore[func-returns-value, assignment, return-value]
    with pytest.raises(KeyboardInterrupt):
        world.run("link")
    world.execute("update syncdesk.item_leases set expires_at = now() - interval '1 second'")
    world.deps.limiter = None
    assert world.run("link").added == 4
    assert [line["change"] for line in world.history("t001")] == ["added"]


def test_long_first_syncs_leave_the_threads_to_a_webhook(
    world: World, scripted_bank: ScriptedPlaid, queue: Bench, store: Transport
) -> None:
    answer = pages_of(1)

    def by_token(body: dict[str, Any]) -> Any:
        return answer(body) if body["access_token"] == "access-small" else pages_of(1000)(body)

    scripted_bank.handlers[SYNC] = by_token
    world.deps.limiter = lambda name, per_minute: buckets.take(queue.client, queue.keys, name, per_minute)
    hints = Hints(queue.client, queue.keys)
    broker = queue.broker(threads=2)
    declare(broker, Parts(store=store, sync=lambda: world.deps), {"transactions"})
    queue.work(broker)
    for n in range(4):
        big = World(world.deps, world.database_url).link(token=f"access-{n}")
        hints.sync(big.item, big.user, "Bank", "high", "link", "c")
    until(lambda: len(world.rows("select from syncdesk.sync_runs where pages >= 5")) == 4)
    small = World(world.deps, world.database_url).link(token="access-small")
    hints.sync(small.item, small.user, "Bank", "high", "webhook", "c")
    until(small.live)  # a long one takes minutes
    # Each of the long ones goes on from where it stopped.
    until(lambda: len(world.rows("select from syncdesk.sync_runs where pages >= 8")) == 4)
    assert world.rows("select from syncdesk.sync_runs where state = 'abandoned'") == []


def test_rows_from_before_the_wait_are_matched_too(world: World, scripted_bank: ScriptedPlaid) -> None:
    add_bill(world)
    scripted_bank.answer(SYNC, page([charge("t1")], cursor="c1", more=True), page([transaction("t2")], cursor="c2"))
    world.deps.limiter = calls_allowed(1)
    assert world.run("link").state == "waiting"
    world.deps.limiter = None
    assert world.run("link").state == "done"
    assert tags(world) == {"t1": "auto"}


class Ending:
    """A store whose process ends right after the commit."""

    def __init__(self, store: Transport) -> None:
        self._store, self._over = store, False

    def call(self, name: str, /, **params: Any) -> Any:
        if self._over:
            raise KeyboardInterrupt
        answer = self._store.call(name, **params)
        self._over = name == "sync_commit" and answer["status"] == "ok"
        return answer


def test_the_matching_that_a_killed_run_owed_is_done_by_the_sweep(
    world: World, scripted_bank: ScriptedPlaid, store: Transport
) -> None:
    from engine.sync.rematch import rematch_due

    def meanwhile(_: dict[str, Any]) -> Any:
        add = World(deps(store, scripted_bank.url), world.database_url)
        add_bill(add)
        add.deps.plaid.close()
        return page([charge("t1")], cursor="c1")

    scripted_bank.answer(SYNC, meanwhile)
    world.deps.store = Ending(store)
    with pytest.raises(KeyboardInterrupt):
        world.run("link")
    world.deps.store = store
    assert (list(world.live()), tags(world)) == (["t1"], {})
    assert rematch_due(store, correlation="c") == 1
    assert tags(world) == {"t1": "auto"}
    assert rematch_due(store, correlation="c") == 0
