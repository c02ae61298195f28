"""Hints on a real broker: one waiting job of a target, and how far apart the runs of one are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.queue import Hints, View
from tests.support.queue import Bench, bench
from tests.support.queue_steps import pass_time, put, settle, take

pytestmark = pytest.mark.brokers


@pytest.fixture
def world(redis_url: str, namespace: str) -> Iterator[Bench]:
    with bench(redis_url, namespace) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


def test_a_better_lane_does_not_wait_for_a_job_that_is_put_off(world: Bench) -> None:
    put(world, "a", "medium", key="t:1", delay=3_600_000)
    assert put(world, "b", "medium", key="t:1") == "delayed"
    assert take(world) == []
    world.client.hset(world.keys.job("a"), mapping={"trigger": "schedule", "correlation": "old"})
    assert put(world, "c", "high", key="t:1") == "delayed"
    (job,) = take(world)
    assert (job.id, job.lane, job.trigger, job.correlation) == ("a", "high", "test", "c1")


def test_a_better_lane_does_not_cut_a_retrys_wait_short(world: Bench) -> None:
    put(world, "a", "medium", key="t:1")
    settle(world, take(world)[0], "retry", delay=3_600_000)
    put(world, "b", "high", key="t:1")
    assert take(world) == []


def test_one_target_has_one_waiting_job_whose_lane_may_rise(world: Bench) -> None:
    put(world, "other", "medium")
    assert put(world, "a", "low", key="t:1") == "new"
    assert put(world, "b", "high", key="t:1") == "waiting"
    assert [job.id for job in take(world, 3)] == ["a", "other"]


def test_hints_while_it_runs_make_exactly_one_more(world: Bench) -> None:
    put(world, "a", key="t:1")
    (job,) = take(world)
    assert [put(world, f"b{n}", "high", key="t:1") for n in range(3)] == ["running"] * 3
    settle(world, job)
    after = take(world, 5)
    assert [found.id for found in after] == ["next-a"]
    assert after[0].lane == "high"
    settle(world, after[0])
    assert take(world, 5) == []


def test_a_hint_that_meets_a_retrying_job_uses_it(world: Bench) -> None:
    put(world, "a", key="t:1")
    (job,) = take(world)
    settle(world, job, "retry", error='{"code":"X"}', delay=60_000)
    assert put(world, "b", "high", key="t:1") == "retrying"
    assert take(world) == []


def test_a_persons_hint_runs_a_retrying_job_now(world: Bench) -> None:
    hints = Hints(world.client, world.keys)
    job_id = hints.sync("11111111-1111-1111-1111-111111111111", "u1", "Bank", "medium", "schedule", "c")
    (job,) = take(world)
    settle(world, job, "retry", delay=60_000)
    assert hints.sync(job.item_id, "u1", "Bank", "high", "manual", "c2") == job_id
    assert [found.id for found in take(world)] == [job_id]


def test_a_hint_that_meets_a_job_about_to_be_recorded_as_failed_is_not_lost(world: Bench) -> None:
    put(world, "a", key="t:1")
    (job,) = take(world)
    settle(world, job, "final", error='{"code":"X"}')
    put(world, "b", key="t:1")
    settle(world, job, "failed")
    assert [found.id for found in take(world, 5)] == ["next-a"]


def test_two_runs_of_one_target_may_follow_at_once_and_further_ones_keep_their_distance(world: Bench) -> None:
    world.client.hset(world.keys.limits, "transactions:distance", "3600000")
    put(world, "a", key="t:1")
    (first,) = take(world, 5)
    put(world, "b", key="t:1")
    settle(world, first)
    (second,) = take(world, 5)
    assert second.id == "next-a"
    for n in range(5):
        assert put(world, f"c{n}", "high", key="t:1") == "running"
    settle(world, second)
    assert take(world, 5) == []
    assert world.state("next-next-a") == "delayed"
    (shown,) = View(world.client, world.keys).jobs("delayed")["jobs"]
    assert shown["due_at"] is not None
    assert shown["lane"] == "high"
    for n in range(5):  # one job of this target, however many ask, and none of them before its time
        assert put(world, f"d{n}", "high", key="t:1") == "delayed"
    assert take(world, 5) == []
    put(world, "other", key="t:2")
    assert [job.id for job in take(world, 5)] == ["other"]


def test_a_delay_by_distance_ends_by_itself(world: Bench) -> None:
    distance = 3_600_000
    world.client.hset(world.keys.limits, "transactions:distance", str(distance))
    for n in range(4):
        put(world, str(n), key="t:1")
        if n >= 2:
            due = int(world.fields(str(n))["due"])
            assert due - int(world.fields(str(n - 1))["started"]) == distance
            assert take(world, 5) == []
            pass_time(world, "delayed:transactions")
        (job,) = take(world, 5)
        assert job.id == str(n)
        settle(world, job)


def test_a_person_waits_for_no_distance(world: Bench) -> None:
    world.client.hset(world.keys.limits, "transactions:distance", "3600000")
    hints = Hints(world.client, world.keys)
    item_id = "11111111-1111-1111-1111-111111111111"
    for _ in range(2):
        hints.sync(item_id, "u1", "Bank", "high", "webhook", "c")
        settle(world, take(world)[0])
    waits = hints.sync(item_id, "u1", "Bank", "medium", "schedule", "c")
    assert hints.sync(item_id, "u1", "Bank", "high", "webhook", "c") == waits  # a better lane does not end it
    assert world.state(waits) == "delayed"
    assert hints.sync(item_id, "u1", "Bank", "high", "manual", "c") == waits
    (job,) = take(world)
    hints.sync(item_id, "u1", "Bank", "high", "manual", "c")  # nor for the end of the distance after the run
    settle(world, job)
    assert len(take(world)) == 1


def test_a_clock_set_back_makes_no_distance_longer(world: Bench) -> None:
    world.client.hset(world.keys.limits, "transactions:distance", "1000")
    world.client.set(world.keys.prefix + "pace:t:1", "9999999999999")
    put(world, "a", key="t:1")
    (shown,) = View(world.client, world.keys).jobs("delayed")["jobs"]
    seconds, micros = world.client.time()
    assert int(world.fields(shown["id"])["due"]) <= seconds * 1000 + micros // 1000 + 1000
