"""Admin routes of queues, jobs and failures."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from engine.api import types, types_jobs, views
from engine.api.actions import audited, correlation
from engine.api.phrases import QUEUE_LABELS, count
from engine.api.routing import Call, Route
from engine.api.tables import act, get, page_size
from engine.errors import Conflict, NotFound, UsageError
from engine.queue.failed import FailedJobs

MOST_AT_A_TIME = 200
MOST_A_MINUTE = 1_000_000

_GROUP_CURSOR = re.compile(r"[tf]\|[0-9]{1,18}\|.{1,200}")


class JobsQuery(Struct):
    """``q`` searches ids, banks and causes; ``group`` is a fingerprint of failures."""

    state: str | None = None
    queue: types.QueueName | None = None
    q: str | None = None
    group: str | None = None
    after: str | None = None
    limit: int = 50


class SpanQuery(Struct):
    span: types.Span = "24h"


class FailuresQuery(SpanQuery):
    after: str | None = None
    limit: int = 200


def queues(call: Call) -> types_jobs.Queues:
    return types_jobs.Queues(queues=views.queues(call.context))


def _queue(call: Call) -> str:
    name = call.path["name"]
    if name not in QUEUE_LABELS:
        raise NotFound("There is no such queue.")
    return name


def pause_queue(call: Call) -> types.Done:
    name = _queue(call)

    def work() -> types.Done:
        call.context.control.pause(name)
        return types.Done(message=f"{QUEUE_LABELS[name]} starts nothing new.", ids=[name])

    return audited(call, "queue.pause", f"queue:{name}", work)


def resume_queue(call: Call) -> types.Done:
    name = _queue(call)

    def work() -> types.Done:
        call.context.control.resume(name)
        return types.Done(message=f"{QUEUE_LABELS[name]} goes on.", ids=[name])

    return audited(call, "queue.resume", f"queue:{name}", work)


def change_queue(call: Call) -> types.Done:
    """Null leaves a limit as it is; a rate of 0 takes the limit away."""
    name, change = _queue(call), call.body
    if change.concurrency is not None and change.concurrency not in range(1, MOST_AT_A_TIME + 1):
        raise UsageError(f"A queue runs 1 to {MOST_AT_A_TIME} jobs at a time.")
    if (change.per_minute or 0) not in range(MOST_A_MINUTE + 1):
        raise UsageError(f"A rate is 0 (no limit) to {MOST_A_MINUTE:,} jobs a minute.")

    def work() -> types.Done:
        now = next(row for row in views.queues(call.context) if row.name == name)
        concurrency = now.concurrency if change.concurrency is None else change.concurrency
        per_minute = now.per_minute if change.per_minute is None else (change.per_minute or None)
        call.context.control.limit(name, concurrency, per_minute)
        rate = f", {per_minute} a minute" if per_minute else ""
        return types.Done(message=f"{QUEUE_LABELS[name]}: {concurrency} at a time{rate}.", ids=[name])

    return audited(call, "queue.limit", f"queue:{name}", work)


def test_queue(call: Call) -> types.Done:
    """Send one marked job through broker, worker and database. Its notice says that it went through."""
    name, correlation_id = _queue(call), correlation()
    if name != "notifications":
        raise Conflict("Only the notifications queue takes a test job: the others work on banks.")

    def work() -> types.Done:
        row = call.context.store.call(
            "outbox_add",
            kind="test",
            correlation=correlation_id,
            payload={"title": "Queue test", "sentence": "A test job went through broker, worker and database."},
        )
        job_id = call.context.hints.notification(row["id"], None, correlation_id)
        return types.Done(message="The test job is queued.", ids=[job_id], correlation_id=correlation_id)

    return audited(call, "queue.test", f"queue:{name}", work)


def jobs(call: Call) -> types_jobs.JobPage:
    ask = call.query
    limit = page_size(ask.limit)
    return views.jobs(call.context, ask.state or None, ask.queue, ask.q, ask.group, ask.after, limit)


def job(call: Call) -> types_jobs.JobDetail:
    return views.job(call.context, call.path["id"])


def _failed(call: Call) -> FailedJobs:
    return FailedJobs(call.context.store, call.context.hints)  # type: ignore[arg-type]


def retry(call: Call) -> types.Done:
    def work(job_id: str) -> types.Done:
        made = _failed(call).retry(job_id)
        words = "The job runs again." if made.ids else "The job runs again as soon as the queue answers."
        return types.Done(message=words, ids=made.ids)

    return _on_job(call, "job.retry", work)


def discard(call: Call) -> types.Done:
    def work(job_id: str) -> types.Done:
        _failed(call).discard(job_id)
        return types.Done(message="The job is discarded; it can be restored.", ids=[job_id])

    return _on_job(call, "job.discard", work)


def restore(call: Call) -> types.Done:
    def work(job_id: str) -> types.Done:
        _failed(call).restore(job_id)
        return types.Done(message="The job is back among the failed ones.", ids=[job_id])

    return _on_job(call, "job.restore", work)


def cancel(call: Call) -> types.Done:
    def work(job_id: str) -> types.Done:
        if not call.context.control.cancel(job_id):
            raise _gone(call, job_id)
        return types.Done(message="The job is cancelled.", ids=[job_id])

    return _on_job(call, "job.cancel", work)


def run(call: Call) -> types.Done:
    def work(job_id: str) -> types.Done:
        if not call.context.control.run_now(job_id):
            raise _gone(call, job_id)
        return types.Done(message="The job is next in line.", ids=[job_id])

    return _on_job(call, "job.run", work)


def _on_job(call: Call, action: str, work: Callable[[str], types.Done]) -> types.Done:
    job_id = call.path["id"]
    return audited(call, action, f"job:{job_id}", lambda: work(job_id), topic="jobs")


def _gone(call: Call, job_id: str) -> NotFound | Conflict:
    """Why a live job's action found nothing: it failed meanwhile, or was never there."""
    try:
        call.context.store.call("job_failed_get", job_id=job_id)
    except NotFound as error:
        return error
    return Conflict("This job failed meanwhile: retry or discard it instead.", job=job_id)


