"""Each end of a job counts once, whoever is killed meanwhile; queues that fail often are told once; /metrics."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from engine import logs
from engine.jobs.stats import Stats, rows
from engine.plaid.errors import plaid_error
from engine.queue import Hints, scripts
from engine.queue.broker import Broker
from engine.store import Transport
from tests.support.jobs import USER, actor, run
from tests.support.queue import Bench, bench, settings
from tests.support.wait import until

JOBS = 120


@pytest.fixture
def world(redis_url: str, namespace: str, store: Transport, database_url: str) -> Iterator[Bench]:
    run(database_url, "insert into syncdesk.users (id, name) values (%s, 'Ana')", USER)
    with bench(redis_url, namespace, store) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


def working(world: Bench) -> Broker:
    broker = world.broker(threads=4)
    actor(broker, lambda **_: None, "webhooks")
    world.work(broker)
    return broker


def put(world: Bench, numbers: range) -> None:
    hints = Hints(world.client, world.keys)
    for number in numbers:
        hints.webhook(number, USER, "c1")


def counted(url: str) -> tuple[int, int, int, int]:
    """Jobs in hours, minutes and totals, and entries of the histogram: all must say the same."""
    (row,) = run(
        url,
        "select (select coalesce(sum(done), 0) from syncdesk.job_stats),"
        " (select coalesce(sum(done), 0) from syncdesk.job_minutes),"
        " (select coalesce(sum(jobs), 0) from syncdesk.job_outcomes where outcome = 'done'),"
        " (select coalesce(sum(n), 0) from syncdesk.job_totals, unnest(wait_hist) n)",
    )
    return tuple(int(value) for value in row)  # type: ignore[return-value]


CARRIER = """
import sys, time
from engine.jobs.stats import Stats, rows
from engine.queue.connection import connect
from engine.queue.keys import Keys
from engine.settings import Settings
from engine.store import open_store
database, redis, namespace = sys.argv[1:]
store = open_store(Settings(database_url=database))
stats = Stats(store, connect(redis, "worker"), Keys(namespace))
stats.flush()
print("ready", flush=True)
while True:
    stats.flush()
