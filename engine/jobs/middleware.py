"""What happens around every job, in the open: none of Dramatiq's default middleware runs.

In the order in which they see a job's end: `Attempts` decides, `Lines` writes the log; `explicit` gives them in the
order in which Dramatiq wants them. The queue itself counts ends (`engine.queue.lua_stats`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import dramatiq

from engine import logs
from engine.jobs import causes
from engine.jobs.failures import describe, fingerprint
from engine.jobs.pace import Later, again
from engine.queue.jobs import Outcome, Proxy
from engine.settings import Settings

log = logs.logger("jobs")

# The lines an operator looks for, by queue; those of the first are fixed words.
STARTED = {
    "transactions": logs.PROCESSING,
    "webhooks": "🔄 Processing webhook job",
    "notifications": "🔄 Processing notification job",
}
COMPLETED = {
    "transactions": logs.COMPLETED,
    "webhooks": "✅ Webhook job completed",
    "notifications": "✅ Notification job completed",
}
FAILED = {
    "transactions": logs.FAILED,
    "webhooks": "❌ Webhook job failed",
    "notifications": "❌ Notification job failed",
}


class Attempts(dramatiq.Middleware):
    """Turns a job's end into an `Outcome`: done, again later, or failed for good.

    Actors declared with ``takes_job`` are given their job (a `Proxy`) as the argument ``job``. ``throws`` keeps
    Dramatiq from logging an exception with its message and values; `Lines` says what may be said.
    """

    def __init__(self, settings: Settings, stopped: Callable[[BaseException], bool]) -> None:
        """``stopped``: whether nothing is taken any more because of what an error says (`engine.jobs.gate`)."""
        self._settings, self._stopped = settings, stopped

    @property
    def actor_options(self) -> set[str]:
        return {"throws", "takes_job"}

    def before_process_message(self, broker: Any, message: Any) -> None:
        if isinstance(message, Proxy) and not message.job.final:
            actor = broker.actors.get(message.actor_name)
            if actor is not None and actor.options.get("takes_job"):
                message.kwargs["job"] = message

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if not isinstance(message, Proxy):
            return
        if exception is None:
            if message.outcome is None:
                message.outcome = Outcome("done")
            message.outcome.past = (*causes.past(None), *message.past)
            return
        job = message.job
        found = describe(exception, job.institution)
        group = fingerprint(exception, found, job.queue, job.institution)
        error = json.dumps({**found.json(), "group": group})
        if self._stopped(exception):
            message.outcome = Outcome("retry", error=error, counts=False, forget=True)
            return
        repeat = again(exception, self._settings, tries=job.tries, start=job.start)
        cause, past = causes.shared(exception, job.institution), causes.past(exception)
        if cause and cause == job.early and not isinstance(exception, Later):
            # It only tried whether the cause is over; its own turn comes when it was due anyway.
            message.outcome = Outcome("retry", error=error, counts=False, forget=True, cause=cause, past=past)
        elif repeat is None:
            message.outcome = Outcome("failed", error=error, exception=exception)
        else:
            message.outcome = Outcome(
                "retry",
                error=error,
                delay_ms=int(repeat.delay_s * 1000),
                counts=repeat.counts,
                forget=repeat.forget,
                exception=exception,
                cause=cause,
                past=past,
            )


class Lines(dramatiq.Middleware):
    """One line when a job starts and one when it ends. References, times and counts; no more."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        if not isinstance(message, Proxy) or message.job.final:
            return
        job = message.job
        if log.isEnabledFor(logging.INFO):
            log.info(STARTED.get(job.queue, "🔄 Processing job"), **_facts(message), waited_ms=job.waited_ms)

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if not isinstance(message, Proxy) or message.outcome is None:
            return
        outcome, queue = message.outcome, message.job.queue
        if outcome.kind == "done" and not log.isEnabledFor(logging.INFO):
            return
        facts = {**_facts(message), "duration_ms": message.duration_ms, **message.counts}
        if outcome.kind == "done":
            log.info(COMPLETED.get(queue, "✅ Job completed"), **facts)
        elif outcome.kind == "failed":
            code = json.loads(outcome.error)["code"]
            log.error(FAILED.get(queue, "❌ Job failed"), **facts, code=code, final=True)
        elif not outcome.counts:
            log.info("Job waits", **facts, code=json.loads(outcome.error)["code"], again_ms=outcome.delay_ms)
        else:
            code = json.loads(outcome.error)["code"]
            log.warning(FAILED.get(queue, "❌ Job failed"), **facts, code=code, final=False, again_ms=outcome.delay_ms)


def _facts(message: Proxy) -> dict[str, Any]:
    job = message.job
    return {
        "job": job.id,
        "target": job.item_id,
        "trigger": job.trigger,
        "attempt": job.start,
        "correlation": job.correlation,
    }


def explicit(
    settings: Settings, stopped: Callable[[BaseException], bool] = lambda _: False
) -> list[dramatiq.Middleware]:
    """All of a worker's middleware. Dramatiq runs what comes after a job in reverse order."""
    return [Lines(), Attempts(settings, stopped)]
