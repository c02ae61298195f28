"""A broker on the session's Valkey with actors of a test, and a worker in this process that runs them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import dramatiq
import redis

from engine.jobs.middleware import explicit
from engine.jobs.record import Recorder
from engine.jobs.stats import Stats
from engine.queue.broker import Broker, BrokerOptions
from engine.queue.connection import connect
from engine.queue.consumer import LeaseKeeper
from engine.queue.keys import Keys
from engine.settings import Settings


def settings(**changes: Any) -> Settings:
    """Settings with waits short enough for a test; leases as long as always, so that a machine that stands still for
    seconds ends none (a shorter one is over before a broker that nobody asked is taken for one that was away)."""
    return Settings(**{"backoff_first_s": 0.05, "backoff_factor": 1.0, "lease_s": 8.0, **changes})


class Bench:
    """One queue world of a test: keys, a client, and brokers as if each were a process of its own."""

    def __init__(self, url: str, namespace: str, store: Any = None) -> None:
        self.url = url
        self.keys = Keys(namespace)
        self.client = connect(url, "worker")  # which waits longest
        self.store = store
        self._open: list[tuple[Broker, dramatiq.Worker | None, Stats | None]] = []

    def broker(
        self,
        name: str = "w1",
        threads: int = 2,
        *,
        given: Settings | None = None,
        wiped: Callable[[], None] | None = None,
        middleware: Iterable[dramatiq.Middleware] = (),
    ) -> Broker:
        """A broker that is no process of its own yet: declare actors, then `work`."""
        given = given or settings()
        client = connect(self.url, "worker")
        record, stats = None, None
        chain = list(middleware)
        if self.store is not None:
            stats = Stats(self.store, client, self.keys)
            record = Recorder(self.store, client, self.keys, given)
            chain += explicit(given)
        options = BrokerOptions(
            worker_id=name,
            threads=threads,
            lease_s=given.lease_s,
            keep_done=given.keep_done,
            record=record,
            wiped=wiped,
        )
        broker = Broker(client, self.keys, options, chain)
        self._open.append((broker, None, stats))
        return broker

    def work(self, broker: Broker) -> dramatiq.Worker:
        """Start Dramatiq's worker on it."""
        worker = dramatiq.Worker(broker, worker_threads=broker.options.threads, worker_timeout=100)
        worker.start()
        LeaseKeeper(broker).start()
        self._open = [(b, worker if b is broker else w, s) for b, w, s in self._open]
        return worker

    def forget(self, broker: Broker) -> None:
        """Close a broker that was never given to `work`."""
        self._open = [entry for entry in self._open if entry[0] is not broker]
        broker.close()

    def state(self, job_id: str) -> str | None:
        found = self.client.hget(self.keys.job(job_id), "state")
        return None if found is None else str(found)

    def fields(self, job_id: str) -> dict[str, str]:
        found: Any = self.client.hgetall(self.keys.job(job_id))
        return dict(found)

    def flush_stats(self) -> None:
        for _, _, stats in self._open:
            if stats is not None:
                stats.flush()

    def close(self) -> None:
        for broker, worker, _ in self._open:
            broker.quiet.set()
            broker.closing.set()
            broker.wake_consumers()
            if worker is not None:
                worker.stop(5000)
            broker.close()
        with contextlib.suppress(redis.RedisError):
            for key in self.client.scan_iter(match=self.keys.prefix.replace("{", "[{]") + "*"):
                self.client.delete(key)
        self.client.close()


@contextlib.contextmanager
def bench(url: str, namespace: str, store: Any = None) -> Iterator[Bench]:
    made = Bench(url, namespace, store)
    try:
        yield made
    finally:
        made.close()
