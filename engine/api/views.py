"""Lists and details: what is live in Redis and what is kept in Postgres, as one."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import msgspec

from engine import clock
from engine.api import phrases, types_banks, types_jobs
from engine.api.context import Context
from engine.errors import BrokerUnavailable, NotFound, StoreUnavailable, UsageError
from engine.plaid.words import removal, words, words_for_state

LIVE = ("running", "retrying", "waiting", "delayed")
EVERY = (*LIVE, "failed", "done")
PLAID = "plaid"
"""The kind of errors (`engine.jobs.failures`) that Plaid's words explain."""
SCAN = 2000
"""Live jobs looked at for one page of a search; Redis has no index of them."""


# ---------------------------------------------------------------- queues


def queues(
    context: Context, stats: dict[str, Any] | None = None, *, reachable: bool = True
) -> list[types_jobs.QueueStatus]:
    """State of every queue. Redis' figures are zero where it does not answer, or is known not to (``reachable``)."""
    kept = stats if stats is not None else context.store.call("queue_stats")
    try:
        failing = context.store.call("failing") if kept else {}
    except StoreUnavailable:
        failing = {}  # went away meanwhile; whoever looks next is told
    live: dict[str, dict[str, Any]] = {}
    if reachable:
        try:
            live = {row["name"]: row for row in context.view.queues()}
        except BrokerUnavailable:
            live = {}
    return [
        _queue(context, name, live.get(name, {}), kept.get(name, {}), failing=name in failing)
        for name in phrases.QUEUE_LABELS
    ]


def _queue(
    context: Context, name: str, live: dict[str, Any], kept: dict[str, Any], *, failing: bool
) -> types_jobs.QueueStatus:
    minutes = kept.get("last_hour") or []
    settings = context.settings
    default = {
        "transactions": settings.sync_concurrency,
        "webhooks": settings.webhook_concurrency,
        "notifications": settings.notification_concurrency,
    }[name]
    return types_jobs.QueueStatus(
        name=name,  # type: ignore[arg-type]
        label=phrases.QUEUE_LABELS[name],
        paused=bool(live.get("paused", False)),
        waiting=live.get("waiting", 0),
        delayed=live.get("delayed", 0),
        running=live.get("running", 0),
        retrying=live.get("retrying", 0),
        failed=kept.get("failed", 0),
        done_24h=kept.get("done_24h", 0),
        failed_24h=kept.get("failed_24h", 0),
        oldest_wait_ms=live.get("oldest_wait_ms"),
        concurrency=live.get("concurrency") or default,
        per_minute=live.get("per_minute"),
        consumers=live.get("consumers", 0),
        last_hour=[sum(minutes[at : at + 3]) for at in range(0, len(minutes), 3)],
        high_failure_rate=failing,
        muted=kept.get("muted", 0),
    )


# ---------------------------------------------------------------- jobs


def jobs(
    context: Context,
    state: str | None,
    queue: str | None,
    q: str | None,
    group: str | None,
    after: str | None,
    limit: int,
) -> types_jobs.JobPage:
    """One page of jobs. Without a state: running, retrying, waiting, delayed, failed, done, one after another.

    Raises:
        UsageError: no such state or cursor.
        BrokerUnavailable: live jobs were asked for and Redis does not answer.
    """
    if state is not None and state not in {*EVERY, "discarded"}:
        raise UsageError(f"There is no state {state!r} of a job.")
    sections = (state,) if state else (EVERY if group is None else ("failed",))
    at, inner = _cursor(after) if after else ("", "")
    if after and at not in sections:
        raise UsageError("The cursor belongs to another list.")
    start = sections.index(at) if at else 0
    found: list[types_jobs.Job] = []
    following: str | None = None
    for place in range(start, len(sections)):
        cursor = inner if place == start and inner else None
        page, more = _section(context, sections[place], queue, q, group, cursor, limit - len(found))
        found += page
        if more is not None:
            following = _token(sections[place], more)
        elif place + 1 < len(sections):
            following = _token(sections[place + 1], "")
        else:
            following = None
        if len(found) >= limit or more is not None:
            break
    return types_jobs.JobPage(jobs=found, counts=job_counts(context, queue), next=following)


def _token(section: str, inner: str) -> str:
    """A cursor that needs no escaping in a URL."""
    return base64.urlsafe_b64encode(f"{section}|{inner}".encode()).decode().rstrip("=")


def _cursor(text: str) -> tuple[str, str]:
    try:
        section, _, inner = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition("|")
    except ValueError as error:
        raise UsageError("The cursor belongs to another list.") from error
    return section, inner


def _section(
    context: Context, state: str, queue: str | None, q: str | None, group: str | None, after: str | None, limit: int
) -> tuple[list[types_jobs.Job], str | None]:
    if state in {"failed", "discarded"}:
        page = context.store.call(
            "jobs_failed_list", state=state, queue=queue, q=q, group=group, after=after, limit=limit
        )
        return msgspec.convert(page["jobs"], list[types_jobs.Job]), page["next"]
    if group is not None:
        return [], None
    if not q:
        page = context.view.jobs(state, queue, after, limit)
        return msgspec.convert(page["jobs"], list[types_jobs.Job]), page["next"]
    found: list[types_jobs.Job] = []
    scanned = 0
    while True:
        page = context.view.jobs(state, queue, after, limit)
        found += [job for job in msgspec.convert(page["jobs"], list[types_jobs.Job]) if _fits(job, q)]
        scanned += limit
        after = page["next"]
        if after is None or len(found) >= limit or scanned >= SCAN:
            return found, after


def _fits(job: types_jobs.Job, q: str) -> bool:
    text = q.lower()
    exact = (job.id, job.item_id or "", job.correlation_id)
    return text in exact or any(
        text in (value or "").lower() for value in (job.institution, job.label, job.error_code, job.error_title)
    )


