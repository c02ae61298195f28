"""A worker process driven step by step in the caller's thread, so that it can end at any of its steps.

Consumer, middleware, recorder, actors, run and store are the engine's own, over real servers. What is ours stands
between them: `Wire` before the store, `Window` before Plaid's client, and a look at how the queue settles a job. At
each of these places something may happen (`Moments`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from queue import PriorityQueue
from typing import Any

import dramatiq
import psycopg
from dramatiq.worker import WorkerThread

from engine.errors import StoreUnavailable
from engine.jobs import actors
from engine.plaid.client import PlaidClient
from engine.queue import Hints, buckets
from engine.queue.broker import Broker
from engine.queue.consumer import Consumer
from engine.queue.jobs import Proxy
from engine.queue.keys import QUEUES
from engine.settings import Settings
from engine.store import Transport
from engine.sync.deps import Deps
from engine.sync.leases import LeaseKeeper
from engine.sync.turns import LONGEST_WAIT_S
from tests.support.queue import Bench
from tests.support.syncing import OpenSecrets

PAGE = 5
"""Rows a page: what Plaid gives in pages of 500 is told by a handful here."""
STORE_FAULTS = ("ends before", "ends after", "answer lost", "away", "killed")
QUEUE_FAULTS = ("taken", "settling", "recording")


Moment = tuple[str, int, Any]
"""A place that a process passes, at which passing of it, and what happens there."""
PLACES = (
    "before page", "after page", "after sync_claim", "before sync_stage", "after sync_stage", "after sync_abort",
    "before sync_commit", "after sync_commit", "before sync_fail", "before webhook_finish", "before settle",
    "after settle",
)  # fmt: skip


class Cut(BaseException):
    """The process ends here, as by kill -9."""


class Moments:
    """What happens while a process is at work: each moment once, in the thread that comes by."""

    def __init__(self, planned: Sequence[Moment], happens: Callable[[Any], None]) -> None:
        self._planned, self._happens = planned, happens
        self._passed: Counter[str] = Counter()

    def at(self, place: str) -> None:
        """The process is at ``place``."""
        passing = self._passed[place]
        self._passed[place] += 1
        for where, number, what in self._planned:
            if (where, number) == (place, passing):
                self._happens(what)


class Wire:
    """The real store, and at its nth call: the process ends, the answer is lost, or the database ends the session."""

    def __init__(self, store: Transport, url: str, fault: tuple[int, str] | None) -> None:
        self._store, self._url = store, url
        self._number, self._fault = 0, fault
        self.moments = Moments((), lambda what: None)
        #: The item whose run came by last.
        self.item: str | None = None
        self.dead = False

    def call(self, name: str, /, **params: Any) -> Any:
        if self.dead:
            raise Cut
        if name != "lease_renew":  # called by a clock of its own
            self._number += 1
            return self._passes(name, params)
        return self._store.call(name, **params)

    def _passes(self, name: str, params: dict[str, Any]) -> Any:
        if name == "sync_claim":
            self.item = params["item"]
        self.moments.at(f"before {name}")
        if self._fault is not None and self._number == self._fault[0] + 1:
            answer = self._meets(self._fault[1], name, params)
        else:
            answer = self._store.call(name, **params)
        self.moments.at(f"after {name}")
        return answer

    def _meets(self, fault: str, name: str, params: dict[str, Any]) -> Any:
        if fault == "ends before":
            self.end()
        if fault == "away":
            raise StoreUnavailable("The database cannot be reached.")
        if fault == "killed":
            return self._killed(name, params)
        answer = self._store.call(name, **params)
        if fault == "ends after":
            self.end()
        if fault == "answer lost":
            raise StoreUnavailable("The database does not answer.")
        return answer

    def end(self) -> None:
        """The process is no more: nothing it still does here has an effect."""
        self.dead = True
        raise Cut

    def _killed(self, name: str, params: dict[str, Any]) -> Any:
        """Postgres ends the session while the call waits for a lock late in its work, where it takes that one."""
        outcome: list[Any] = []

        def body() -> None:
            try:
                outcome.append(self._store.call(name, **params))
            except Exception as error:  # noqa: BLE001 - handed to the caller
                outcome.append(error)

        with psycopg.connect(self._url) as other:
            other.execute("lock table syncdesk.outbox in access exclusive mode")
            thread = threading.Thread(target=body)
            thread.start()
            while thread.is_alive() and not end_sessions(self._url, waiting=True):
                time.sleep(0.001)
            other.rollback()
        thread.join()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]


def end_sessions(url: str, *, waiting: bool = False) -> int:
    """Postgres ends the engine's sessions (only those that wait for a lock); how many."""
    only = "and wait_event_type = 'Lock'" if waiting else ""
    query = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database()"
        f" and pid <> pg_backend_pid() and application_name = 'syncdesk' {only}"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(query).fetchone()
    assert found is not None
    return int(found[0])


