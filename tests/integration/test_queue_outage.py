"""The broker is away for longer than a lease, and comes back with what it had: who lives keeps its jobs.

What else goes wrong between two calls: an answer that got lost, a call said twice, a clock that is set back.
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

from engine.errors import StoreRefused
from engine.host.valkey import Valkey
from engine.queue import View, scripts
from engine.queue.consumer import Consumer
from engine.queue.jobs import Outcome, Taken
from engine.store import Transport
from tests.integration.test_jobs import USER, item, run
from tests.integration.test_jobs_process import Processes, hint, starts, tell
from tests.support import servers
from tests.support.queue import Bench, bench
from tests.support.queue import settings as queue_settings
from tests.support.queue_steps import QUEUE, pass_time, put, settle, take
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


def test_who_died_during_an_outage_is_noticed_a_lease_after_it(world: Bench) -> None:
    """The grace is given once: it does not begin anew with each look."""
    put(world, "a")
    take(world, worker="dead", lease_ms=1000)
    world.client.hincrby(world.keys.limits, f"{QUEUE}:clock", -10_000)
    world.client.zincrby(world.keys.running(QUEUE), -10_000, "a")
    assert take(world, worker="w2", lease_ms=1000) == []
    assert until(lambda: take(world, worker="w2", lease_ms=1000))[0].id == "a"


def test_a_renewal_after_an_outage_saves_the_leases_of_the_others(world: Bench) -> None:
    put(world, "a")
    put(world, "b")
    take(world, worker="w1")
    take(world, worker="w2")
    world.client.hincrby(world.keys.limits, f"{QUEUE}:clock", -10_000)
    for job_id in ("a", "b"):
        world.client.zincrby(world.keys.running(QUEUE), -10_000, job_id)
    assert scripts.run(world.client, world.keys, "renew", QUEUE, "w1", 5000, "a") == []
    assert take(world, worker="w3") == []
    assert scripts.run(world.client, world.keys, "renew", QUEUE, "w2", 5000, "b") == []


def test_workers_whose_threads_are_all_busy_are_no_outage(world: Bench) -> None:
    """Nobody takes for long; but their renewals are looks as well, so a dead one's lease still runs out."""
    put(world, "a")
    put(world, "b")
    take(world, worker="busy")
    take(world, worker="dead")
    for _ in range(3):
        for name, by in ((world.keys.running(QUEUE), "zset"), (world.keys.limits, "hash")):
            if by == "zset":
                world.client.zincrby(name, -2000, "b")
            else:
                world.client.hincrby(name, f"{QUEUE}:clock", -2000)
        scripts.run(world.client, world.keys, "renew", QUEUE, "busy", 5000, "a")
    assert [job.id for job in take(world, worker="w3")] == ["b"]


def test_a_job_whose_worker_never_heard_of_it_comes_back_uncounted(world: Bench) -> None:
    put(world, "known")
    put(world, "lost")
    take(world, 2)

    def renew() -> Any:
        return scripts.run(world.client, world.keys, "renew", QUEUE, "w1", 60_000, "known")

    assert renew() == []
    assert world.state("lost") == "running"  # the answer may be on its way
    assert scripts.run(world.client, world.keys, "renew", QUEUE, "w2", 60_000) == []  # no matter of another's
    assert renew() == []
    assert world.state("lost") == "waiting"
    found = View(world.client, world.keys).job("lost")
    assert found is not None
    assert [entry["error"]["code"] for entry in found["timeline"]] == ["NOT_HEARD"]
    assert world.fields("lost")["lost"] == "0"
    (job,) = take(world)
    assert (job.id, job.start) == ("lost", 2)
    renew()
    assert world.state("lost") == "running"  # each start is given its time
    assert settle(world, job)[0] == 1


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


def test_a_rate_is_not_held_for_longer_by_a_clock_that_is_set_back(world: Bench) -> None:
    world.client.hset(world.keys.limits, f"{QUEUE}:per_minute", "2")
    for name in ("a", "b", "c"):
        put(world, name)
    assert len(take(world, 3)) == 2
    hour = 3_600_000  # what is stored is from a clock that was an hour ahead
    for member in ("a:1", "b:1"):
        world.client.zincrby(f"{world.keys.prefix}rate:{QUEUE}", hour, member)
    world.client.hincrby(world.keys.limits, f"{QUEUE}:clock", hour)
    _, wait, rows = scripts.run(world.client, world.keys, "take", QUEUE, "w1", 5000, 1)
    assert rows == []
    assert 0 < wait <= 60_000


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


