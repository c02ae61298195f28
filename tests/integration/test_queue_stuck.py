"""A running job that takes no step any more is shown as stuck, however long it runs; nobody ends it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import dramatiq
import msgspec
import pytest

from engine.api import types_jobs
from engine.jobs.heart import Heart
from engine.jobs.steps import Steps
from engine.queue import View
from engine.queue.hints import Hints
from engine.store import Transport
from tests.support.queue import Bench, bench
from tests.support.wait import until

LONG_S = 1000.0


@pytest.fixture
def world(broker_url: str, namespace: str, store: Transport) -> Iterator[Bench]:
    with bench(broker_url, namespace, store) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


def shown(world: Bench) -> tuple[float | None, bool, int, str]:
    """What the API says of the one job that runs: in its own view, and in its worker's."""
    (row,) = View(world.client, world.keys).jobs("running")["jobs"]
    job = msgspec.convert(row, types_jobs.Job)
    detail = View(world.client, world.keys).job(job.id)
    assert detail is not None
    assert (detail["job"]["stuck_s"] is None) == (job.stuck_s is None)
    (worker,) = View(world.client, world.keys).workers()
    (running,) = worker["jobs"]
    return job.stuck_s, running["stuck"], running["steps"], running["last_step"]


def test_a_job_without_steps_is_shown_as_stuck_until_it_takes_one(
    world: Bench, store: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    steps = Steps()
    broker = world.broker(threads=2, middleware=[steps])
    watched = steps.watch(store)
    stage = threading.Semaphore(0)
    staged = threading.Semaphore(0)

    def sync_item(item_id: str, trigger: str, correlation: str) -> None:
        for _ in range(2):
            assert stage.acquire(timeout=60)
            watched.call("settings_get", key="x")
            staged.release()
        assert stage.acquire(timeout=60)

    dramatiq.actor(sync_item, broker=broker, queue_name="transactions", actor_name="sync_item")
    world.work(broker)
    heart = Heart(broker, "sync", 10_000, lambda why: None, lambda: False, 120.0)
    Hints(world.client, world.keys).sync(str(uuid.uuid4()), "u1", "Bank", "medium", "schedule", "c")
    until(lambda: broker.held)
    (proxy,) = broker.held.values()
    proxy.began -= LONG_S  # long, and at work
    heart._beat()
    assert shown(world) == (None, False, 0, "")
    proxy.stepped -= LONG_S
    heart._beat()
    for _ in range(3):
        heart._tell_stuck()
    assert sum("no step" in record.getMessage() for record in caplog.records) == 1
    since, stuck, taken, last = shown(world)
    assert since is not None
    assert (since > 120, stuck, taken, last) == (True, True, 0, "")
    stage.release()
    assert staged.acquire(timeout=60)
    heart._beat()
    assert shown(world) == (None, False, 1, "settings_get")
    for _ in range(3):
        stage.release()
    until(lambda: world.state(proxy.job.id) == "done")  # nobody ended it


def test_the_renewal_of_a_lease_is_no_step(world: Bench, store: Transport) -> None:
    steps = Steps()
    steps.watch(store).call("settings_get", key="x")  # a thread without a job
    broker = world.broker(middleware=[steps])
    seen: list[int] = []

    def act(**_: Any) -> None:
        (proxy,) = broker.held.values()
        other = threading.Thread(target=lambda: steps.watch(store).call("settings_get", key="x"))
        other.start()
        other.join()
        seen.append(proxy.steps)

    dramatiq.actor(act, broker=broker, queue_name="transactions", actor_name="sync_item")
    Hints(world.client, world.keys).put("transactions", "1", user_id=None, lane="low", trigger="t", correlation="c")
    world.work(broker)
    until(lambda: seen)
    assert seen == [0]