class Window:
    """Plaid's real client with small pages."""

    def __init__(self, plaid: PlaidClient, wire: Wire) -> None:
        self._plaid, self._wire = plaid, wire
        self._threads: set[threading.Thread] = set()

    def transactions_sync(self, token: str, cursor: str | None) -> bytes:
        self._threads.add(threading.current_thread())
        if self._wire.dead:
            raise Cut
        self._wire.moments.at("before page")
        page = self._plaid.transactions_sync(token, cursor, count=PAGE)
        self._wire.moments.at("after page")
        return page

    def rest(self) -> None:
        """Wait for the page that a run fetched ahead and then had no use for: what happens meanwhile is not over."""
        for thread in self._threads - {threading.current_thread()}:
            thread.join()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plaid, name)


class Process:
    """One worker process of all three queues with one thread."""

    def __init__(
        self,
        world: Bench,
        name: str,
        wire: Wire,
        plaid: Any,
        given: Settings,
        leases: LeaseKeeper,
        wiped: Callable[[], None],
    ) -> None:
        self.name, self.wire = name, wire
        self._world = world
        world.store = wire
        self.broker: Broker = world.broker(name, threads=1, given=given, wiped=wiped)
        client, keys = self.broker.client, self.broker.keys
        deps = Deps(
            store=wire,
            plaid=plaid,
            secrets=OpenSecrets(),
            settings=given,
            owner=name,
            limiter=lambda bucket, per_minute: _put_off(buckets.take(client, keys, bucket, per_minute)),
            hints=Hints(client, keys),
        )
        deps.leases = leases
        actors.declare(self.broker, actors.Parts(store=wire, sync=lambda: deps), set(QUEUES))
        self._consumers = {queue: Consumer(self.broker, queue) for queue in QUEUES}
        for consumer in self._consumers.values():
            self._watch(consumer)

    def work(self, count: int, cut_at: str = "") -> int:
        """Run up to ``count`` jobs; the first may end the process at a step of the queue's own. How many ran.

        Raises:
            Cut: the process ended.
        """
        done = 0
        while done < count:
            taken = self._take()
            if taken is None:
                break
            self._run(*taken, cut_at if done == 0 else "")
            done += 1
        return done

    def close(self) -> None:
        """Let go of its connections."""
        for consumer in self._consumers.values():
            consumer.close()
        self._world.forget(self.broker)

    def _take(self) -> tuple[Consumer, Proxy] | None:
        for consumer in self._consumers.values():
            consumer._fetch()
            if consumer._ready:
                return consumer, consumer._ready.popleft()
        return None

    def _run(self, consumer: Consumer, proxy: Proxy, cut_at: str) -> None:
        if cut_at == "taken":
            raise Cut
        if cut_at:
            self._cut_at(consumer, cut_at)
        self.broker.quiet.set()  # the next job is taken by a step of its own
        work: PriorityQueue[Any] = PriorityQueue()
        work.put(1)
        work.get()
        posts = {proxy.job.queue: _Post(consumer, self.wire)}
        thread = WorkerThread(broker=self.broker, consumers=posts, work_queue=work, worker_timeout=100)  # type: ignore[arg-type]
        thread.process_message(proxy)
        self.broker.quiet.clear()

    def _watch(self, consumer: Consumer) -> None:
        real = consumer._persist

        def persist(*args: Any) -> Any:
            self.wire.moments.at("before settle")
            answer = real(*args)
            self.wire.moments.at("after settle")
            return answer

        consumer._persist = persist  # type: ignore[method-assign]

    def _cut_at(self, consumer: Consumer, where: str) -> None:
        name = "_persist" if where == "settling" else "_record"
        real = getattr(consumer, name)

        def cut(*args: Any) -> Any:
            if where == "recording":
                real(*args)  # Postgres has it, Redis does not
            self.wire.end()

        setattr(consumer, name, cut)


def _put_off(wait_s: float) -> float:
    """A wait for Plaid's limits is never slept out here: time passes by steps alone."""
    return max(wait_s, LONGEST_WAIT_S + 1) if wait_s else 0.0


class _Post:
    """Where Dramatiq's worker thread hands a job back."""

    def __init__(self, consumer: Consumer, wire: Wire) -> None:
        self._consumer, self._wire = consumer, wire

    def post_process_message(self, message: dramatiq.MessageProxy) -> None:
        if self._wire.dead:
            raise Cut
        self._consumer.ack(message)