def failures(call: Call) -> types_jobs.FailureGroups:
    query = call.query
    if query.after is not None and not _GROUP_CURSOR.fullmatch(query.after):
        raise UsageError("The cursor belongs to another list.")
    return views.failure_groups(call.context, query.span, query.after, page_size(query.limit))


def retry_group(call: Call) -> types.Done:
    fingerprint, expected = call.path["fingerprint"], call.body.expected
    correlation_id = correlation()

    def work() -> types.Done:
        made = _failed(call).retry_group(fingerprint, expected, correlation_id)
        skipped = f"; {made.skipped} left out, since what they were for is done or gone" if made.skipped else ""
        return types.Done(
            message=f"{count(made.reached, 'job')} run again{skipped}.", ids=made.ids, correlation_id=correlation_id
        )

    return audited(call, "failures.retry", f"group:{fingerprint}", work, topic="jobs")


def routes() -> list[Route]:
    """Rows of queues, jobs and failures."""
    return [
        get("queues", "State of every queue.", queues, types_jobs.Queues),
        act("queues/{name}/pause", "Start nothing more of a queue.", pause_queue),
        act("queues/{name}/resume", "End the pause of a queue.", resume_queue),
        act("queues/{name}/test", "Send a test job through a queue.", test_queue),
        act(
            "queues/{name}", "Change a queue's limits, live.", change_queue, body=types_jobs.QueueChange, method="PATCH"
        ),
        get("jobs", "Jobs by state, live and failed.", jobs, types_jobs.JobPage, query=JobsQuery),
        get("jobs/{id}", "One job: attempts, errors, its thread.", job, types_jobs.JobDetail, found=True),
        act("jobs/{id}/retry", "Run a failed or discarded job again.", retry),
        act("jobs/{id}/discard", "Put a failed job aside.", discard),
        act("jobs/{id}/restore", "Take a discarded job back.", restore),
        act("jobs/{id}/cancel", "Drop a job that has not started.", cancel),
        act("jobs/{id}/run", "Run a waiting or delayed job next.", run),
        get("failures", "Failures by cause.", failures, types_jobs.FailureGroups, query=FailuresQuery),
        act("failures/{fingerprint}/retry", "Retry all that one cause hit.", retry_group, body=types_jobs.GroupRetry),
    ]
