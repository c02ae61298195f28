"""The broker under Dramatiq's own worker: what was sent runs, threads are shared, nothing is left."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest

from engine.errors import UsageError
from engine.queue import scripts
from engine.queue.broker import Broker
from tests.support.queue import Bench, bench
from tests.support.queue_steps import put
from tests.support.wait import until

pytestmark = pytest.mark.brokers


@pytest.fixture
def world(redis_url: str, namespace: str) -> Iterator[Bench]:
    with bench(redis_url, namespace) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


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
    assert seen.wait(30)


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
        gate.wait(60)

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
    assert seen.wait(30)
    until(lambda: world.state("x") is None)


def test_no_key_is_left_but_the_done_ones(world: Bench) -> None:
    """Bounded in Redis: a finished job leaves its ledger in the list of done ones and nothing else."""
    broker = world.broker()
    broker.options.keep_done = 3
    actor = declare(broker, lambda: None)
    for _ in range(30):
        actor.send()
    world.work(broker)
    # In one look: what waits, what runs and what is between the two is never seen by two of them.
    until(lambda: not any(scripts.run(world.client, world.keys, "counts", "transactions")[:4]))
    kinds = {
        str(key).split("}:")[1].split(":")[0] for key in world.client.scan_iter(match="*" + world.keys.namespace + "*")
    }
    assert kinds <= {"epoch", "job", "done", "idle", "limits", "stats", "totals"}
    assert len(list(world.client.scan_iter(match="*" + world.keys.namespace + "}:job:*"))) == 3