def job_counts(context: Context, queue: str | None) -> dict[str, int]:
    """Jobs by state; live states are left out where Redis does not answer, since unknown is not zero."""
    kept = context.store.call("jobs_failed_list", state="failed", queue=queue, limit=1)["counts"]
    counts = {"failed": kept["failed"], "discarded": kept["discarded"]}
    if queue is not None:
        counts["failed"] = context.store.call("queue_stats")[queue]["failed"]
    try:
        for row in context.view.queues():
            if queue is None or row["name"] == queue:
                for state in LIVE:
                    counts[state] = counts.get(state, 0) + row[state]
        counts["done"] = len(context.view.jobs("done", queue, None, 1000)["jobs"])
    except BrokerUnavailable:
        pass
    return counts


def job(context: Context, job_id: str) -> types_jobs.JobDetail:
    """A job's detail: live, or kept as failed.

    Raises:
        NotFound: neither knows it.
    """
    kept: dict[str, Any] | None = None
    try:
        kept = context.store.call("job_failed_get", job_id=job_id)
    except NotFound:
        kept = None
    found = kept if kept is not None else context.view.job(job_id)
    if found is None:
        raise NotFound("There is no such job; finished ones are kept for a while only.")
    shown = msgspec.convert(found["job"], types_jobs.Job)
    timeline = msgspec.convert(found["timeline"], list[types_jobs.Attempt])
    error = next((attempt.error for attempt in reversed(timeline) if attempt.error is not None), None)
    title, sentence = phrases.job_words(shown.state)
    action: str | None = None
    if error is not None and shown.state in {"failed", "discarded", "retrying"}:
        title, sentence = error.title, error.sentence
        action = words(error.code, shown.institution).action if error.kind == PLAID else None
    allowed = list(phrases.ALLOWED.get(shown.state, ()))
    if kept is not None and kept.get("recorded_state") == "retried":
        allowed = []
        title, sentence = "Retried", "This job was started again as a new one."
    since: types_jobs.WentThrough | None = None
    if kept is not None and allowed:
        since = msgspec.convert(context.store.call("job_went_through", job_id=job_id), types_jobs.WentThrough | None)
    if since is not None:
        action, sentence = None, f"{sentence} It went through since; nothing is left to do."
    return types_jobs.JobDetail(
        job=shown,
        timeline=timeline,
        thread=thread(context, shown),
        arguments=found["arguments"],
        title=title,
        sentence=sentence,
        action=action,
        allowed=allowed,
        went_through=since,
    )


def thread(context: Context, job: types_jobs.Job) -> list[types_jobs.ThreadEvent]:
    """Everything that carries the job's correlation id, with the milliseconds from one hop to the next."""
    rows = context.store.call("job_thread", correlation=job.correlation_id) if job.correlation_id else []
    events = [
        types_jobs.ThreadEvent(
            at=row["at"], kind=row["kind"], text=phrases.thread_text(row["kind"], row["detail"]), target=row["target"]
        )
        for row in rows
    ]
    events.append(types_jobs.ThreadEvent(at=_iso(job.queued_at), kind="queued", text=f"Queued in lane {job.lane}"))
    if job.started_at:
        text = "Picked up" if job.attempts < 2 else f"Picked up, start {job.attempts}"
        events.append(types_jobs.ThreadEvent(at=_iso(job.started_at), kind="started", text=text))
    if job.finished_at:
        text = "Failed for good" if job.state in {"failed", "discarded"} else "Job finished"
        events.append(types_jobs.ThreadEvent(at=_iso(job.finished_at), kind="finished", text=text))
    events.sort(key=lambda event: event.at)
    for before, event in itertools.pairwise(events):
        event.ms = round((clock.parse(event.at) - clock.parse(before.at)).total_seconds() * 1000, 1)
    return events


def _iso(text: str) -> str:
    return clock.iso(clock.parse(text))


def failure_groups(context: Context, span: str, after: str | None, limit: int) -> types_jobs.FailureGroups:
    """One page of failures by cause, with the cure of each."""
    page = context.store.call("failure_groups_list", span=span, after=after, limit=limit)
    for group in page["groups"]:
        cure = words(group["code"], None).action if group["kind"] == PLAID else None
        group["action"] = cure if cure not in {None, "Copy details"} else "Retry"
        group["title"] = group["title"] or group["code"]
        group["sentence"] = group["sentence"] or ""
    return msgspec.convert(page, types_jobs.FailureGroups)


# ---------------------------------------------------------------- banks


def items(context: Context, state: str | None, q: str | None, after: str | None, limit: int) -> types_banks.ItemPage:
    """One page of bank links."""
    page = context.reader.call("items_list", state=state, q=q, after=after, limit=limit)
    for row in page["items"]:
        _explain(row)
    return msgspec.convert(page, types_banks.ItemPage)


def item(context: Context, item_id: str) -> types_banks.ItemDetail:
    """One bank link with its accounts and latest runs."""
    found = context.reader.call("item_get", item=identifier(item_id))
    _explain(found["item"])
    found["removes"] = removal(found["item"]["accounts"], found["item"]["transactions"])
    return msgspec.convert(found, types_banks.ItemDetail)


def _explain(row: dict[str, Any]) -> None:
    said = words_for_state(row["state"], row["state_code"], row["institution"] or None)
    row["title"], row["sentence"], row["action"] = said.title, said.sentence, said.action


def identifier(text: str) -> str:
    """A UUID from a path or a body, in its usual form.

    Raises:
        NotFound: it is none, so nothing has it.
    """
    import uuid

    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise NotFound("There is nothing with this id.") from error
