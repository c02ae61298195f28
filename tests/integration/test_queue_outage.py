"""The broker is away for longer than a lease, and comes back with what it had: who lives keeps its jobs.

What a broker that is away does to answers and to what it had just been told.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import dramatiq
import psutil
import pytest
import redis

from engine.errors import BrokerUnavailable
from engine.host.valkey import Valkey
from engine.queue import View, events
from engine.store import Transport
from tests.integration.test_jobs_process import Processes, hint, starts, tell
from tests.support import servers
from tests.support.jobs import USER, item, run
from tests.support.queue import Bench, bench
from tests.support.queue import settings as queue_settings
from tests.support.queue_steps import QUEUE, put
from tests.support.wait import until

LEASE_S = 4.0


@pytest.fixture
def broker() -> Iterator[Valkey]:
    with servers.broker(Valkey) as made:
        yield made


@pytest.fixture
def world(broker: Valkey, namespace: str, store: Transport, database_url: str) -> Iterator[Bench]:
    run(database_url, "insert into syncdesk.users (id, name) values (%s, 'Ana')", USER)
    with bench(broker.url, namespace, store) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


@pytest.fixture
def processes(broker: Valkey, namespace: str, database_url: str, world: Bench) -> Iterator[Processes]:
    made = Processes(broker.url, namespace, database_url)
    yield made
    made.close()


def process_of(broker: Valkey) -> psutil.Process:
    assert broker.pid is not None
    return psutil.Process(broker.pid)


def leases_end(world: Bench) -> float:
    """When the last of the leases runs out (seconds since the epoch)."""
    found: Any = world.client.zrange(world.keys.running(QUEUE), 0, -1, withscores=True)
    return max(score for _, score in found) / 1000


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
@pytest.mark.parametrize("kind", ["stopped", "killed"])
def test_an_outage_longer_than_the_leases_takes_no_job_from_who_lives(
    world: Bench, broker: Valkey, processes: Processes, database_url: str, kind: str
) -> None:
    lease = {"SYNCDESK_LEASE_S": str(LEASE_S)}
    alive, dies = processes.start(**lease), processes.start(**lease)
    jobs = {item_id: hint(world, item_id, "hang") for item_id in (item(database_url) for _ in range(4))}
    until(lambda: len(starts(world)) == 4)
    processes.start(**lease)  # it has free threads, and looks for jobs every second
    held = {item_id: world.fields(job_id)["worker"] for item_id, job_id in jobs.items()}
    of_dead = {item_id for item_id, worker in held.items() if f":{dies.pid}:" in worker}
    assert len(of_dead) == 2
    until(lambda: len(View(world.client, world.keys).workers()) == 3)

    server, end = process_of(broker), leases_end(world)
    server.suspend()
    if kind == "killed":
        server.kill()
        server.wait(10)
    dies.kill()
    dies.wait(10)
    until(lambda: time.time() > end + LEASE_S / 4, what="the end of all leases")
    if kind == "killed":
        broker.stop()
        broker.start()
    else:
        server.resume()

    # The dead one's jobs are noticed, and only they.
    again = until(lambda: starts(world)[4:] if len(starts(world)) >= 6 else None)
    assert {entry.split()[1] for entry in again} == of_dead
    for item_id in jobs:
        tell(world, item_id, "")
    for item_id, job_id in jobs.items():
        until(lambda job_id=job_id: world.state(job_id) == "done")
        assert world.fields(job_id)["lost"] == ("1" if item_id in of_dead else "0")
    assert len(starts(world)) == 6
    assert f" {alive.pid} " not in " ".join(again)
    assert run(database_url, "select count(*) from syncdesk.failed_jobs") == [(0,)]


def test_a_take_that_the_broker_carries_out_after_its_client_gave_up_strands_nothing(
    world: Bench, broker: Valkey
) -> None:
    mine = world.broker(threads=1, given=queue_settings(lease_s=8.0))
    limits = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
    mine.client.connection_pool.connection_kwargs.update(limits)
    ran: list[str] = []
    dramatiq.actor(lambda: ran.append("x"), broker=mine, queue_name=QUEUE, actor_name="act")
    worker = world.work(mine)
    (consumer,) = (thread.consumer for thread in worker.consumers.values() if thread.consumer is not None)
    until(lambda: mine.looked)
    put(world, "a", delay=1000)
    due = time.time() + 1
    server = process_of(broker)
    server.suspend()
    until(lambda: time.time() > due and consumer._failures >= 2, what="takes that were given up")  # type: ignore[attr-defined]
    server.resume()
    until(lambda: world.state("a") == "done")
    assert ran == ["x"]
    assert world.fields("a")["lost"] == "0"


def test_what_redis_lost_is_looked_up_by_a_worker_that_is_always_busy(world: Bench, broker: Valkey) -> None:
    asked: list[int] = []
    mine = world.broker(threads=1, wiped=lambda: asked.append(1))

    def act() -> None:
        server = process_of(broker)
        server.kill()
        server.wait(10)
        broker.stop()
        broker.start()

    dramatiq.actor(act, broker=mine, queue_name=QUEUE, actor_name="act")
    put(world, "a")
    world.work(mine)
    until(lambda: _state(world, "a") == "done", 40)
    until(lambda: asked)


def test_who_listens_is_not_told_so_before_the_broker_heard_it(world: Bench, broker: Valkey) -> None:
    server = process_of(broker)
    server.suspend()
    try:
        with pytest.raises(BrokerUnavailable):
            next(events.subscribe(world.client, world.keys, idle_s=0.05, ticks=True))
    finally:
        server.resume()


def test_a_lost_subscription_is_said_though_the_client_makes_a_new_one(world: Bench) -> None:
    stream = events.subscribe(world.client, world.keys, idle_s=0.05, ticks=True)
    assert next(stream) == {}
    world.client.client_kill_filter(_type="pubsub")
    with pytest.raises(BrokerUnavailable):
        until(lambda: next(stream) and None, what="an end")


def _state(world: Bench, job_id: str) -> str | None:
    try:
        return world.state(job_id)
    except (redis.RedisError, OSError):
        return None