"""


def test_each_end_counts_once_though_carriers_are_killed(
    world: Bench, database_url: str, redis_url: str, namespace: str
) -> None:
    working(world)
    for first in range(0, 6 * JOBS, JOBS):
        put(world, range(first, first + JOBS // 2))
        command = [sys.executable, "-c", CARRIER, database_url, redis_url, namespace]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as carrier:
            assert carrier.stdout is not None
            assert carrier.stdout.readline() == b"ready\n"
            put(world, range(first + JOBS // 2, first + JOBS))
            carrier.send_signal(signal.SIGKILL)
    until(lambda: idle(world))
    until(lambda: carried(world))
    assert counted(database_url) == (6 * JOBS,) * 4


def idle(world: Bench) -> bool:
    waiting, delayed, retrying, running, *_ = scripts.run(world.client, world.keys, "counts", "webhooks")
    return (waiting, delayed, retrying, running) == (0, 0, 0, 0)


def carried(world: Bench) -> bool:
    """Carry what is there, as any worker would; a batch that a dead one holds comes back after its time."""
    world.flush_stats()
    return not world.client.exists(world.keys.prefix + "stats", world.keys.prefix + "stats:batch")


def test_a_batch_that_is_in_the_database_already_is_not_added_again(
    world: Bench, store: Transport, database_url: str
) -> None:
    working(world)
    put(world, range(1, 11))
    until(lambda: world.client.llen(world.keys.prefix + "stats") == 10)
    # A worker that ends between the database's answer and its word to the queue.
    source, number, *lines = scripts.run(world.client, world.keys, "stats_take", "somewhere")
    assert store.call("job_stats_add", rows=rows(lines), source=source, number=int(number))["added"] is True
    scripts.run(world.client, world.keys, "stats_done", source, number, 0)
    put(world, range(11, 16))
    until(lambda: world.client.llen(world.keys.prefix + "stats") == 5)
    until(lambda: carried(world))
    assert counted(database_url) == (15,) * 4


def test_several_workers_carry_without_counting_twice(world: Bench, store: Transport, database_url: str) -> None:
    working(world)
    ended = threading.Event()

    def carry() -> None:
        stats = Stats(store, world.client, world.keys)
        while not ended.is_set():
            stats.flush()

    carriers = [threading.Thread(target=carry) for _ in range(4)]
    for carrier in carriers:
        carrier.start()
    put(world, range(1, 201))
    until(lambda: idle(world))
    ended.set()
    for carrier in carriers:
        carrier.join(20)
    until(lambda: carried(world))
    assert counted(database_url) == (200,) * 4


def test_failures_and_retries_by_kind_of_error(world: Bench, database_url: str) -> None:
    broker = world.broker(given=settings(max_attempts=2))

    def fails(**_: Any) -> None:
        raise plaid_error("SOMETHING_NEW", "API_ERROR", request_id="r1", http_status=400)

    actor(broker, fails, "webhooks")
    world.work(broker)
    put(world, range(1, 4))
    until(lambda: idle(world))
    until(lambda: carried(world))
    found = run(database_url, "select queue, outcome, class, jobs from syncdesk.job_outcomes order by 2")
    assert found == [("webhooks", "failed", "plaid", 3), ("webhooks", "retried", "plaid", 3)]


# ---------------------------------------------------------------- queues that fail often


def minutes(url: str, done: int, failed: int, ago: int = 0) -> None:
    run(url, "delete from syncdesk.job_minutes")
    run(
        url,
        "insert into syncdesk.job_minutes (minute, queue, done, failed)"
        " values (date_trunc('minute', now()) - make_interval(mins => %s), 'webhooks', %s, %s)",
        ago,
        done,
        failed,
    )


def look(store: Transport) -> list[bool]:
    return [change["high"] for change in store.call("failing_look")["changes"]]


def test_many_failures_are_told_once_and_their_end_once(any_store: Transport, any_database_url: str) -> None:
    minutes(any_database_url, done=9, failed=1)
    assert look(any_store) == []
    minutes(any_database_url, done=8, failed=2)
    assert look(any_store) == [True]
    for done, failed in ((8, 2), (17, 3), (8, 2), (19, 1), (8, 2), (17, 3)):  # to and fro: still the same trouble
        minutes(any_database_url, done, failed)
        assert look(any_store) == []
    assert list(any_store.call("failing")) == ["webhooks"]
    minutes(any_database_url, done=19, failed=1)
    assert look(any_store) == []
    run(any_database_url, "update syncdesk.queue_alarms set calm_since = now() - interval '4 minutes'")
    assert look(any_store) == []
    run(any_database_url, "update syncdesk.queue_alarms set calm_since = now() - interval '6 minutes'")
    assert look(any_store) == [False]
    assert look(any_store) == []
    assert any_store.call("failing") == {}
    kinds = run(any_database_url, "select kind, (payload ->> 'high')::boolean from syncdesk.outbox order by id")
    assert kinds == [("failure_rate", True), ("failure_rate", False)]


def test_an_alarm_ends_where_nothing_happens_any_more(store: Transport, database_url: str) -> None:
    minutes(database_url, done=0, failed=10)
    assert look(store) == [True]
    run(database_url, "delete from syncdesk.job_minutes")
    assert look(store) == []
    run(database_url, "update syncdesk.queue_alarms set calm_since = now() - interval '6 minutes'")
    assert look(store) == [False]


def test_of_all_who_look_at_once_one_is_told(store: Transport, database_url: str) -> None:
    minutes(database_url, done=0, failed=10)
    told: list[bool] = []
    gate = threading.Barrier(6)

    def one() -> None:
        gate.wait(20)
        told.extend(look(store))

    lookers = [threading.Thread(target=one) for _ in range(6)]
    for looker in lookers:
        looker.start()
    for looker in lookers:
        looker.join(20)
    assert told == [True]


def test_the_warning_comes_from_real_failures_once_over_all_workers(
    world: Bench, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = settings(max_attempts=1)
    for name in ("w1", "w2"):
        broker = world.broker(name, given=given)

        def fails(**_: Any) -> None:
            raise plaid_error("INVALID_FIELD", "INVALID_REQUEST", request_id="r1", http_status=400)

        actor(broker, fails, "webhooks")
        world.work(broker)
    with caplog.at_level("INFO", logger="syncdesk"):
        for batch in (range(1, 13), range(13, 25)):
            put(world, batch)
            until(lambda: idle(world))
            until(lambda: carried(world))
    lines = [record for record in caplog.records if record.msg == logs.HIGH_FAILURE_RATE]
    assert [record.levelname for record in lines] == ["WARNING"]
    assert lines[0].__dict__["facts"]["queue"] == "webhooks"
    assert lines[0].__dict__["facts"]["failed"] >= 10
    with psycopg.connect(database_url) as connection:
        told = connection.execute("select count(*) from syncdesk.outbox where kind = 'failure_rate'").fetchone()
    assert told == (1,)
