"""The record in Postgres of a job that failed for good: its error, its attempts and the group it belongs to."""

from __future__ import annotations

from typing import Any

import redis

from engine import clock
from engine.errors import BrokerUnavailable
from engine.jobs import failures
from engine.jobs.middleware import FAILED
from engine.logs import logger
from engine.queue.events import ms_iso
from engine.queue.hints import ANYBODY, Hints
from engine.queue.jobs import Outcome, Taken
from engine.queue.keys import Keys
from engine.queue.lua_common import POISON_STARTS
from engine.queue.ports import Store
from engine.queue.view import timeline
from engine.settings import Settings

log = logger("jobs")


class Recorder:
    """Writes each failure once, however often it is asked: the job's id makes a repetition harmless."""

    def __init__(self, store: Store, client: redis.Redis, keys: Keys, settings: Settings) -> None:
        self._store = store
        self._client = client
        self._keys = keys
        self._keep = settings.keep_failed
        self._max_attempts = settings.max_attempts

    def __call__(self, job: Taken, outcome: Outcome) -> None:
        """Record the job.

        Raises:
            StoreUnavailable: Postgres is away; ask again.
            StoreRefused: it does not take the record.
        """
        attempts = self._attempts(job)
        error, group = self._error(job, outcome, attempts)
        if not attempts:
            attempts = [_only_attempt(job, error)]
        answer = self._store.call(
            "job_failed",
            job_id=job.id,
            queue=job.queue,
            actor=job.actor,
            lane=job.lane,
            trigger=job.trigger,
            arguments=job.message().kwargs,
            target=job.item_id,
            user_id=None if job.user_id in ("", ANYBODY) else job.user_id,
            institution=job.institution,
            correlation=job.correlation,
            fingerprint=group,
            rule_version=failures.RULE_VERSION,
            error=error,
            attempts=attempts,
            queued_at=ms_iso(job.queued_ms),
            keep=self._keep,
            max_attempts=self._max_attempts,
        )
        if not answer["recorded"]:
            return
        if job.final:
            log.error(FAILED.get(job.queue, "❌ Job failed"), job=job.id, code=error["code"], final=True)
        self._tell(answer.get("outbox"), job)

    def _attempts(self, job: Taken) -> list[dict[str, Any]]:
        try:
            fields: Any = self._client.hgetall(self._keys.job(job.id))
        except (redis.RedisError, OSError):
            return []
        return timeline(fields) if fields else []

    def _error(self, job: Taken, outcome: Outcome, attempts: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
        """The error to record, and its group."""
        if job.final == failures.POISON:
            poison = failures.poison(POISON_STARTS)
            return poison.json(), failures.fingerprint(None, poison, job.queue, job.institution)
        if outcome.exception is not None:
            found = failures.describe(outcome.exception, job.institution)
            return found.json(), failures.fingerprint(outcome.exception, found, job.queue, job.institution)
        for entry in reversed(attempts):
            if entry.get("error"):
                error = dict(entry["error"])
                group = error.pop("group", "")
                found = failures.Described(**error)
                return error, group or failures.fingerprint(None, found, job.queue, job.institution)
        lost = failures.Described("engine", "LOST", "The job's error was lost", "Redis lost what this job met.")
        return lost.json(), failures.fingerprint(None, lost, job.queue, job.institution)

    def _tell(self, outbox_id: int | None, job: Taken) -> None:
        if outbox_id is None:
            return
        try:
            Hints(self._client, self._keys).notification(outbox_id, None, job.correlation)
        except BrokerUnavailable:
            log.debug("the reconciler puts the hint", job=job.id)


def _only_attempt(job: Taken, error: dict[str, Any]) -> dict[str, Any]:
    """Where Redis cannot tell of the others."""
    return {
        "number": job.start,
        "started_at": clock.iso(clock.now()),
        "duration_ms": None,
        "outcome": "failed",
        "error": error,
        "waited_ms": float(job.waited_ms),
        "worker": None,
    }
