"""Dramatiq's broker on our scripts: lanes, leases and a ledger instead of lists and an acks set."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import dramatiq
import redis
from dramatiq.common import current_millis
from dramatiq.middleware import SkipMessage

from engine.errors import UsageError
from engine.queue import scripts
from engine.queue.connection import Line, translated
from engine.queue.consumer import Consumer
from engine.queue.hints import ANYBODY
from engine.queue.jobs import MAX_ARGUMENTS, Outcome, Proxy, Taken
from engine.queue.keys import LANES, Keys
from engine.queue.slots import Slots


@dataclass(kw_only=True)
class BrokerOptions:
    """What a broker needs to know besides its client."""

    worker_id: str
    threads: int = 8
    lease_s: float = 8.0
    keep_done: int = 10
    # Records a job that failed for good before it leaves Redis; raises a retryable error to be asked again.
    record: Callable[[Taken, Outcome], None] | None = None
    # Called (from a consumer's thread) when Redis may have lost something: its epoch key was missing, or it was away.
    wiped: Callable[[], None] | None = None


class Broker(dramatiq.Broker):
    """The broker. Consumers of all its queues share the process' free threads (`Slots`)."""

    def __init__(
        self, client: redis.Redis, keys: Keys, options: BrokerOptions, middleware: Iterable[dramatiq.Middleware] = ()
    ) -> None:
        super().__init__(middleware=list(middleware))
        self.client = client
        self.keys = keys
        self.options = options
        self.slots = Slots(options.threads)
        self._own = threading.local()
        self._lines: list[Line] = []
        self.closing = threading.Event()
        self.quiet = threading.Event()
        self.shut = threading.Event()  # nothing is taken while the database takes no work (`engine.jobs.gate`)
        self.held: dict[str, Proxy] = {}  # what this process has taken, by job id (changed by `hold` and `drop`)
        self._holding = threading.Lock()
        self.looked: dict[str, float] = {}  # when each queue was last looked at (monotonic)
        self.threads_by_queue: dict[str, dramatiq.ConsumerThread] = {}
        self.add_middleware(_Attach())

    # ------------------------------------------------------------ Dramatiq's interface

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30000) -> Consumer:
        return Consumer(self, queue_name)

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Queue a message. ``options`` may hold lane, user, key, item, institution, trigger, correlation.

        Raises:
            BrokerUnavailable: Redis does not answer.
            UsageError: a payload too big to be references.
        """
        self.emit_before("enqueue", message, delay)
        options = message.options
        args, kwargs = json.dumps(message.args), json.dumps(message.kwargs)
        if len(args) + len(kwargs) > MAX_ARGUMENTS:
            raise UsageError("A job's arguments are references; these are too long.", actor=message.actor_name)
        lane = options.get("lane", "medium")
        if lane not in LANES:
            raise UsageError(f"There is no lane {lane!r}.", actor=message.actor_name)
        if delay is None and "eta" in options:
            delay = max(0, options["eta"] - current_millis())
        with translated():
            scripts.run(
                self.client,
                self.keys,
                "enqueue",
                message.message_id,
                message.queue_name,
                lane,
                options.get("user") or ANYBODY,
                options.get("key") or "",
                message.actor_name,
                args,
                kwargs,
                options.get("item") or "",
                options.get("institution") or "",
                options.get("trigger") or "",
                options.get("correlation") or "",
                delay or 0,
                "1",
                "0",
            )
        self.emit_after("enqueue", message, delay)
        return message

    def close(self) -> None:
        """Let go of all connections. Only when the worker's threads have ended: they would meet closed ones."""
        self.closing.set()
        for line in self._lines:
            line.close()
        self.client.connection_pool.disconnect(inuse_connections=True)
        self.client.close()

    # ------------------------------------------------------------ for the worker process

    def wake_consumers(self) -> None:
        """Make this process' sleeping consumers look up (they see ``quiet`` and ``closing``)."""
        self.slots.wake()
        for queue in self.get_declared_queues():
            try:
                self.client.publish(self.keys.wake(queue), "1")
            except (redis.RedisError, OSError):
                return  # they wake by themselves within a second

    def hold(self, proxy: Proxy) -> None:
        """From now on its lease is renewed."""
        with self._holding:
            self.held[proxy.job.id] = proxy

    def drop(self, proxy: Proxy) -> None:
        """It has ended. Another start of the same job, which another thread may have taken by now, stays."""
        with self._holding:
            if self.held.get(proxy.job.id) is proxy:
                del self.held[proxy.job.id]

    def line(self) -> Line:
        """The calling thread's own connection."""
        found: Line | None = getattr(self._own, "line", None)
        if found is None:
            found = self._own.line = Line(self.client)
            self._lines.append(found)
        return found

    def new_epoch(self) -> bool:
        """Put the epoch key where it is missing. True: this process did, and must see to the rest."""
        made = bool(self.client.set(self.keys.epoch, str(current_millis()), nx=True))
        if made and self.options.wiped is not None:
            self.options.wiped()
        return made

    def hand_back(self) -> int:
        """Give all that this process holds back to its lanes, as starts that do not count. Answer: how many."""
        with translated():
            return int(
                scripts.run(
                    self.client, self.keys, "free", self.options.worker_id, "0", *sorted(self.get_declared_queues())
                )
            )


class _Attach(dramatiq.Middleware):
    """Ties the broker to Dramatiq's threads; the last of the middleware.

    Each consumer learns which Dramatiq thread it feeds, so that finishing a job can hand on the next one.
    A job that comes only to be recorded as failed does not run.
    """

    def after_consumer_thread_boot(self, broker: Any, thread: dramatiq.ConsumerThread) -> None:
        broker.threads_by_queue[thread.queue_name] = thread

    def before_process_message(self, broker: Any, message: Any) -> None:
        if isinstance(message, Proxy) and message.job.final:
            raise SkipMessage
