"""What tries again and again tells of an outage once, and once that it is over: one warning however long it lasts."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from engine.errors import SyncdeskError
from engine.jobs.bulk import BulkDriver
from engine.queue import Control, Hints, Reconciler, events
from engine.settings import Settings
from engine.store import Transport
from scheduler.process import Scheduler
from scheduler.work import Tools
from tests.support.queue import Bench, bench
from tests.support.wait import until

Loop = Callable[[Bench, Any, threading.Event], None]


class Counted:
    """The test's store, and how often it refused; what was not foreseen can be met in ``odd`` one of its calls."""

    def __init__(self, store: Transport, odd: str = "") -> None:
        self._store = store
        self.refused, self.odd = 0, odd

    def call(self, name: str, /, **params: Any) -> Any:
        if name == self.odd:
            self.refused += 1
            raise ZeroDivisionError(name)
        try:
            return self._store.call(name, **params)
        except SyncdeskError:
            self.refused += 1
            raise


def reconciler(world: Bench, store: Any, stop: threading.Event) -> None:
    Reconciler(store, world.client, world.keys).run(stop)


def bulk(world: Bench, store: Any, stop: threading.Event) -> None:
    control = Control(world.client, world.keys, store)
    BulkDriver(store, Hints(world.client, world.keys), control, lambda *_: None, str(uuid.uuid4())).run(stop)


def schedule(world: Bench, store: Any, stop: threading.Event) -> None:
    def no_bank() -> Any:
        raise AssertionError("no bank here")

    def publish(topic: str, found: str | None = None) -> None:
        events.publish(world.client, world.keys, topic, found)

    given, hints = Settings(), Hints(world.client, world.keys)
    made = Scheduler(given, Tools(settings=given, store=store, hints=hints, deps=no_bank, publish=publish))
    threading.Thread(target=lambda: (stop.wait(), made.stop())).start()
    made.run()


LOOPS = pytest.mark.parametrize(
    ("loop", "function", "words", "over"),
    [
        (reconciler, "unfinished", "Unfinished work could not be looked up", "Unfinished work is looked up again"),
        (bulk, "bulk_step", "A step of the bulk actions failed", "The bulk actions go on"),
        (schedule, "schedule_poll", "The schedule could not be looked at", "The schedule goes on"),
    ],
    ids=["reconciler", "bulk", "schedule"],
)


def levels(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [record.levelname for record in list(caplog.records) if record.getMessage() == words]


@contextmanager
def running(loop: Loop, world: Bench, store: Counted) -> Iterator[None]:
    """One of the loops in a thread of its own, until the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=loop, args=(world, store, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def world(redis_url: str, namespace: str) -> Iterator[Bench]:
    with bench(redis_url, namespace) as made:
        yield made


@LOOPS
def test_one_warning_an_outage(
    world: Bench,
    store: Transport,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
    loop: Loop,
    function: str,
    words: str,
    over: str,
) -> None:
    caplog.set_level("INFO", "syncdesk")
    counted = Counted(store)
    with psycopg.connect(database_url, autocommit=True) as link:
        link.execute(f"alter function public.syncdesk_{function} rename to away".encode())
        with running(loop, world, counted):
            until(lambda: counted.refused >= 2, 60, what="two refusals")
            link.execute(f"alter function public.away rename to syncdesk_{function}".encode())
            until(lambda: levels(caplog, over), 60, what="the end")
    assert levels(caplog, words) == ["WARNING"]
    assert levels(caplog, over) == ["INFO"]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [words]


@LOOPS
def test_a_defect_is_told_once_with_its_place_and_ends_nothing(
    world: Bench, store: Transport, caplog: pytest.LogCaptureFixture, loop: Loop, function: str, words: str, over: str
) -> None:
    caplog.set_level("INFO", "syncdesk")
    counted = Counted(store, odd=function)
    with running(loop, world, counted):
        until(lambda: counted.refused >= 2, 60, what="two failures")
        counted.odd = ""
        until(lambda: levels(caplog, over), 60, what="the end")
    (told,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (told.levelname, told.getMessage()) == ("ERROR", words)
    assert told.facts["error"] == "ZeroDivisionError"  # type: ignore[attr-defined]
    assert "test_outages.py" in told.facts["frames"]  # type: ignore[attr-defined]
