"""What tries again and again tells of an outage once, and once that it is over: one warning however long it lasts."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
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
    """The test's store, and how often it refused."""

    def __init__(self, store: Transport) -> None:
        self._store = store
        self.refused = 0

    def call(self, name: str, /, **params: Any) -> Any:
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


@pytest.mark.parametrize(
    ("loop", "function", "words", "over"),
    [
        (reconciler, "unfinished", "Unfinished work could not be looked up", "Unfinished work is looked up again"),
        (bulk, "bulk_step", "A step of the bulk actions failed", "The bulk actions go on"),
        (schedule, "schedule_poll", "The schedule waits for the database", "The schedule goes on"),
    ],
    ids=["reconciler", "bulk", "schedule"],
)
def test_one_warning_an_outage(
    redis_url: str,
    namespace: str,
    store: Transport,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
    loop: Loop,
    function: str,
    words: str,
    over: str,
) -> None:
    caplog.set_level("INFO", "syncdesk")
    counted, stop = Counted(store), threading.Event()

    def said(text: str) -> list[str]:
        return [record.levelname for record in caplog.records if record.getMessage() == text]

    with bench(redis_url, namespace) as world, psycopg.connect(database_url, autocommit=True) as link:
        link.execute(f"alter function public.syncdesk_{function} rename to away".encode())
        thread = threading.Thread(target=loop, args=(world, counted, stop))
        thread.start()
        try:
            until(lambda: counted.refused >= 2, 60, what="two refusals")
            link.execute(f"alter function public.away rename to syncdesk_{function}".encode())
            until(lambda: said(over), 60, what="the end")
        finally:
            stop.set()
            thread.join(20)
        assert not thread.is_alive()
    assert said(words) == ["WARNING"]
    assert said(over) == ["INFO"]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [words]
