"""One worker process: its parts put together, run until told to stop, and ended in order."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import dramatiq

from engine import logs
from engine.clock import monotonic
from engine.errors import StartError, SyncdeskError
from engine.jobs import actors, exits
from engine.jobs.gate import Gate
from engine.jobs.heart import Heart
from engine.jobs.middleware import explicit
from engine.jobs.record import Recorder
from engine.jobs.stats import Stats
from engine.jobs.steps import Steps
from engine.queue import buckets, events, totals
from engine.queue.broker import Broker, BrokerOptions
from engine.queue.connection import connect
from engine.queue.consumer import LeaseKeeper
from engine.queue.hints import Hints
from engine.queue.identity import worker_id
from engine.queue.keys import Keys
from engine.queue.limits import from_settings
from engine.queue.reconciler import Reconciler
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.profile import Profile
    from engine.store import Transport
    from engine.sync.deps import Deps

POOLS: Final = {
    "sync": {"transactions"},
    "events": {"webhooks", "notifications"},
    "all": {"transactions", "webhooks", "notifications"},
}
GRACE_S: Final = 3.0
TURN_MS: Final = 500  # how often Dramatiq's idle threads look up

log = logs.logger("jobs")


class WorkerProcess:
    """A worker's parts. ``run`` blocks until `stop`, a signal, or an exception that nobody caught."""

    def __init__(self, pool: str, settings: Settings, profile: Profile | None, store: Transport) -> None:
        """Raises:
        StartError: there is no broker's address, or no such pool.
        """
        if pool not in POOLS:
            raise StartError(f"There is no pool {pool!r}: sync, events or all.")
        if not settings.redis_url:
            raise StartError("A worker needs the broker's address: set REDIS_URL, or start the engine.")
        self._pool, self._settings, self._profile, self._store = pool, settings, profile, store
        self._ending = threading.Event()
        self._code = exits.STOPPED
        self._sync: Deps | None = None
        self._sync_lock = threading.Lock()
        keys = Keys(settings.redis_namespace)
        client = connect(settings.redis_url, "worker", settings.redis_ca_file)
        self.stats = Stats(store, client, keys)
        self.reconciler = Reconciler(store, client, keys, from_settings(settings))
        options = BrokerOptions(
            worker_id=worker_id(),
            threads=_threads(pool, settings),
            lease_s=settings.lease_s,
            keep_done=settings.keep_done,
            record=Recorder(store, client, keys, settings),
            wiped=self.reconciler.ask,
        )
        self.broker = Broker(client, keys, options, explicit(settings, self._stopped))
        self._gate = Gate(self.broker, store)
        self._steps = Steps()
        self.broker.add_middleware(self._steps)
        self._heart = Heart(
            self.broker, pool, settings.worker_memory_mb, self._told, self._ending.is_set, settings.stuck_s
        )

    def declare(self) -> None:
        """Declare the pool's actors."""
        broker = self.broker
        parts = actors.Parts(
            store=self._steps.watch(self._store),
            sync=self._sync_parts,
            publish=lambda topic, found: events.publish(broker.client, broker.keys, topic, found),
        )
        actors.declare(broker, parts, POOLS[self._pool])

    def run(self) -> int:
        """Work until the end; the process' exit code (`engine.jobs.exits`)."""
        broker = self.broker
        worker = dramatiq.Worker(broker, worker_threads=broker.options.threads, worker_timeout=TURN_MS)
        before = threading.excepthook
        threading.excepthook = self._uncaught
        reconciling = threading.Thread(target=self.reconciler.run, args=(self._ending,), name="reconciler", daemon=True)
        helpers: list[threading.Thread] = [self.stats, self._heart, self._gate, LeaseKeeper(broker), reconciling]
        try:
            for helper in helpers:
                helper.start()
            worker.start()
            totals.add(broker.client, broker.keys, "worker_starts", self._pool)
            log.info("Worker started", pool=self._pool, worker=broker.options.worker_id, threads=broker.options.threads)
            while not self._ending.wait(1.0):
                pass  # woken at least once a second, so that Windows delivers Ctrl+C
            self._end()
        finally:
            threading.excepthook = before
        return self._code

    def stop(self, code: int = exits.STOPPED) -> None:
        """End in order: take nothing more, give running jobs their grace, hand the rest back. Any thread, any time."""
        self._code = max(self._code, code)
        self._ending.set()

    # ------------------------------------------------------------ parts

    def _stopped(self, error: BaseException) -> bool:
        return self._gate.met(error)

    def _sync_parts(self) -> Deps:
        """Built on first use: Plaid's client is heavy, and a worker that only sends notices needs none of it."""
        with self._sync_lock:
            if self._sync is None:
                from engine.plaid.client import PlaidClient
                from engine.profile import choose
                from engine.secrets import Secrets
                from engine.sync.deps import Deps

                broker = self.broker
                self._sync = Deps(
                    store=self._steps.watch(self._store),
                    plaid=PlaidClient(self._settings, totals.plaid_calls(broker.client, broker.keys)),
                    secrets=Secrets(self._profile or choose(None, os.environ), self._settings),
                    settings=self._settings,
                    owner=broker.options.worker_id,
                    limiter=lambda name, per_minute: buckets.take(broker.client, broker.keys, name, per_minute),
                    slow=lambda name, per_minute, seconds: buckets.slow_down(
                        broker.client, broker.keys, name, per_minute, seconds
                    ),
                    hints=Hints(broker.client, broker.keys),
                    publish=lambda topic, found=None: events.publish(broker.client, broker.keys, topic, found),
                )
            return self._sync

    # ------------------------------------------------------------ the end

    def _told(self, why: str) -> None:
        if why == "memory":
            # After its job, however long that takes: only then is the place free for another.
            self.broker.quiet.set()
            threading.Thread(target=self._replace, name="replace", daemon=True).start()
        else:
            self.stop()

    def _replace(self) -> None:
        self._drain(float("inf"))
        self.stop(exits.REPLACE)

    def _uncaught(self, args: Any) -> None:
        log.error(
            "An error that nobody caught ends this worker",
            thread=args.thread and args.thread.name,
            exc_info=args.exc_value,
        )
        self.stop(exits.CRASHED)

    def _end(self) -> None:
        broker = self.broker
        log.info("Worker stops", pool=self._pool, running=broker.slots.busy)
        broker.quiet.set()
        broker.wake_consumers()
        if not self._drain(GRACE_S):
            self._hand_back()
        self._heart.stop()
        self.stats.stop()
        broker.closing.set()  # the connections end with the process: threads still read from them
        log.info("Worker stopped", pool=self._pool, code=self._code)

    def _drain(self, seconds: float) -> bool:
        """Wait for the jobs that run, and answers that may bring some; False where any is left after ``seconds``."""
        end = monotonic() + seconds
        pause = threading.Event()
        while self.broker.slots.busy:
            if monotonic() > end:
                return False
            pause.wait(0.02)
        return True

    def _hand_back(self) -> None:
        """Leases end now, in Redis and in Postgres; what still runs here can commit nothing any more."""
        try:
            self._store.call("leases_release", owner=self.broker.options.worker_id)
        except SyncdeskError as error:
            log.warning("Leases in Postgres run out by themselves", code=error.code)
        try:
            log.info("Jobs were handed back", jobs=self.broker.hand_back())
        except SyncdeskError as error:
            log.warning("Leases in Redis run out by themselves", code=error.code)


def main(
    pool: str,
    *,
    settings: Settings,
    profile: Profile | None = None,
    ready: Callable[[WorkerProcess], None] | None = None,
) -> int:
    """Run a worker in this process until SIGTERM, SIGINT or a command; its exit code.

    Jobs that did not finish in their grace are killed with the process: the caller should end it at once
    (`leave`), since their threads cannot be interrupted.

    Raises:
        StartError, StoreUnavailable: it is not told where broker or database are.
    """
    from engine.store import open_store

    logging.getLogger("dramatiq").setLevel(logging.ERROR)  # what is worth saying is said by our middleware
    store = open_store(settings)
    process = WorkerProcess(pool, settings, profile, store)
    process.declare()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.stop())
    if ready is not None:
        ready(process)
    code = process.run()
    if not process.broker.held:
        store.close()
    return code


def leave(code: int) -> None:
    """End this process now, without waiting for threads whose jobs were handed back."""
    logging.shutdown()
    os._exit(code)


def _threads(pool: str, settings: Settings) -> int:
    if pool == "sync":
        return settings.sync_threads
    return settings.event_threads + (settings.sync_threads if pool == "all" else 0)
