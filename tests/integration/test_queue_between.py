"""What goes wrong between two calls of the queue: an answer that got lost, a call said twice, a clock that is set back,
a start that somebody else has by now. On every kind of broker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest

from engine.errors import StoreRefused
from engine.queue import View, scripts
from engine.queue.consumer import Consumer
from engine.queue.jobs import Outcome, Taken
from tests.support.queue import Bench, bench
from tests.support.queue_steps import LEASE_MS, QUEUE, pass_time, put, settle, take
from tests.support.wait import until

pytestmark = pytest.mark.brokers


@pytest.fixture
def world(redis_url: str, namespace: str) -> Iterator[Bench]:
    with bench(redis_url, namespace) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


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
    world.client.hincrby(world.keys.limits, f"{QUEUE}:clock", -2 * LEASE_MS)
    for job_id in ("a", "b"):
        world.client.zincrby(world.keys.running(QUEUE), -2 * LEASE_MS, job_id)
    assert scripts.run(world.client, world.keys, "renew", QUEUE, "w1", LEASE_MS, "a") == []
    assert take(world, worker="w3") == []
    assert scripts.run(world.client, world.keys, "renew", QUEUE, "w2", LEASE_MS, "b") == []


def test_workers_whose_threads_are_all_busy_are_no_outage(world: Bench) -> None:
    """Nobody takes for long; but their renewals are looks as well, so a dead one's lease still runs out."""
    lease = 10 * LEASE_MS  # a look that comes late on a slow machine is no silence of half a lease
    put(world, "a")
    put(world, "b")
    take(world, worker="busy", lease_ms=lease)
    take(world, worker="dead", lease_ms=lease)
    for _ in range(3):
        world.client.zincrby(world.keys.running(QUEUE), -0.4 * lease, "b")
        world.client.hincrby(world.keys.limits, f"{QUEUE}:clock", -4 * LEASE_MS)
        scripts.run(world.client, world.keys, "renew", QUEUE, "busy", lease, "a")
    assert [job.id for job in take(world, worker="w3", lease_ms=lease)] == ["b"]


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
    mine = world.broker(threads=1)
    told: list[str] = []

    def record(job: Taken, outcome: Outcome) -> None:
        told.append(job.id)
        if len(told) == 1:
            raise error

    mine.options.record = record
    dramatiq.actor(lambda: 1 / 0, broker=mine, queue_name=QUEUE, actor_name="act")
    put(world, "a")
    world.work(mine)
    until(lambda: told)
    until(lambda: world.state("a") == "retrying")
    until(lambda: mine.slots.free == 1 and not mine.held)
    pass_time(world, f"retrying:{QUEUE}")
    until(lambda: told == ["a", "a"] and world.state("a") is None)
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
