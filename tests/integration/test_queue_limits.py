"""Limits of the queues: what the settings say, what a person changed while it runs, and that neither is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.queue import Control, Reconciler, View
from engine.queue.limits import from_settings
from engine.settings import Settings
from engine.store import Transport
from tests.support.queue import Bench, bench
from tests.support.queue_steps import QUEUE, put, take


@pytest.fixture
def world(redis_url: str, namespace: str, store: Transport) -> Iterator[Bench]:
    with bench(redis_url, namespace, store) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


def reconcile(world: Bench, settings: Settings, store: Any = None) -> None:
    Reconciler(store or world.store, world.client, world.keys, from_settings(settings)).run_once()


def limits(world: Bench) -> tuple[Any, Any, bool]:
    found = View(world.client, world.keys).queues()[0]
    return found["concurrency"], found["per_minute"], found["paused"]


def test_a_rate_is_a_setting_and_ends_with_it(world: Bench) -> None:
    reconcile(world, Settings(sync_per_minute=3))
    assert limits(world) == (5, 3, False)
    for n in range(5):
        put(world, str(n))
    assert len(take(world, 5)) == 3
    reconcile(world, Settings())
    assert limits(world) == (5, None, False)
    assert len(take(world, 5)) == 2


def test_what_a_person_changed_stands_before_the_settings_also_after_a_wipe(world: Bench) -> None:
    control = Control(world.client, world.keys, world.store)
    control.limit(QUEUE, 7, None)
    control.pause(QUEUE)
    world.client.delete(world.keys.limits)
    reconcile(world, Settings(sync_per_minute=3, sync_concurrency=2))
    assert limits(world) == (7, None, True)


class Between:
    """The real store, and something that happens right after it said what is unfinished."""

    def __init__(self, store: Transport, then: Callable[[], None]) -> None:
        self._store, self._then = store, then

    def call(self, name: str, /, **params: Any) -> Any:
        answer = self._store.call(name, **params)
        if name == "unfinished" and self._then is not None:
            then, self._then = self._then, None  # type: ignore[assignment]
            then()
        return answer


def test_a_change_that_meets_the_reconciler_is_not_undone(world: Bench, store: Transport) -> None:
    control = Control(world.client, world.keys, store)
    reconcile(world, Settings(), Between(store, lambda: control.pause(QUEUE)))
    assert limits(world) == (5, None, True)
    reconcile(world, Settings(), Between(store, lambda: control.resume(QUEUE)))
    assert limits(world) == (5, None, False)