def _state(world: Bench, job_id: str) -> str | None:
    try:
        return world.state(job_id)
    except (redis.RedisError, OSError):
        return None


def test_a_job_that_is_said_twice_is_queued_once(world: Bench) -> None:
    """A client whose first answer got lost says it again with the same id."""
    for _ in range(2):
        assert put(world, "a") == "new"
        assert put(world, "b", key="t:1") == "new"
    assert sorted(job.id for job in take(world, 5)) == ["a", "b"]
    assert put(world, "b", key="t:1") == "new"
    assert "again" not in world.fields("b")


def test_a_start_of_a_job_that_follows_at_once_in_another_thread_keeps_its_lease(world: Bench) -> None:
    mine = world.broker(threads=2)
    first, second = Consumer(mine, QUEUE), Consumer(mine, QUEUE)
    put(world, "a")
    first._fetch()
    one = first._ready.popleft()
    real = first._persist

    def told_and_taken_anew(*args: Any) -> Any:
        answer = real(*args)
        second._fetch()
        return answer

    first._persist = told_and_taken_anew  # type: ignore[method-assign]
    one.outcome = Outcome("retry", counts=False)
    mine.quiet.set()  # the job comes again to the other thread, not with this one's end
    first.ack(one)
    (two,) = second._ready
    assert two.job.start == 2
    assert mine.held == {"a": two}


@pytest.mark.parametrize("error", [KeyError("name"), StoreRefused("No.", sqlstate="23514")])
def test_a_failure_that_cannot_be_recorded_is_asked_again_and_keeps_nothing(world: Bench, error: Exception) -> None:
    mine = world.broker(threads=1, given=queue_settings(max_attempts=1))
    told: list[str] = []

    def record(job: Taken, outcome: Outcome) -> None:
        told.append(job.id)
        if len(told) == 1:
            raise error

    mine.options.record = record
    dramatiq.actor(lambda: 1 / 0, broker=mine, queue_name=QUEUE, actor_name="act", throws=ZeroDivisionError)
    put(world, "a")
    world.work(mine)
    until(lambda: told)
    until(lambda: world.state("a") == "retrying")
    until(lambda: mine.slots.free == 1 and not mine.held)
    pass_time(world, f"retrying:{QUEUE}")
    until(lambda: world.state("a") is None)
    assert told == ["a", "a"]


def test_a_failure_is_not_recorded_by_who_lost_the_job(world: Bench) -> None:
    mine = world.broker("w1", threads=1)
    told: list[str] = []
    mine.options.record = lambda job, outcome: told.append(job.id)
    consumer = Consumer(mine, QUEUE)
    put(world, "a")
    consumer._fetch()
    proxy = consumer._ready.popleft()
    world.client.zadd(world.keys.running(QUEUE), {"a": 1})
    (job,) = take(world, worker="w2")
    proxy.outcome = Outcome("failed", error='{"code":"X"}')
    consumer.ack(proxy)
    assert told == []
    settle(world, job, worker="w2")
    assert world.state("a") == "done"


def test_jobs_that_wait_know_when_they_are_due_after_the_clock_was_set_back(world: Bench) -> None:
    put(world, "later", delay=60_000)
    put(world, "a")
    settle(world, take(world)[0], "retry", delay=60_000)
    hour = 3_600_000
    for name, job_id in (("delayed", "later"), ("retrying", "a")):  # stored by a clock that was an hour ahead
        world.client.zincrby(f"{world.keys.prefix}{name}:{QUEUE}", hour, job_id)
        world.client.hincrby(world.keys.job(job_id), "due", hour)
    world.client.hincrby(world.keys.limits, f"{QUEUE}:clock", hour)
    assert take(world) == []
    for job_id in ("later", "a"):
        assert int(world.fields(job_id)["due"]) <= time.time() * 1000 + 61_000
