"""Failed jobs of Postgres under a person's hand: retry, discard, restore, and retry of a whole group."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from typing import Any

from engine.errors import BrokerUnavailable
from engine.queue.hints import Hints
from engine.queue.ports import Store

_LOOKS, _LOOK_S = 40, 0.05
"""How often and how far apart a retry looks for the job that follows one which is still leaving the queue."""


@dataclass(frozen=True)
class Retried:
    """``ids`` of the jobs that run now (empty where Redis is away: the reconciler puts them; or where the failed one
    does not leave the queue: they follow it); ``skipped`` targets that are gone or done."""

    ids: list[str]
    reached: int
    skipped: int = 0


class FailedJobs:
    """Postgres first, so that a retry survives whatever Redis does; then the hint."""

    def __init__(self, store: Store, hints: Hints) -> None:
        self._store = store
        self._hints = hints

    def retry(self, job_id: str) -> Retried:
        """Run what a failed or discarded job was for again, as a new job.

        Raises:
            NotFound: no such failed job.
            Conflict: it was retried already, or what it was for is gone.
            StoreUnavailable: Postgres is away; nothing was done.
        """
        row = self._store.call("jobs_failed_mark", job_id=job_id, state="retried", retried_as=None)
        new = self._follower(job_id, row)
        if new is None:
            return Retried([], 1)
        self._store.call("jobs_failed_mark", job_id=job_id, state="retried", retried_as=new)
        return Retried([new], 1)

    def discard(self, job_id: str) -> None:
        """Put a failed job aside. Raises as `retry`."""
        self._store.call("jobs_failed_mark", job_id=job_id, state="discarded")

    def restore(self, job_id: str) -> None:
        """Take a discarded job back among the failed ones. Raises as `retry`."""
        self._store.call("jobs_failed_mark", job_id=job_id, state="failed")

    def retry_group(self, fingerprint: str, expected: int, correlation: str | None = None) -> Retried:
        """Retry everything that a group of failures hit, also where the jobs' own records were trimmed.

        Raises:
            NotFound: no such group.
            Conflict: the group grew beyond ``expected``, what the person saw; nothing was done.
        """
        correlation = correlation or str(uuid.uuid4())
        answer = self._store.call(
            "failure_group_retry", fingerprint=fingerprint, expected=expected, correlation=correlation
        )
        ids = [self._hint(row, correlation) for row in answer["targets"]]
        return Retried([found for found in ids if found], len(answer["targets"]), answer["skipped"])

    def _follower(self, job_id: str, row: dict[str, Any]) -> str | None:
        """The new job. One that failed just now may not have left the queue yet: it is followed by the new one then."""
        pause = threading.Event()
        for _ in range(_LOOKS):
            new = self._hint(row, row["correlation"])
            if new != job_id:
                return new
            pause.wait(_LOOK_S)
        return None

    def _hint(self, row: dict[str, Any], correlation: str) -> str | None:
        try:
            return self._hints.put(
                row["queue"],
                row["target"],
                user_id=row["user_id"],
                institution=row["institution"],
                lane="high",
                trigger="retry",
                correlation=correlation,
                urgent=True,
            )
        except BrokerUnavailable:
            return None  # the wish is in Postgres; the reconciler puts its hint
