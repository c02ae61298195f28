"""The broker on a real server: lanes, ring, delays, leases, limits, ledger. Each rule of the queue once."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest

from engine.errors import Conflict, UsageError
from engine.queue import Control, Hints, View, events, scripts
from engine.queue.broker import Broker
from engine.queue.jobs import Taken
from tests.support.queue import Bench, bench
from tests.support.queue_steps import put, settle, take
from tests.support.wait import until

pytestmark = pytest.mark.brokers


@pytest.fixture
def world(redis_url: str, namespace: str) -> Iterator[Bench]:
    with bench(redis_url, namespace) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


# ---------------------------------------------------------------- order


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
    put(world, "later", delay=150)
    assert take(world) == []
    (job,) = until(lambda: take(world), 5)
    assert job.id == "later"
    assert job.waited_ms < 150  # counted from when it was due


def test_a_delayed_job_does_not_wait_behind_other_delayed_ones(world: Bench) -> None:
    for n in range(500):
        put(world, f"hour{n}", delay=3_600_000)
    put(world, "soon", delay=50)
    assert until(lambda: take(world), 5)[0].id == "soon"


# ---------------------------------------------------------------- coalescing


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
    world.client.hset(world.keys.limits, "transactions:distance", "150")
    for n in range(4):
        put(world, str(n), key="t:1")
        (job,) = until(lambda: take(world, 5), 20)
        settle(world, job)
    starts = [int(world.fields(str(n))["started"]) for n in range(4)]
    assert starts[2] - starts[0] >= 150
    assert starts[3] - starts[2] >= 150


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


# ---------------------------------------------------------------- starts, leases, poison


def test_a_lease_that_runs_out_gives_the_job_to_another_and_the_first_end_is_not_used(world: Bench) -> None:
    put(world, "a")
    (first,) = take(world, lease_ms=50)
    (second,) = until(lambda: take(world, worker="w2"), 5)
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
        (job,) = until(lambda: take(world), 5)
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


# ---------------------------------------------------------------- limits


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


# ---------------------------------------------------------------- what a person does


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
    assert ready.wait(10)
    put(world, "a")
    events.publish(world.client, world.keys, "items", "i1")
    thread.join(10)
    assert [(event["topic"], event["id"]) for event in told] == [("jobs", "a"), ("items", "i1")]


# ---------------------------------------------------------------- with Dramatiq's worker


def declare(broker: Broker, function: Any, queue: str = "transactions") -> dramatiq.Actor[Any, Any]:
    return dramatiq.actor(function, broker=broker, queue_name=queue, actor_name="act")


def test_dramatiq_runs_what_was_sent(world: Bench) -> None:
    broker = world.broker()
    seen: list[int] = []
    actor = declare(broker, seen.append)
    for n in range(50):
        actor.send(n)
    world.work(broker)
    until(lambda: len(seen) == 50)
    assert sorted(seen) == list(range(50))
    until(lambda: not broker.held)
    until(lambda: broker.slots.free == 2)


def test_a_sleeping_worker_is_woken(world: Bench) -> None:
    broker = world.broker()
    seen = threading.Event()
    actor = declare(broker, seen.set)
    world.work(broker)
    until(lambda: world.client.exists(world.keys.prefix + "idle:transactions"))
    actor.send()
    assert seen.wait(10)


def test_two_queues_share_the_threads_and_neither_starves(world: Bench) -> None:
    broker = world.broker(threads=1)
    order: list[str] = []
    many = dramatiq.actor(lambda: order.append("w"), broker=broker, queue_name="webhooks", actor_name="many")
    one = dramatiq.actor(lambda: order.append("n"), broker=broker, queue_name="notifications", actor_name="one")
    for _ in range(300):
        many.send()
    one.send()
    world.work(broker)
    until(lambda: len(order) == 301)
    assert order.index("n") < 300


def test_long_jobs_spread_over_processes(world: Bench) -> None:
    gate = threading.Event()
    started: list[str] = []

    def long(name: str) -> None:
        started.append(name)
        gate.wait(20)

    for name in ("w1", "w2"):
        broker = world.broker(name, threads=2)
        actor = declare(broker, functools.partial(long, name))
        world.work(broker)
    for _ in range(4):
        actor.send()
    until(lambda: len(started) == 4)
    gate.set()
    assert sorted(started) == ["w1", "w1", "w2", "w2"]


def test_a_message_too_long_for_references_is_refused(world: Bench) -> None:
    actor = declare(world.broker(), lambda text: None)
    with pytest.raises(UsageError):
        actor.send("x" * 5000)


def test_an_unknown_actor_fails_and_leaves_the_queue_working(world: Bench) -> None:
    broker = world.broker()
    seen = threading.Event()
    put(world, "stranger")
    scripts.run(world.client, world.keys, "enqueue", "x", "transactions", "high", "u", "", "unknown", "[]", "{}",
                "", "", "t", "c", 0, 1, 0)  # fmt: skip
    declare(broker, seen.set)
    world.work(broker)
    assert seen.wait(10)
    until(lambda: world.state("x") is None)


def test_no_key_is_left_but_the_done_ones(world: Bench) -> None:
    """Bounded in Redis: a finished job leaves its ledger in the list of done ones and nothing else."""
    broker = world.broker()
    broker.options.keep_done = 3
    actor = declare(broker, lambda: None)
    for _ in range(30):
        actor.send()
    world.work(broker)
    until(lambda: not scripts.run(world.client, world.keys, "counts", "transactions")[0] and not broker.held)
    kinds = {
        str(key).split("}:")[1].split(":")[0] for key in world.client.scan_iter(match="*" + world.keys.namespace + "*")
    }
    assert kinds <= {"epoch", "job", "done", "idle", "limits", "stats", "totals"}
    assert len(list(world.client.scan_iter(match="*" + world.keys.namespace + "}:job:*"))) == 3
