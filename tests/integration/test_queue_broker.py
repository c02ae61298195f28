"""The broker on a real server: lanes, ring, delays, leases, limits, ledger. Each rule of the queue once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from engine.errors import Conflict, UsageError
from engine.queue import Control, View, events, scripts
from engine.queue.jobs import Taken
from tests.support.queue import Bench, bench
from tests.support.queue_steps import pass_time, put, settle, take
from tests.support.wait import until

pytestmark = pytest.mark.brokers


@pytest.fixture
def world(redis_url: str, namespace: str) -> Iterator[Bench]:
    with bench(redis_url, namespace) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


def test_lanes_come_before_age(world: Bench) -> None:
    for lane in ("low", "medium", "high"):
        put(world, lane, lane)
    assert [job.id for job in take(world, 3)] == ["high", "medium", "low"]


def test_users_take_turns_however_many_jobs_one_has(world: Bench) -> None:
    for n in range(20):
        put(world, f"big{n}", user="big")
    put(world, "small", user="small")
    assert [job.id for job in take(world, 2)] == ["big0", "small"]


def test_a_user_of_weight_three_runs_three_a_turn(world: Bench) -> None:
    world.client.hset(world.keys.weights, "big", "3")
    world.client.hset(world.keys.limits, "weighted", "1")
    for n in range(6):
        put(world, f"big{n}", user="big")
        put(world, f"small{n}", user="small")
    assert [job.id for job in take(world, 8)] == ["big0", "small0", "big1", "big2", "big3", "small1", "big4", "big5"]


def test_who_comes_during_a_turn_waits_for_one_job_of_it(world: Bench) -> None:
    world.client.hset(world.keys.weights, "big", "9")
    world.client.hset(world.keys.limits, "weighted", "1")
    for n in range(20):
        put(world, f"big{n}", user="big")
    take(world, 4)
    put(world, "small", user="small")
    assert [job.id for job in take(world, 2)] == ["big4", "small"]


def test_only_as_many_are_taken_as_there_is_room_for(world: Bench) -> None:
    for n in range(5):
        put(world, str(n))
    assert len(take(world, 2)) == 2
    assert scripts.run(world.client, world.keys, "counts", "transactions")[0] == 3


def test_a_delayed_job_waits_and_then_runs(world: Bench) -> None:
    put(world, "later", delay=3_600_000)
    assert take(world) == []
    pass_time(world, "delayed:transactions")
    (job,) = take(world)
    assert job.id == "later"
    assert job.waited_ms < 150  # counted from when it was due


def test_a_delayed_job_does_not_wait_behind_other_delayed_ones(world: Bench) -> None:
    for n in range(500):
        put(world, f"hour{n}", delay=3_600_000)
    put(world, "soon", delay=50)
    assert until(lambda: take(world))[0].id == "soon"


def test_a_lease_that_runs_out_gives_the_job_to_another_and_the_first_end_is_not_used(world: Bench) -> None:
    put(world, "a")
    (first,) = take(world, lease_ms=50)
    (second,) = until(lambda: take(world, worker="w2"))
    assert (second.id, second.start) == ("a", 2)
    assert settle(world, first)[0] == 0
    assert world.state("a") == "running"
    assert settle(world, second, worker="w2")[0] == 1
    assert world.state("a") == "done"
    assert world.fields("a")["o1"] == "lost"
    assert told(world, "a") == ["WORKER_SILENT", None]


def test_a_renewed_lease_does_not_run_out(world: Bench) -> None:
    put(world, "a")
    take(world, lease_ms=1)
    assert scripts.run(world.client, world.keys, "renew", "transactions", "w1", 60_000, "a") == []
    assert take(world, worker="w2") == []
    assert scripts.run(world.client, world.keys, "renew", "transactions", "w2", 60_000, "a") == ["a"]


def test_what_an_ended_process_held_is_free_at_once_and_counts_as_a_start(world: Bench) -> None:
    put(world, "a")
    control = Control(world.client, world.keys)
    for start in (1, 2, 3):
        (job,) = take(world, worker="host:7:x", lease_ms=60_000)
        assert (job.start, job.final) == (start, "")
        assert control.free("host:7:") == 1
    (job,) = take(world)
    assert job.final == "POISON"
    assert job.start == 3  # it is handed out to be recorded, not started


def test_a_start_handed_back_does_not_count(world: Bench) -> None:
    put(world, "a")
    control = Control(world.client, world.keys)
    for _ in range(5):
        take(world, worker="host:7:x")
        assert control.free("host:7:", counted=False) == 1
    assert take(world)[0].final == ""
    assert told(world, "a") == ["HANDED_BACK"] * 5 + [None]


def told(world: Bench, job_id: str) -> list[str | None]:
    """The codes of what a person reads of each start; each has its sentence."""
    found = View(world.client, world.keys).job(job_id)
    assert found is not None
    errors = [entry["error"] for entry in found["timeline"]]
    assert all(error["sentence"].endswith(".") for error in errors if error)
    return [error["code"] if error else None for error in errors]


def test_a_retry_is_one_step_and_keeps_its_attempts(world: Bench) -> None:
    put(world, "a")
    for n in (1, 2):
        (job,) = until(lambda: take(world))
        assert job.tries == n - 1
        settle(world, job, "retry", error=json.dumps({"code": f"E{n}", "title": "t"}), delay=10)
    view = View(world.client, world.keys)
    found = view.job("a")
    assert found is not None
    assert [(entry["number"], entry["outcome"], entry["error"]["code"]) for entry in found["timeline"]] == [
        (1, "failed", "E1"),
        (2, "failed", "E2"),
    ]
    assert found["job"]["error_code"] == "E2"
    assert found["job"]["state"] in ("retrying", "waiting")


def test_done_jobs_are_trimmed_with_their_hashes(world: Bench) -> None:
    for n in range(5):
        put(world, str(n))
        settle(world, take(world)[0], keep=2)
    assert world.client.lrange(world.keys.done("transactions"), 0, -1) == ["4", "3"]
    assert world.state("2") is None
    put(world, "last")
    settle(world, take(world)[0], keep=0)
    assert world.client.lrange(world.keys.done("transactions"), 0, -1) == []


def test_finishing_takes_the_next_in_the_same_step(world: Bench) -> None:
    put(world, "a")
    put(world, "b")
    (job,) = take(world)
    answer = settle(world, job, room=1)
    assert [Taken.from_script("transactions", row).id for row in answer[2]] == ["b"]


def test_concurrency_holds_over_workers_and_changes_live(world: Bench) -> None:
    control = Control(world.client, world.keys)
    control.limit("transactions", 2, None)
    for n in range(5):
        put(world, str(n))
    first = take(world, 5, "w1")
    assert len(first) == 2
    assert take(world, 5, "w2") == []
    control.limit("transactions", 3, None)
    assert len(take(world, 5, "w2")) == 1
    settle(world, first[0])
    assert len(take(world, 5, "w2")) == 1


def test_a_paused_queue_starts_nothing_until_resumed(world: Bench) -> None:
    control = Control(world.client, world.keys)
    put(world, "a")
    control.pause("transactions")
    assert take(world) == []
    assert View(world.client, world.keys).queues()[0]["paused"] is True
    control.resume("transactions")
    assert len(take(world)) == 1


def test_the_rate_of_a_queue_is_exact(world: Bench) -> None:
    Control(world.client, world.keys).limit("transactions", None, 3)
    for n in range(5):
        put(world, str(n))
    assert len(take(world, 5)) == 3
    _, wait, rows = scripts.run(world.client, world.keys, "take", "transactions", "w1", 5000, 5)
    assert rows == []
    assert wait > 0


def test_a_limit_below_one_is_refused(world: Bench) -> None:
    with pytest.raises(UsageError):
        Control(world.client, world.keys).limit("transactions", 0, None)


def test_cancel_and_run_now(world: Bench) -> None:
    control = Control(world.client, world.keys)
    put(world, "a", delay=60_000, key="t:1")
    put(world, "b", "low")
    assert control.run_now("a") is True
    assert control.cancel("b") is True
    assert control.cancel("b") is False
    (job,) = take(world, 5)
    assert job.id == "a"
    with pytest.raises(Conflict):
        control.cancel("a")
    with pytest.raises(Conflict):
        control.run_now("a")


def test_a_cancel_that_meets_the_start_of_its_job_does_all_or_nothing(world: Bench) -> None:
    control = Control(world.client, world.keys)
    count = 60
    for n in range(count):
        put(world, f"j{n}")
    taken: set[str] = set()
    ready = threading.Barrier(2)

    def work() -> None:
        ready.wait(20)
        while jobs := take(world):
            taken.update(job.id for job in jobs)

    thread = threading.Thread(target=work)
    thread.start()
    cancelled = set()
    ready.wait(20)
    for n in reversed(range(count)):
        try:
            assert control.cancel(f"j{n}")
            cancelled.add(f"j{n}")
        except Conflict:
            assert world.state(f"j{n}") == "running"
    thread.join(20)
    assert taken | cancelled == {f"j{n}" for n in range(count)}
    assert not taken & cancelled
    assert all(world.state(job_id) is None for job_id in cancelled)
    assert world.client.zcard(world.keys.running("transactions")) == len(taken)


def test_a_cancelled_job_leaves_its_target_free(world: Bench) -> None:
    put(world, "a", key="t:1")
    Control(world.client, world.keys).cancel("a")
    assert put(world, "b", key="t:1") == "new"


def test_the_view_pages_and_counts(world: Bench) -> None:
    for n in range(7):
        put(world, f"j{n}")
    put(world, "later", delay=60_000)
    view = View(world.client, world.keys)
    first = view.jobs("waiting", "transactions", None, 5)
    rest = view.jobs("waiting", "transactions", first["next"], 5)
    assert [job["id"] for job in first["jobs"] + rest["jobs"]] == [f"j{n}" for n in range(7)]
    assert [job["position"] for job in rest["jobs"]] == [6, 7]
    assert rest["next"] is None
    queue = view.queues()[0]
    assert (queue["waiting"], queue["delayed"], queue["running"]) == (7, 1, 0)
    assert view.jobs("delayed")["jobs"][0]["due_at"] is not None
    assert view.job("nothing") is None


def test_changes_are_told(world: Bench) -> None:
    told: list[dict[str, Any]] = []
    ready = threading.Event()

    def listen() -> None:
        for event in events.subscribe(world.client, world.keys, idle_s=0.05, ticks=True):
            ready.set()
            if event:
                told.append(event)
            if len(told) >= 2:
                return

    thread = threading.Thread(target=listen)
    thread.start()
    assert ready.wait(30)
    put(world, "a")
    events.publish(world.client, world.keys, "items", "i1")
    thread.join(30)
    assert [(event["topic"], event["id"]) for event in told] == [("jobs", "a"), ("items", "i1")]
