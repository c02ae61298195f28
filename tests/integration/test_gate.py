"""Work waits while the database is away, read-only or full: one alarm, no attempt, and a new start by itself."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest

from engine.errors import StoreReadOnly, StoreUnavailable
from engine.host.postgres import Postgres
from engine.jobs.gate import Gate
from engine.jobs.heart import Heart
from engine.jobs.worker import WorkerProcess
from engine.queue.gate import Shut, read, write
from engine.queue.keys import Keys
from engine.settings import Settings
from engine.store import Transport
from engine.store.direct import Direct
from tests.support import api as support
from tests.support import stopped
from tests.support.jobs import USER, hint, item, run
from tests.support.queue import Bench, bench
from tests.support.wait import until

ALARM, END = "Work waits for the database", "The database takes work again"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with stopped.server() as made:
        run(made.url, "insert into syncdesk.users (id, name) values (%s, 'Ana')", USER)
        yield made


@pytest.fixture
def world(redis_url: str, namespace: str) -> Iterator[Bench]:
    with bench(redis_url, namespace) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


@contextlib.contextmanager
def workers(world: Bench, url: str, number: int = 2) -> Iterator[list[WorkerProcess]]:
    """Worker processes in threads of this one, whose jobs write one row each."""
    with contextlib.ExitStack() as ends:
        made = []
        for _ in range(number):
            store = Direct(url)
            ends.callback(store.close)
            settings = Settings(
                redis_url=world.url,
                redis_namespace=world.keys.namespace,
                database_url=url,
                worker_memory_mb=65536,
                keep_done=1000,  # the reconciler brings other tests' items too
            )
            process = WorkerProcess("sync", settings, None, store)
            _declare(process, store)
            thread = threading.Thread(target=process.run)
            thread.start()
            ends.callback(thread.join, 30)
            ends.callback(process.stop)
            made.append(process)
        yield made


def _declare(process: WorkerProcess, store: Transport) -> None:
    def sync_item(item_id: str, trigger: str, correlation: str) -> None:
        store.call("audit_add", who="test", action="ran", target=item_id)

    dramatiq.actor(actor_name="sync_item", queue_name="transactions", broker=process.broker, throws=BaseException)(
        sync_item
    )


def all_shut(made: list[WorkerProcess]) -> bool:
    return all(process.broker.shut.is_set() for process in made)


def nobody_shut(made: list[WorkerProcess]) -> bool:
    return not any(process.broker.shut.is_set() for process in made)


def said(caplog: pytest.LogCaptureFixture, words: str) -> list[Any]:
    return [record for record in caplog.records if record.getMessage() == words]


@contextlib.contextmanager
def read_only(server: Postgres) -> Iterator[None]:
    stopped.read_only(server.url, True)
    try:
        yield
    finally:
        stopped.read_only(server.url, False)


@contextlib.contextmanager
def away(server: Postgres) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@pytest.mark.parametrize(("trouble", "code"), [(read_only, "DATABASE_READ_ONLY"), (away, "DATABASE_UNAVAILABLE")])
def test_one_alarm_no_attempts_and_work_starts_again(
    world: Bench, server: Postgres, caplog: pytest.LogCaptureFixture, trouble: Any, code: str
) -> None:
    caplog.set_level("INFO", "syncdesk")
    items = [item(server.url) for _ in range(6)]
    with workers(world, server.url) as made:
        with trouble(server):
            jobs = [hint(world, one) for one in items]
            until(lambda: all_shut(made), what="both workers to take nothing")
            found = read(world.client, world.keys)
            assert found is not None
            assert found.code == code
            until(lambda: all(world.state(job) in ("waiting", "retrying") for job in jobs))
            for job in jobs:  # neither an attempt nor a start in the ledger
                assert world.fields(job).get("tries", "0") == "0"
                assert world.fields(job).get("starts", "0") == "0"
            asked = world.keys.gate + ":asked"
            for _ in range(2):  # the alarm is not said again at every question
                until(lambda: not world.client.exists(asked))
                until(lambda: world.client.exists(asked))
        until(lambda: nobody_shut(made), what="the gate to open")
        until(lambda: all(world.state(job) == "done" for job in jobs), what="the jobs")
    assert read(world.client, world.keys) is None
    for one in items:
        ran = run(server.url, "select count(*) from syncdesk.audit where action = 'ran' and target = %s", one)
        assert ran == [(1,)]
    assert [record.levelname for record in said(caplog, ALARM)] == ["ERROR"]
    assert len(said(caplog, END)) == 1
    assert {record.getMessage() for record in caplog.records if record.levelno > logging.INFO} == {ALARM, END}
    assert len(said(caplog, "Unfinished work could not be looked up")) <= 2  # once a process


def test_a_full_disk_shuts_it_until_there_is_room(world: Bench) -> None:
    with stopped.small_disk() as disk:
        run(disk.url, "insert into syncdesk.users (id, name) values (%s, 'Ana')", USER)
        with workers(world, disk.url, 1) as made:
            disk.fill(leave=1_000_000)
            assert made[0]._gate.met(StoreUnavailable("The database does not answer."))
            found = read(world.client, world.keys)
            assert found is not None
            assert found.code == "DATABASE_FULL"
            job = hint(world, item(disk.url))
            disk.free()
            until(lambda: world.state(job) == "done")


def test_trouble_of_one_call_shuts_nothing(world: Bench, server: Postgres) -> None:
    with workers(world, server.url, 1) as made:
        gate = made[0]._gate
        for error in (
            StoreUnavailable("The database does not answer.", sqlstate="40P01"),
            StoreUnavailable("The database does not answer."),  # it was away, and is there when asked
            StoreReadOnly("The database takes no writes."),
            ValueError("something else"),
        ):
            assert not gate.met(error)
        assert nobody_shut(made)
        assert read(world.client, world.keys) is None


def test_a_gate_that_a_dead_worker_left_shut_is_opened(world: Bench, server: Postgres) -> None:
    write(world.client, world.keys, Shut("DATABASE_FULL", "2026-01-01T00:00:00.000Z"), 3600)
    job = hint(world, item(server.url))
    with workers(world, server.url, 1):
        until(lambda: read(world.client, world.keys) is None)
        until(lambda: world.state(job) == "done")


def test_a_clock_that_was_ahead_does_not_keep_it_shut(world: Bench, server: Postgres) -> None:
    write(world.client, world.keys, Shut("STORE_READ_ONLY", "2026-01-01T00:00:00.000Z"), 3600)
    world.client.set(world.keys.gate + ":asked", "w1", px=3_600_000)
    with workers(world, server.url, 1):
        until(lambda: read(world.client, world.keys) is None, 20, "the gate to open")


def test_a_gate_that_nobody_asks_about_is_forgotten(world: Bench) -> None:
    write(world.client, world.keys, Shut("DATABASE_FULL", "2026-01-01T00:00:00.000Z"), 0.01)
    until(lambda: read(world.client, world.keys) is None)


def test_a_worker_that_waits_for_the_database_is_alive(world: Bench, server: Postgres) -> None:
    broker = world.broker()
    broker.looked["transactions"] = -1000.0
    heart = Heart(broker, "sync", 65536, lambda _: None, lambda: False)
    assert heart._stalled_s() > 100
    broker.shut.set()
    assert heart._stalled_s() == 0.0
    store = Direct(server.url)
    Gate(broker, store)._open()
    store.close()
    assert heart._stalled_s() == 0.0  # no consumer was to look meanwhile


def test_a_worker_that_died_while_the_clock_was_ahead_is_not_shown_until_then(world: Bench) -> None:
    broker = world.broker()
    ahead = int(world.client.time()[0]) * 1000 + 3_600_000
    world.client.zadd(world.keys.workers, {"dead/1": ahead})
    Heart(broker, "sync", 65536, lambda _: None, lambda: False)._beat()
    assert world.client.zrange(world.keys.workers, 0, -1) == [broker.options.worker_id]


@pytest.mark.parametrize("code", ["DATABASE_READ_ONLY", "DATABASE_FULL"])
def test_the_first_page_and_health_tell_it_until_it_ends(
    database_url: str, redis_url: str, namespace: str, tmp_path: Path, code: str
) -> None:
    with support.running(tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url) as api:
        client, keys = api.parts.client, Keys(namespace)
        write(client, keys, Shut(code, "2026-01-01T00:00:00.000Z"), 3600)
        page = api.call("GET", "overview").json()
        assert page["causes"][0]["code"] == code
        assert "go on by themselves" in page["causes"][0]["sentence"]
        (service,) = [row for row in page["services"] if row["name"] == "database"]
        assert service["state"] == "error"
        assert page["engine"]["state"] == "degraded"
        checks = {check["name"]: check for check in api.health.get("/health").json()["checks"]}
        assert not checks["database"]["ok"]
        assert f'syncdesk_database_gate_shut{{code="{code}"}} 1.0' in api.health.get("/metrics").text
        client.delete(keys.gate)
        assert code not in {cause["code"] for cause in api.call("GET", "overview").json()["causes"]}
        checks = {check["name"]: check for check in api.health.get("/health").json()["checks"]}
        assert checks["database"]["ok"]
        assert f'syncdesk_database_gate_shut{{code="{code}"}} 0.0' in api.health.get("/metrics").text
