"""Worker processes as the host starts them, and what happens when they are killed, stopped, told or starved."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from engine.errors import BrokerUnavailable
from engine.host.valkey import Valkey
from engine.jobs import exits
from engine.queue import Control, Hints, Reconciler, View
from engine.queue.identity import worker_prefix
from engine.store import Transport
from tests.support import servers
from tests.support.jobs import USER, failed, item, run
from tests.support.queue import Bench, bench
from tests.support.wait import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


SHORT = {"SYNCDESK_LEASE_S": "2"}
"""For whoever is to lose its lease."""
LONGER = {"SYNCDESK_LEASE_S": "6"}
"""For whoever then takes its job over, and keeps it on a machine that is busy."""
EXIT_S = 60
"""Only to end where a process hangs."""


class Processes:
    """Worker processes of one test. Nobody loses a lease unless told to have a short one."""

    def __init__(self, url: str, namespace: str, database_url: str) -> None:
        self._environment = {
            **os.environ,
            "REDIS_URL": url,
            "SYNCDESK_REDIS_NAMESPACE": namespace,
            "DATABASE_URL": database_url,
            "SYNCDESK_LEASE_S": "300",
            "SYNCDESK_BACKOFF_FIRST_S": "0.1",
            "SYNCDESK_SYNC_THREADS": "2",
        }
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, pool: str = "sync", **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.queue_process", pool],
            stdout=subprocess.PIPE,
            env={**self._environment, **environment},
        )
        self._running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
        return process

    def close(self) -> None:
        for process in self._running:
            process.kill()
            process.wait(EXIT_S)
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def world(redis_url: str, namespace: str, store: Transport, database_url: str) -> Iterator[Bench]:
    run(database_url, "insert into syncdesk.users (id, name) values (%s, 'Ana')", USER)
    with bench(redis_url, namespace, store) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


@pytest.fixture
def processes(redis_url: str, namespace: str, database_url: str, world: Bench) -> Iterator[Processes]:
    made = Processes(redis_url, namespace, database_url)
    yield made
    made.close()


def hint(world: Bench, item_id: str, mode: str = "") -> str:
    world.client.set(f"{world.keys.prefix}test:mode:{item_id}", mode)
    return Hints(world.client, world.keys).sync(item_id, USER, "First Bank", "high", "webhook", "c1")


def tell(world: Bench, item_id: str, mode: str) -> None:
    world.client.set(f"{world.keys.prefix}test:mode:{item_id}", mode)


def starts(world: Bench) -> list[str]:
    found: Any = world.client.lrange(world.keys.prefix + "test:starts", 0, -1)
    return [str(entry) for entry in found]


def effects(database_url: str) -> list[int]:
    return [int(row[0]) for row in run(database_url, "select transactions from syncdesk.items order by id")]


def test_a_killed_worker_loses_nothing(world: Bench, processes: Processes, database_url: str) -> None:
    victim = processes.start(**SHORT)
    item_id = item(database_url)
    job_id = hint(world, item_id, "hang")
    until(lambda: len(starts(world)) == 1)
    victim.kill()
    victim.wait(EXIT_S)
    processes.start(**LONGER)
    tell(world, item_id, "")
    until(lambda: world.state(job_id) == "done")  # by itself: the lease ran out
    assert effects(database_url) == [1]
    assert len(starts(world)) == 2
    assert world.fields(job_id)["o1"] == "lost"


def test_whoever_saw_it_end_frees_what_it_held_at_once(world: Bench, processes: Processes, database_url: str) -> None:
    victim = processes.start()
    item_id = item(database_url)
    job_id = hint(world, item_id, "hang")
    until(lambda: len(starts(world)) == 1)
    processes.start()
    victim.kill()
    victim.wait(EXIT_S)
    tell(world, item_id, "")
    assert Control(world.client, world.keys).free(worker_prefix(victim.pid)) == 1
    until(lambda: world.state(job_id) == "done")
    assert effects(database_url) == [1]


def test_a_job_that_kills_its_workers_is_set_aside_after_three(
    world: Bench, processes: Processes, store: Transport, database_url: str
) -> None:
    control = Control(world.client, world.keys)
    job_id = hint(world, item(database_url), "die")
    for n in (1, 2, 3):
        victim = processes.start()
        victim.wait(EXIT_S)
        assert len(starts(world)) == n
        control.free(worker_prefix(victim.pid))
    processes.start()
    found = until(lambda: failed(store, job_id))
    assert found["error"]["code"] == "POISON"
    assert len(found["timeline"]) == 3
    assert len(starts(world)) == 3


def test_a_worker_that_slept_through_its_lease_changes_nothing_when_it_wakes(
    world: Bench, processes: Processes, database_url: str
) -> None:
    sleeper = processes.start(**SHORT)
    item_id = item(database_url)
    job_id = hint(world, item_id, "hang")
    until(lambda: len(starts(world)) == 1)
    os.kill(sleeper.pid, signal.SIGSTOP)
    processes.start(**LONGER)
    until(lambda: len(starts(world)) == 2)
    tell(world, item_id, "")
    until(lambda: world.state(job_id) == "done")
    ended = world.fields(job_id)
    os.kill(sleeper.pid, signal.SIGCONT)
    other = item(database_url)
    for n in range(4):  # the woken one works on
        hint(world, item(database_url) if n else other)
    until(lambda: effects(database_url) == [1] * 5)
    assert world.fields(job_id) == ended


def test_stopping_hands_back_what_does_not_finish(world: Bench, processes: Processes, database_url: str) -> None:
    process = processes.start()
    item_id = item(database_url)
    job_id = hint(world, item_id, "hang")
    until(lambda: len(starts(world)) == 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(EXIT_S) == exits.STOPPED
    assert world.state(job_id) == "waiting"
    assert world.fields(job_id)["lost"] == "0"
    assert View(world.client, world.keys).workers() == []
    tell(world, item_id, "")
    processes.start()
    until(lambda: world.state(job_id) == "done")


def test_an_idle_worker_stops_at_once(world: Bench, processes: Processes) -> None:
    process = processes.start("events")
    until(lambda: View(world.client, world.keys).workers())
    process.send_signal(signal.SIGTERM)
    assert process.wait(EXIT_S) == exits.STOPPED


def test_too_much_memory_asks_for_a_replacement_after_the_job(
    world: Bench, processes: Processes, database_url: str
) -> None:
    process = processes.start(SYNCDESK_WORKER_MEMORY_MB="190")
    job_id = hint(world, item(database_url), "fat")
    assert process.wait(EXIT_S) == exits.REPLACE
    assert world.state(job_id) == "done"


def test_an_error_that_nobody_caught_ends_the_worker_in_order(
    world: Bench, processes: Processes, database_url: str
) -> None:
    process = processes.start()
    job_id = hint(world, item(database_url), "thread")
    assert process.wait(EXIT_S) == exits.CRASHED
    assert world.state(job_id) == "done"
    assert View(world.client, world.keys).workers() == []


def test_a_worker_reports_and_obeys(world: Bench, processes: Processes, database_url: str) -> None:
    process = processes.start()
    view, control = View(world.client, world.keys), Control(world.client, world.keys)
    item_id = item(database_url)
    job_id = hint(world, item_id, "hang")
    (worker,) = until(lambda: [found for found in view.workers() if found["jobs"]])
    assert (worker["pool"], worker["pid"], worker["threads"], worker["state"]) == ("sync", process.pid, 2, "running")
    assert worker["jobs"][0]["job_id"] == job_id
    assert worker["memory_mb"] > 10
    control.command("sync", "quiet")
    until(lambda: [found for found in view.workers() if found["state"] == "quiet"])
    tell(world, item_id, "")
    until(lambda: world.state(job_id) == "done")
    second = hint(world, item(database_url))
    until(lambda: [found for found in view.workers() if found["busy"] == 0])
    assert world.state(second) == "waiting"
    control.command("sync", "resume")
    until(lambda: world.state(second) == "done")
    control.command(worker["id"], "stop")
    assert process.wait(EXIT_S) == exits.STOPPED


def test_after_a_wipe_everything_unfinished_is_done(world: Bench, processes: Processes, database_url: str) -> None:
    items = [item(database_url) for _ in range(20)]
    for item_id in items:
        hint(world, item_id)
    for key in world.client.scan_iter(match=f"*{world.keys.namespace}*"):
        world.client.delete(key)
    processes.start()  # no epoch key: its first fetch sees it
    until(lambda: effects(database_url) == [1] * 20)


@pytest.fixture
def own_broker() -> Iterator[Valkey]:
    with servers.broker() as made:
        yield made


def test_redis_goes_away_and_comes_back_empty(
    own_broker: Valkey, namespace: str, store: Transport, database_url: str
) -> None:
    run(database_url, "insert into syncdesk.users (id, name) values (%s, 'Ana')", USER)
    processes = Processes(own_broker.url, namespace, database_url)
    with bench(own_broker.url, namespace, store) as world:
        world.client.set(world.keys.epoch, "1")
        process = processes.start()
        first = item(database_url)
        hint(world, first, "hang")
        until(lambda: len(starts(world)) == 1)
        pid = own_broker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        for _ in range(10):
            item(database_url)  # wished while there was no broker
        own_broker.stop()
        own_broker.start()
        until(lambda: _alive(world.client))
        world.client.flushall()
        until(lambda: effects(database_url) == [1] * 11, 40)
        assert process.poll() is None
        assert Reconciler(store, world.client, world.keys).run_once() == 0
        processes.close()


@pytest.mark.slow
def test_faults_at_random_lose_and_double_nothing(
    own_broker: Valkey, namespace: str, store: Transport, database_url: str
) -> None:
    """Three workers at 120 banks, while workers are killed and stopped, and the broker is killed and emptied."""
    run(database_url, "insert into syncdesk.users (id, name) values (%s, 'Ana')", USER)
    dice = random.Random(7)
    processes = Processes(own_broker.url, namespace, database_url)
    asleep: list[subprocess.Popen[bytes]] = []

    def kill(running: list[subprocess.Popen[bytes]]) -> None:
        victim = running.pop(dice.randrange(len(running)))
        victim.kill()
        victim.wait(EXIT_S)
        with contextlib.suppress(BrokerUnavailable):
            Control(world.client, world.keys).free(worker_prefix(victim.pid))
        running.append(processes.start(**SHORT))

    def sleep(running: list[subprocess.Popen[bytes]]) -> None:
        for process in asleep:
            process.send_signal(signal.SIGCONT)
        asleep[:] = [running[0]]
        running[0].send_signal(signal.SIGSTOP)

    def restart(_: list[subprocess.Popen[bytes]]) -> None:
        assert own_broker.pid is not None
        os.kill(own_broker.pid, signal.SIGKILL)
        own_broker.stop()
        own_broker.start()
        until(lambda: _alive(world.client))

    def empty(_: list[subprocess.Popen[bytes]]) -> None:
        world.client.flushall()

    with bench(own_broker.url, namespace, store) as world:
        running = [processes.start(**SHORT) for _ in range(3)]
        faults = [kill, sleep, restart, empty] * 2
        dice.shuffle(faults)
        try:
            for n in range(120):
                item_id = item(database_url)
                with contextlib.suppress(BrokerUnavailable):
                    hint(world, item_id)
                if n % 15 == 14:
                    faults.pop()(running)
            for process in asleep:
                process.send_signal(signal.SIGCONT)
            until(lambda: effects(database_url) == [1] * 120, 60)
            assert run(database_url, "select count(*) from syncdesk.failed_jobs") == [(0,)]
        finally:
            processes.close()


def _alive(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
