"""Jobs on real Postgres and Valkey: the reconciler, limits, wishes, statistics, notices, log lines."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from engine.jobs import actors
from engine.jobs.heart import HUNG_S, Heart
from engine.jobs.pace import Later
from engine.queue import Control, Hints, Reconciler, View
from engine.store import Transport
from tests.support.jobs import USER, actor, failed, hint, item, login_required, run
from tests.support.queue import Bench, bench
from tests.support.wait import until


@pytest.fixture
def world(redis_url: str, namespace: str, store: Transport, database_url: str) -> Iterator[Bench]:
    run(database_url, "insert into syncdesk.users (id, name) values (%s, 'Ana')", USER)
    with bench(redis_url, namespace, store) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


@pytest.mark.brokers
def test_the_reconciler_puts_back_what_is_unfinished_and_nothing_else(
    world: Bench, store: Transport, database_url: str
) -> None:
    wanted, finished, paused, removed, leased = (item(database_url) for _ in range(5))
    run(database_url, "update syncdesk.items set done = wanted where id = %s", finished)
    run(database_url, "update syncdesk.items set paused_at = now() where id = %s", paused)
    run(database_url, "update syncdesk.items set removed_at = now() where id = %s", removed)
    run(
        database_url,
        "insert into syncdesk.item_leases values (%s, 'o', 1, gen_random_uuid(), now() + interval '1 minute')",
        leased,
    )
    run(
        database_url,
        "insert into syncdesk.inbox (body, body_sha256, correlation_id, state) values ('{}', 'x', 'c', 'received'),"
        " ('{}', 'y', 'c', 'processed')",
    )
    run(database_url, "insert into syncdesk.outbox (kind, sent_at) values ('x', null), ('x', now())")
    run(database_url, "update syncdesk.users set weight = 3")
    reconciler = Reconciler(store, world.client, world.keys, {"transactions:concurrency": "5"})
    for _ in range(2):
        assert reconciler.run_once() == 3
    view = View(world.client, world.keys)
    assert [job["item_id"] for job in view.jobs("waiting", "transactions")["jobs"]] == [wanted]
    assert len(view.jobs("waiting", "webhooks")["jobs"]) == 1
    assert len(view.jobs("waiting", "notifications")["jobs"]) == 1
    assert view.queues()[0]["concurrency"] == 5
    assert world.client.hgetall(world.keys.weights) == {USER: "3"}


def test_the_reconciler_pages_through_many(world: Bench, store: Transport, database_url: str) -> None:
    run(
        database_url,
        "insert into syncdesk.outbox (kind) select 'x' from generate_series(1, 1203)",
    )
    assert Reconciler(store, world.client, world.keys).run_once() == 1203
    assert View(world.client, world.keys).queues()[2]["waiting"] == 1203


def test_a_failed_item_is_not_hinted_again_until_somebody_asks(
    world: Bench, store: Transport, database_url: str
) -> None:
    broker = world.broker()

    def fails(**_: Any) -> None:
        raise login_required()

    actor(broker, fails)
    world.work(broker)
    item_id = item(database_url)
    job_id = hint(world, item_id)
    until(lambda: failed(store, job_id))
    assert store.call("unfinished")["items"] == []
    run(database_url, "update syncdesk.items set wanted = wanted + 1, wanted_at = clock_timestamp()")
    assert [row["id"] for row in store.call("unfinished")["items"]] == [item_id]


@pytest.mark.brokers
def test_limits_survive_a_wipe(world: Bench, store: Transport) -> None:
    Control(world.client, world.keys, store).limit("transactions", 7, 60)
    Control(world.client, world.keys, store).pause("transactions")
    world.client.delete(world.keys.limits)
    Reconciler(store, world.client, world.keys, {"transactions:concurrency": "5"}).run_once()
    queue = View(world.client, world.keys).queues()[0]
    assert (queue["concurrency"], queue["per_minute"], queue["paused"]) == (7, 60, True)


def test_a_pause_does_not_freeze_the_limit_of_the_settings(world: Bench, store: Transport) -> None:
    Reconciler(store, world.client, world.keys, {"transactions:concurrency": "5"}).run_once()
    Control(world.client, world.keys, store).pause("transactions")
    Reconciler(store, world.client, world.keys, {"transactions:concurrency": "9"}).run_once()
    queue = View(world.client, world.keys).queues()[0]
    assert (queue["concurrency"], queue["paused"]) == (9, True)


@pytest.mark.brokers
def test_cancel_takes_the_wish_along(world: Bench, store: Transport, database_url: str) -> None:
    job_id = hint(world, item(database_url))
    assert Control(world.client, world.keys, store).cancel(job_id) is True
    assert store.call("unfinished")["items"] == []


@pytest.mark.brokers
def test_a_wish_raised_during_the_run_makes_one_more(world: Bench, store: Transport, database_url: str) -> None:
    broker = world.broker(threads=3)
    gate, runs = threading.Event(), []

    def slow(item_id: str, trigger: str, correlation: str) -> None:
        runs.append(trigger)
        gate.wait(20)

    actor(broker, slow)
    world.work(broker)
    item_id = item(database_url)
    hint(world, item_id)
    until(lambda: len(runs) == 1)
    for _ in range(5):
        hint(world, item_id, trigger="manual")
    gate.set()
    until(lambda: len(runs) == 2 and not broker.held)
    assert View(world.client, world.keys).queues()[0]["waiting"] == 0
    assert runs[0] == "webhook"


def test_statistics_and_charts(world: Bench, store: Transport, database_url: str) -> None:
    broker = world.broker()
    actor(broker, lambda **_: None)
    world.work(broker)
    items = [item(database_url) for _ in range(5)]
    for item_id in items:
        hint(world, item_id)
    until(lambda: world.client.llen(world.keys.done("transactions")) == 5)
    world.flush_stats()
    stats = store.call("queue_stats")
    assert (stats["transactions"]["done_24h"], stats["transactions"]["failed_24h"]) == (5, 0)
    assert sum(stats["transactions"]["last_hour"]) == 5
    assert stats["transactions"]["high_failure_rate"] is False
    for span, slots in (("1h", 60), ("24h", 48), ("7d", 84)):
        chart = store.call("job_chart", span=span)
        assert len(chart["slots"]) == slots
        assert sum(slot["done"] for slot in chart["slots"]) == 5
        assert [slot["known"] for slot in chart["slots"] if slot["done"]].count(False) == 0
        assert not chart["slots"][0]["known"]
    rows = run(database_url, "select done, run_hist from syncdesk.job_stats")
    assert len(rows) == 5
    assert all(sum(hist) == 1 for _, hist in rows)


def test_notices_are_delivered_once_in_words(world: Bench, store: Transport, database_url: str) -> None:
    broker = world.broker()
    told: list[tuple[str, str | None]] = []
    parts = actors.Parts(
        store=store, sync=lambda: pytest.fail("no bank is needed"), publish=lambda t, i: told.append((t, i))
    )
    actors.declare(broker, parts, {"notifications"})
    world.work(broker)
    outbox = store.call(
        "outbox_add", kind="transactions", payload={"added": 3, "tagged": 1, "institution": "First Bank"}
    )["id"]
    hints = Hints(world.client, world.keys)
    hints.notification(outbox, USER, "c")
    until(lambda: store.call("notices_list")["notices"])
    until(lambda: not broker.held)
    hints.notification(outbox, USER, "c")
    until(lambda: world.client.llen(world.keys.done("notifications")) == 2)
    (notice,) = store.call("notices_list")["notices"]
    assert (notice["title"], notice["sentence"]) == ("First Bank", "3 new transactions. One of them paid a bill.")
    assert len(told) == 1


@pytest.mark.brokers
def test_a_busy_bank_link_comes_again_and_leaves_no_trace(world: Bench, store: Transport, database_url: str) -> None:
    broker = world.broker()
    starts: list[int] = []

    def busy(item_id: str, trigger: str, correlation: str) -> None:
        starts.append(1)
        if len(starts) < 4:
            raise Later("Another run is under way.", 0.01)

    actor(broker, busy)
    world.work(broker)
    job_id = hint(world, item(database_url))
    until(lambda: world.state(job_id) == "done")
    found = View(world.client, world.keys).job(job_id)
    assert found is not None
    assert [entry["outcome"] for entry in found["timeline"]] == ["done"]
    assert len(starts) == 4


def test_the_lines_an_operator_looks_for(world: Bench, database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "syncdesk")
    broker = world.broker()
    starts: list[int] = []

    def once(item_id: str, trigger: str, correlation: str) -> None:
        starts.append(1)
        if len(starts) == 1:
            raise ValueError("4711")

    actor(broker, once)
    job_id = hint(world, item(database_url))
    world.work(broker)  # after the hint, whose line would else race with the worker's
    until(lambda: world.state(job_id) == "done")
    said = [record.getMessage() for record in caplog.records if record.name.startswith("syncdesk.")]
    words = [line for line in said if "transaction sync job" in line.lower()]
    assert words == [
        "📋 Queued transaction sync job",
        "🔄 Processing transaction sync job",
        "❌ Transaction sync job failed",
        "🔄 Processing transaction sync job",
        "✅ Transaction sync job completed",
    ]
    assert "4711" not in caplog.text


def test_a_bank_that_needs_its_person_is_told_once(world: Bench, store: Transport, database_url: str) -> None:
    broker = world.broker()

    def fails(**_: Any) -> None:
        raise login_required()

    actor(broker, fails)
    item_id = item(database_url)
    run(database_url, "update syncdesk.items set state = 'needs_you'")  # as the run did, with its own notice
    world.work(broker)
    job_id = hint(world, item_id)
    until(lambda: failed(store, job_id))
    assert run(database_url, "select kind from syncdesk.outbox") == []


@pytest.mark.brokers
def test_a_pool_whose_threads_all_hang_is_told_from_one_at_work(world: Bench, database_url: str) -> None:
    broker = world.broker(threads=2)
    over = threading.Event()
    actor(broker, lambda item_id, trigger, correlation: over.wait(30))
    world.work(broker)
    heart = Heart(broker, "sync", 10_000, lambda why: None, lambda: False)
    try:
        for _ in range(2):
            hint(world, item(database_url))
        until(lambda: len(broker.held) == 2)
        assert stalled(world, heart) == 0  # busy, as it should be
        first, second = broker.held.values()
        first.began -= HUNG_S + 1
        assert stalled(world, heart) == 0  # one long job
        second.began -= HUNG_S + 1
        assert stalled(world, heart) > HUNG_S
    finally:
        over.set()
    until(lambda: not broker.held)
    assert stalled(world, heart) < HUNG_S


def stalled(world: Bench, heart: Heart) -> float:
    heart._beat()
    (row,) = View(world.client, world.keys).workers()
    return float(row["stalled_s"])
