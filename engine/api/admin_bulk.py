"""Admin routes of bulk actions; samples of a cause of failures, and quiet for it."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from msgspec import Struct

from engine import clock
from engine.api import types, types_bulk
from engine.api.actions import audited
from engine.api.context import Context
from engine.api.phrases import count
from engine.api.routing import Call, Route
from engine.api.tables import act, get, page_size
from engine.errors import UsageError

CANARY_FROM = 10
MOST_MOVED = 10_000
PAGE = 500


class PageQuery(Struct):
    after: str | None = None
    limit: int = 50


class EntriesQuery(Struct):
    state: types_bulk.EntryState | None = None
    after: int = 0
    limit: int = 50


def preview(call: Call) -> types_bulk.BulkPreview:
    """How many jobs a filter matches now, by cause, and what would be left out."""
    ask = call.body
    if ask.verb == "move":
        return types_bulk.BulkPreview(total=len(_waiting(call.context, ask.filter)))
    found = call.context.store.call("bulk_preview", verb=ask.verb, filter=_filter(ask.filter))
    return msgspec.convert(found, types_bulk.BulkPreview)


def start(call: Call) -> types.Done:
    """Fix the set of jobs now; it is released when the time to undo is over."""
    ask: types_bulk.BulkStart = call.body
    settings = call.context.settings
    hold_s = settings.bulk_hold_s if ask.hold_s is None else ask.hold_s
    per_second = ask.per_second or settings.bulk_per_second
    if not 0 <= hold_s <= 3600:
        raise UsageError("A bulk action can be held back for 0 to 3600 seconds.")
    if not 1 <= per_second <= 1000:
        raise UsageError("A bulk action releases 1 to 1,000 jobs a second.")
    if (ask.verb == "move") != (ask.lane is not None):
        raise UsageError("Name a lane to move jobs to, and only then.")
    bulk_id = str(uuid.uuid4())

    def work() -> types.Done:
        made = call.context.store.call(
            "bulk_start",
            id=bulk_id,
            verb=ask.verb,
            filter=_filter(ask.filter),
            expected=ask.expected,
            hold_ms=round(hold_s * 1000),
            per_second=per_second,
            canary=ask.expected >= CANARY_FROM if ask.canary is None else ask.canary,
            who=call.who,
            lane=ask.lane,
            rows=_waiting(call.context, ask.filter) if ask.verb == "move" else None,
        )
        when = f"in {hold_s:g} s" if hold_s else "now"
        total = made["bulk"]["total"]
        one, many = {
            "retry": ("runs again", "run again"),
            "discard": ("is discarded", "are discarded"),
            "move": (f"moves to lane {ask.lane}", f"move to lane {ask.lane}"),
        }[ask.verb]
        message = f"{count(total, 'job')} {one if total == 1 else many} {when}."
        return types.Done(message=message, ids=[bulk_id], correlation_id=bulk_id)

    return audited(call, f"bulk.{ask.verb}", f"bulk:{bulk_id}", work, topic="bulks")


def _filter(asked: types_bulk.JobFilter) -> dict[str, Any]:
    for moment in (asked.since, asked.until):
        if moment is not None:
            try:
                clock.parse(moment)
            except ValueError as error:
                raise UsageError(f"{moment[:40]!r} is no time; write 2026-01-31T12:00:00Z.") from error
    found: dict[str, Any] = msgspec.to_builtins(asked)
    return found


def _waiting(context: Context, asked: types_bulk.JobFilter) -> list[dict[str, Any]]:
    """The waiting jobs that a filter matches, at most 10,000 a queue."""
    if asked.group or asked.code or asked.since or asked.until:
        raise UsageError("Jobs that wait have not failed: filter them by queue, lane, bank, user, id or words.")
    found: list[dict[str, Any]] = []
    after: str | None = None
    while len(found) < MOST_MOVED:
        page = context.view.jobs("waiting", asked.queue, after, PAGE)
        found += [_row(job) for job in page["jobs"] if _fits(job, asked)]
        after = page["next"]
        if after is None:
            break
    return found


def _fits(job: dict[str, Any], asked: types_bulk.JobFilter) -> bool:
    wanted = {
        "lane": asked.lane, "item_id": asked.item, "institution": asked.institution, "user_id": asked.user,
    }  # fmt: skip
    if any(value and job[name] != value for name, value in wanted.items()) or (
        asked.ids and job["id"] not in asked.ids
    ):
        return False
    words = " ".join(str(job[name] or "") for name in ("id", "institution", "label", "correlation_id", "item_id"))
    return not asked.q or asked.q.lower() in words.lower()


def _row(job: dict[str, Any]) -> dict[str, Any]:
    return {
        "queue": job["queue"], "target": job["item_id"], "job_id": job["id"], "institution": job["institution"],
    }  # fmt: skip


def bulks(call: Call) -> types_bulk.BulkPage:
    page = call.context.store.call("bulks_list", after=call.query.after, limit=page_size(call.query.limit))
    return msgspec.convert(page, types_bulk.BulkPage)


def bulk(call: Call) -> types_bulk.BulkDetail:
    return msgspec.convert(call.context.store.call("bulk_get", id=call.path["id"]), types_bulk.BulkDetail)


def entries(call: Call) -> types_bulk.BulkEntryPage:
    bulk_id = bulk(call).bulk.id
    ask = call.query
    page = call.context.store.call(
        "bulk_entries", id=bulk_id, state=ask.state, after=ask.after, limit=page_size(ask.limit)
    )
    return msgspec.convert(page, types_bulk.BulkEntryPage)


def stop(call: Call) -> types.Done:
    return _change(call, "stop", lambda found: f"Stopped: {_as_before(_left(found))}")


def resume(call: Call) -> types.Done:
    return _change(call, "resume", lambda found: f"It goes on with {count(_left(found), 'job')}.")


def undo(call: Call) -> types.Done:
    return _change(call, "undo", lambda found: f"Undone: {_as_before(found['total'])}")


def _as_before(jobs: int) -> str:
    return f"{count(jobs, 'job')} left as {'it was' if jobs == 1 else 'they were'}."


def _left(found: dict[str, Any]) -> int:
    return int(found["total"] - found["released"] - found["done"] - found["skipped"] - found["failed"])


def _change(call: Call, change: str, words: Any) -> types.Done:
    bulk_id = call.path["id"]

    def work() -> types.Done:
        found = call.context.store.call("bulk_change", id=bulk_id, change=change)["bulk"]
        return types.Done(message=words(found), ids=[bulk_id], correlation_id=bulk_id)

    return audited(call, f"bulk.{change}", f"bulk:{bulk_id}", work, topic="bulks")


def samples(call: Call) -> types_bulk.FailureSamples:
    found = call.context.store.call("failure_samples", fingerprint=call.path["fingerprint"])
    return msgspec.convert(found, types_bulk.FailureSamples)


def mute(call: Call) -> types.Done:
    """Quiet until as many failures came as there were, or a hundred."""
    fingerprint, muted = call.path["fingerprint"], call.body.muted

    def work() -> types.Done:
        found = call.context.store.call("failure_group_mute", fingerprint=fingerprint, muted=muted)
        until = f"Muted until it passes {count(found['muted_until'] or 0, 'failure')}."
        return types.Done(message=until if muted else "No longer muted.", ids=[fingerprint])

    return audited(call, "failures.mute" if muted else "failures.unmute", f"group:{fingerprint}", work, topic="jobs")


def routes() -> list[Route]:
    """Rows of bulk actions."""
    return [
        act("bulks/preview", "What a bulk action would be about.", preview, body=types_bulk.BulkAsk, token="view",  # noqa: S106
            answer=types_bulk.BulkPreview),
        act("bulks", "Retry, discard or move many jobs.", start, body=types_bulk.BulkStart),
        get("bulks", "Bulk actions, the newest first.", bulks, types_bulk.BulkPage, query=PageQuery),
        get("bulks/{id}", "One bulk action: progress and reasons.", bulk, types_bulk.BulkDetail, found=True),
        get("bulks/{id}/entries", "The jobs of a bulk action.", entries, types_bulk.BulkEntryPage, query=EntriesQuery,
            found=True),
        act("bulks/{id}/stop", "Release nothing more of a bulk action.", stop),
        act("bulks/{id}/resume", "Let a stopped bulk action go on.", resume),
        act("bulks/{id}/undo", "Undo a bulk action before its release.", undo),
        get("failures/{fingerprint}/samples", "The newest errors of a cause.", samples, types_bulk.FailureSamples,
            found=True),
        act("failures/{fingerprint}/mute", "Quiet for a cause until it grows.", mute, body=types_bulk.Mute,
            optional=True),
    ]  # fmt: skip
