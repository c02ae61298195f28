"""What an operator does to queues, live jobs and workers. Limits are kept in Postgres and put back after a wipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import redis

from engine.errors import Conflict, NotFound, UsageError
from engine.queue import events, limits, scripts
from engine.queue.connection import translated
from engine.queue.keys import QUEUES, Keys
from engine.queue.ports import Store

Verb = Literal["quiet", "resume", "stop"]
POOLS: Final = ("sync", "events")


class Control:
    """Orders of a person. Without a store, limits live as long as Redis does."""

    def __init__(self, client: redis.Redis, keys: Keys, store: Store | None = None) -> None:
        self._client = client
        self._keys = keys
        self._store = store

    # ------------------------------------------------------------ queues

    def pause(self, queue: str) -> None:
        """Start nothing more of this queue, in the whole install. Jobs that run go on.

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        self._set(queue, paused="1")

    def resume(self, queue: str) -> None:
        """End a `pause`. Raises as it does."""
        self._set(queue, paused="")

    def limit(self, queue: str, concurrency: int | None, per_minute: int | None) -> None:
        """Set how many jobs of a queue run at a time, and start a minute, in the whole install (None: no limit).

        Raises:
            BrokerUnavailable: Redis does not answer.
            UsageError: a limit below one, or no such queue.
        """
        for value in (concurrency, per_minute):
            if value is not None and value < 1:
                raise UsageError("A limit is at least 1; pause the queue to stop it.", queue=queue)
        self._set(
            queue,
            concurrency="" if concurrency is None else str(concurrency),
            per_minute="" if per_minute is None else str(per_minute),
        )

    def weigh(self, weights: Mapping[str, int]) -> None:
        """Let so many jobs of a user run before it is another one's turn: all users whose weight is not one.

        Raises:
            BrokerUnavailable: Redis does not answer. The reconciler puts them.
        """
        limits.put(self._client, self._keys, weights)

    def _set(self, queue: str, **fields: str) -> None:
        if queue not in QUEUES:
            raise UsageError(f"There is no queue {queue!r}.", queue=queue)
        self._put(queue, fields)  # at once, also while Postgres is away
        if self._store is not None:
            # Only what a person changed: the rest goes on following the settings.
            kept = self._store.call("settings_get", key=f"queue.{queue}") or {}
            self._store.call("setting_put", key=f"queue.{queue}", value=kept | fields, who="operator")
            self._put(queue, fields)  # a reconciler may have put what was kept before
        events.publish(self._client, self._keys, "queues", queue)

    def _put(self, queue: str, fields: dict[str, str]) -> None:
        with translated():
            self._client.hset(self._keys.limits, mapping={f"{queue}:{name}": value for name, value in fields.items()})
            self._client.publish(self._keys.wake(queue), "1")

    # ------------------------------------------------------------ jobs

    def cancel(self, job_id: str) -> bool:
        """Drop a job that has not started, with the wish behind it. False: there is no such live job.

        Raises:
            BrokerUnavailable: Redis does not answer.
            Conflict: it runs or has ended.
        """
        with translated():
            queue, target = self._client.hmget(self._keys.job(job_id), ["queue", "item"])
        if queue is None:
            return False
        if self._move(job_id, "cancel") == "":
            return False
        if self._store is not None and target and queue in QUEUES:
            self._store.call("wish_cancel", queue=queue, target=target)
        return True

    def run_now(self, job_id: str) -> bool:
        """Put a job that waits or retries at the front of the first lane. False: there is no such live job.

        Raises: as `cancel`.
        """
        return self._move(job_id, "now") != ""

    def change_lane(self, job_id: str, lane: str) -> bool:
        """Put a job that has not started into another lane, behind those in it. False: there is no such live job.

        Raises: as `cancel`.
        """
        with translated():
            state = str(scripts.run(self._client, self._keys, "lane", job_id, lane))
        return _not_begun(state, job_id) != ""

    def _move(self, job_id: str, what: str) -> str:
        with translated():
            state = str(scripts.run(self._client, self._keys, "move", job_id, what))
        return _not_begun(state, job_id)

    # ------------------------------------------------------------ workers

    def command(self, target: str, verb: str) -> None:
        """Tell one worker (its id) or all of a pool (``sync``, ``events``): ``quiet``, ``resume`` or ``stop``.

        A pool stays quiet over restarts of its processes until it is resumed.

        Raises:
            BrokerUnavailable: Redis does not answer.
            NotFound: no such worker reported lately.
            UsageError: no such command.
        """
        if verb not in ("quiet", "resume", "stop"):
            raise UsageError(f"A worker does not understand {verb!r}.")
        with translated():
            if target in POOLS and verb == "quiet":
                self._client.hset(self._keys.commands, target, verb)
            elif target in POOLS and verb == "resume":
                self._client.hdel(self._keys.commands, target)
            else:
                for worker_id in self._members(target):
                    self._client.hset(self._keys.commands, worker_id, verb)
            self._client.publish(self._keys.commands, target)
            events.publish(self._client, self._keys, "workers", target)

    def _members(self, target: str) -> list[str]:
        ids: list[Any] = self._client.zrange(self._keys.workers, 0, -1)
        found = [
            str(worker_id)
            for worker_id in ids
            if target in (worker_id, self._client.hget(self._keys.worker(worker_id), "pool"))
        ]
        if not found:
            raise NotFound(f"No worker {target!r} has reported lately.", worker=target)
        return found

    def free(self, worker_prefix: str, *, counted: bool = True) -> int:
        """Give back at once what a worker process that ended held. Answer: how many jobs.

        ``worker_prefix`` is the start of its id (`engine.queue.identity`). ``counted``: the start took it
        down, which a job may do three times.

        Raises:
            BrokerUnavailable: Redis does not answer; the leases run out by themselves.
        """
        with translated():
            count = int(scripts.run(self._client, self._keys, "free", worker_prefix, int(counted), *QUEUES))
            ids: list[Any] = self._client.zrange(self._keys.workers, 0, -1)
            for worker_id in ids:
                if str(worker_id).startswith(worker_prefix):
                    self._client.zrem(self._keys.workers, worker_id)
                    self._client.delete(self._keys.worker(worker_id))
            return count


def _not_begun(state: str, job_id: str) -> str:
    if state in ("running", "done", "failing"):
        words = {"running": "runs already", "done": "is done already", "failing": "is being recorded as failed"}
        raise Conflict(f"This job {words[state]}.", job=job_id)
    return state
