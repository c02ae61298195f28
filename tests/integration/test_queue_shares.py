"""Shares of a queue's concurrency: retries against first starts, and one partition against the others."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Literal

import pytest

from engine.queue import Control, View, scripts
from engine.queue.jobs import Taken
from engine.queue.limits import from_settings
from engine.settings import Settings
from tests.support.queue import Bench, bench
from tests.support.queue_steps import pass_time, put, settle, take

pytestmark = pytest.mark.brokers
QUEUE = "transactions"
RETRYING = f"retrying:{QUEUE}"


@pytest.fixture
def world(redis_url: str, namespace: str) -> Iterator[Bench]:
    with bench(redis_url, namespace) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


def storm(world: Bench, count: int) -> None:
    """So many retries that are all due now."""
    for n in range(count):
        put(world, f"r{n}", "high", user=f"u{n}")
    for job in take(world, count):
        settle(world, job, "retry", delay=3_600_000, error='{"code":"X"}')
    pass_time(world, RETRYING)


def retries(jobs: list[Taken]) -> int:
    return sum(job.id.startswith("r") for job in jobs)


# ---------------------------------------------------------------- retries


def test_while_first_starts_wait_retries_take_half(world: Bench) -> None:
    storm(world, 40)
    Control(world.client, world.keys).limit(QUEUE, 6, None)
    for n in range(40):
        put(world, f"f{n}", "low")
    running = take(world, 10)
    assert len(running) == 6
    for _ in range(15):
        assert retries(running) <= 3
        settle(world, running.pop(0))
        running += take(world, 10)
    assert retries(running) == 3  # nor are they starved


def test_alone_they_take_all_of_it_and_nobody_sleeps_through_that(world: Bench) -> None:
    storm(world, 12)
    Control(world.client, world.keys).limit(QUEUE, 5, None)
    started: list[Taken] = []
    while len(started) < 12:
        batch = take(world, 10)
        assert len(batch) == min(5, 12 - len(started))
        started += batch
        for job in batch:
            settle(world, job)
    assert world.client.exists(world.keys.prefix + f"again:{QUEUE}") == 0


def test_a_full_queue_does_not_make_free_threads_look_again_and_again(world: Bench) -> None:
    storm(world, 12)
    Control(world.client, world.keys).limit(QUEUE, 5, None)
    take(world, 5)
    _, wait, rows = scripts.run(world.client, world.keys, "take", QUEUE, "w2", 5000, 5)
    assert rows == []
    assert wait > 1000


def test_who_only_waited_for_plaids_limits_does_not_stand_behind_a_storm(world: Bench) -> None:
    put(world, "parked")
    settle(world, take(world)[0], "retry", counts=-1, delay=3_600_000)
    storm(world, 60)
    world.client.zadd(f"{world.keys.prefix}{RETRYING}", {"parked": 2})  # due, and later than all of them
    Control(world.client, world.keys).limit(QUEUE, 2, None)
    for n in range(3):
        put(world, f"f{n}", "high", user="u")
    take(world)
    assert world.state("parked") == "waiting"


def test_a_retry_that_is_gone_takes_no_share(world: Bench) -> None:
    storm(world, 4)
    Control(world.client, world.keys).limit(QUEUE, 2, None)
    world.client.sadd(world.keys.prefix + f"again:{QUEUE}", "long gone")
    put(world, "f")
    assert retries(take(world, 2)) == 1


def test_a_person_who_asks_is_not_held_up_by_the_storm(world: Bench) -> None:
    storm(world, 8)
    control = Control(world.client, world.keys)
    control.limit(QUEUE, 2, None)
    put(world, "f0")
    put(world, "f1")
    take(world, 2)
    assert control.run_now("r7")
    assert View(world.client, world.keys).jobs("waiting", QUEUE)["jobs"][0]["id"] == "r7"


# ---------------------------------------------------------------- partitions


def parted(world: Bench, mode: Literal["none", "user", "institution"], concurrency: int) -> None:
    given = from_settings(Settings(partition=mode, sync_concurrency=concurrency))
    world.client.hset(world.keys.limits, mapping=dict(given))


def test_a_user_holds_no_more_than_a_share_while_others_wait(world: Bench) -> None:
    parted(world, "user", 5)
    for n in range(10):
        put(world, f"big{n}", "high", user="big")
    assert len(take(world, 4)) == 4  # nobody else waits: no slot is left free for somebody who might come
    put(world, "small", "low", user="small")
    assert [job.id for job in take(world, 1)] == ["small"]


def test_a_bank_holds_no_more_than_a_share_whoever_its_users_are(world: Bench) -> None:
    parted(world, "institution", 5)
    for n in range(300):
        put(world, f"big{n}", "high", user=f"u{n % 30}", bank="Big|Bank")
    for n in range(3):
        put(world, f"small{n}", "high", user="u0", bank="Small")
    found = take(world, 5)
    assert Counter(job.institution for job in found) == {"Big|Bank": 3, "Small": 2}


@pytest.mark.parametrize(("concurrency", "share"), [(1, 1), (2, 1), (4, 2), (5, 3), (10, 6)])
def test_the_share_is_three_fifths_and_at_least_one(world: Bench, concurrency: int, share: int) -> None:
    parted(world, "user", concurrency)
    for n in range(20):
        put(world, f"a{n}", "high", user="a")
        put(world, f"b{n}", "low", user="b")
    users = Counter(job.user_id for job in take(world, concurrency))
    assert users["a"] == share


def test_a_slot_is_not_left_idle_where_all_who_wait_have_their_share(world: Bench) -> None:
    parted(world, "user", 3)
    for n in range(4):
        put(world, f"a{n}", user="a")
        put(world, f"b{n}", user="b")
    assert len(take(world, 3)) == 3


def test_jobs_queued_before_the_setting_changed_are_found_and_moved(world: Bench) -> None:
    put(world, "old", user="u", bank="B", key="t:old")
    parted(world, "institution", 5)
    put(world, "new", user="u", bank="B", key="t:new")
    parted(world, "none", 5)
    assert put(world, "x", "high", user="u", bank="B", key="t:new") == "waiting"
    assert [job.id for job in take(world, 5)] == ["new", "old"]
    assert list(world.client.scan_iter(match=f"*{world.keys.namespace}*:ring:*")) == []


@pytest.mark.parametrize("seed", range(6))
def test_random_lives_keep_both_shares(world: Bench, seed: int) -> None:
    dice = random.Random(seed)
    mode: Literal["user", "institution"] = dice.choice(["user", "institution"])
    most = dice.choice([2, 5, 10])
    cap = max(1, most * 6 // 10)
    parted(world, mode, most)
    running: list[Taken] = []
    waiting: dict[str, str] = {}
    queued = 0
    for _ in range(150):
        kind = dice.choice(["put", "put", "take", "end", "end"])
        if kind == "put":
            user, bank = dice.choice("aaaab"), dice.choice("xxxxy")
            put(world, str(queued), dice.choice(["high", "medium", "low"]), user=user, bank=bank)
            waiting[str(queued)] = user if mode == "user" else bank
            queued += 1
        elif kind == "end" and running:
            job = running.pop(dice.randrange(len(running)))
            if dice.random() < 0.3:
                settle(world, job, "retry", delay=3_600_000, error="{}")
            else:
                settle(world, job)
        else:
            for job in take(world, 1):
                part = waiting.pop(job.id)
                held = sum(part == (other.user_id if mode == "user" else other.institution) for other in running)
                assert held < cap or set(waiting.values()) <= {part}
                running.append(job)
        assert len(running) <= most
    for job in running:
        settle(world, job)
    while jobs := take(world, 10):
        for job in jobs:
            settle(world, job)
            del waiting[job.id]
    assert waiting == {}
    assert list(world.client.scan_iter(match=f"*{world.keys.namespace}*:ring:*")) == []
