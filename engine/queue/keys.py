"""The names of everything we keep in Redis, in one place. One hash tag, so one slot of a cluster."""

from __future__ import annotations

from dataclasses import dataclass

QUEUES = ("transactions", "webhooks", "notifications")
LANES = ("high", "medium", "low")


@dataclass(frozen=True)
class Keys:
    """Key names under one namespace; the Lua scripts build the same ones from ``prefix``."""

    namespace: str

    @property
    def prefix(self) -> str:
        return "{" + self.namespace + "}:"

    @property
    def epoch(self) -> str:
        """Missing means that Redis was wiped or replaced: everything live must be put back from Postgres."""
        return self.prefix + "epoch"

    @property
    def events(self) -> str:
        return self.prefix + "events"

    @property
    def limits(self) -> str:
        """Hash: ``<queue>:concurrency``, ``<queue>:per_minute``, ``<queue>:paused``."""
        return self.prefix + "limits"

    @property
    def weights(self) -> str:
        """Hash of users whose weight is not one: how many jobs of theirs run before the ring turns."""
        return self.prefix + "weights"

    @property
    def totals(self) -> str:
        """Hash of counters over all processes, for /metrics."""
        return self.prefix + "totals"

    @property
    def workers(self) -> str:
        """Sorted set of worker ids by their last heartbeat."""
        return self.prefix + "workers"

    @property
    def commands(self) -> str:
        """Hash of what workers and pools were told, and the channel that tells them to look."""
        return self.prefix + "commands"

    @property
    def gate(self) -> str:
        """Why no work is taken: the database is away, read-only or full (`engine.queue.gate`)."""
        return self.prefix + "gate"

    @property
    def reconciled(self) -> str:
        """Present for a while after a reconciler ran, so that several do not work at once."""
        return self.prefix + "reconciled"

    def job(self, job_id: str) -> str:
        return f"{self.prefix}job:{job_id}"

    def wake(self, queue: str) -> str:
        return f"{self.prefix}wake:{queue}"

    def running(self, queue: str) -> str:
        return f"{self.prefix}running:{queue}"

    def delayed(self, queue: str) -> str:
        return f"{self.prefix}delayed:{queue}"

    def retrying(self, queue: str) -> str:
        return f"{self.prefix}retrying:{queue}"

    def done(self, queue: str) -> str:
        return f"{self.prefix}done:{queue}"

    def ring(self, queue: str, lane: str) -> str:
        return f"{self.prefix}ring:{queue}:{lane}"

    def lane(self, queue: str, lane: str, user: str) -> str:
        return f"{self.prefix}lane:{queue}:{lane}:{user}"

    def hint(self, key: str) -> str:
        return f"{self.prefix}hint:{key}"

    def worker(self, worker_id: str) -> str:
        return f"{self.prefix}worker:{worker_id}"

    def bucket(self, name: str) -> str:
        return f"{self.prefix}bucket:{name}"
