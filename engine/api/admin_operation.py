"""Admin routes of workers, schedule, notices and the engine itself."""

from __future__ import annotations

import re
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Struct

from engine.api import pausing, types, types_operation
from engine.api.actions import audited
from engine.api.phrases import count
from engine.api.routing import Call, Route
from engine.api.tables import act, get, page_size
from engine.api.workers import workers
from engine.errors import Conflict, NotFound, UsageError

POOLS = ("sync", "events")
PARTS = {"sync": "worker-sync", "events": "worker-events", "scheduler": "scheduler"}
_FIELD = re.compile(r"[0-9A-Za-z*/,-]+")


class PageQuery(Struct):
    after: str | None = None
    limit: int = 50


class NoticesRead(Struct):
    """Which notices were read; none named: all up to now."""

    ids: list[str] | None = None


# ---------------------------------------------------------------- workers


def list_workers(call: Call) -> types_operation.Workers:
    return workers(call.context)


def _pool(call: Call) -> str:
    pool = call.path["pool"]
    if pool not in PARTS:
        raise NotFound("There is no such pool of workers.")
    return pool


def quiet(call: Call) -> types.Done:
    return _command(call, "quiet", "takes nothing new; running jobs end.")


def resume_pool(call: Call) -> types.Done:
    return _command(call, "resume", "takes jobs again.")


def _command(call: Call, verb: Literal["quiet", "resume"], words: str) -> types.Done:
    pool = _pool(call)
    if pool not in POOLS:
        raise NotFound("Only workers can be made quiet; pause the jobs of the schedule instead.")

    def work() -> types.Done:
        pools = {row["pool"] for row in call.context.view.workers() if row["state"] != "stopped"}
        if pool not in pools and "all" in pools:
            raise Conflict("These workers serve all queues together: pause the queue instead.")
        call.context.control.command(pool, verb)
        return types.Done(message=f"The pool {pool} {words}", ids=[pool])

    return audited(call, f"workers.{verb}", f"pool:{pool}", work, topic="workers")


def restart(call: Call) -> types.Done:
    return _part(call, "restart")


def stop(call: Call) -> types.Done:
    return _part(call, "stop")


def start(call: Call) -> types.Done:
    return _part(call, "start")


def _part(call: Call, verb: Literal["start", "stop", "restart"]) -> types.Done:
    pool = _pool(call)
    return audited(
        call,
        f"workers.{verb}",
        f"pool:{pool}",
        lambda: call.context.host.parts(PARTS[pool], verb),
        topic="workers",
    )


# ---------------------------------------------------------------- schedule


def schedule(call: Call) -> types_operation.Schedule:
    return msgspec.convert(call.context.store.call("schedule_list"), types_operation.Schedule)


def run_scheduled(call: Call) -> types.Done:
    return _schedule(call, "run", "It runs within a second.", run_now=True)


def pause_scheduled(call: Call) -> types.Done:
    return _schedule(call, "pause", "It does not run by itself until it is resumed.", paused=True)


def resume_scheduled(call: Call) -> types.Done:
    return _schedule(call, "resume", "It runs by itself again.", paused=False)


def change_trigger(call: Call) -> types.Done:
    trigger = call.body.trigger
    _check_trigger(trigger)
    return _schedule(call, "trigger", "The new times count from now on.", trigger=trigger)


def _schedule(call: Call, verb: str, words: str, **change: Any) -> types.Done:
    job = call.path["id"]

    def work() -> types.Done:
        call.context.store.call("schedule_put", id=job, who=call.who, **change)
        return types.Done(message=words, ids=[job])

    return audited(call, f"schedule.{verb}", f"schedule:{job}", work, topic="schedule")


def _check_trigger(trigger: dict[str, Any]) -> None:
    """``{"every_s": 900}`` or ``{"cron": "30 2 * * *", "zone": "UTC"}``.

    Raises:
        UsageError: it is neither.
    """
    every, cron = trigger.get("every_s"), trigger.get("cron")
    if (every is None) == (cron is None) or set(trigger) - {"every_s", "cron", "zone"}:
        raise UsageError('A trigger is {"every_s": 900} or {"cron": "30 2 * * *", "zone": "UTC"}.')
    if every is not None:
        if not isinstance(every, int) or isinstance(every, bool) or not 10 <= every <= 604_800:
            raise UsageError("every_s must be 10 to 604,800 seconds (a week).")
        return
    if not isinstance(cron, str) or len(cron) > 100 or len(cron.split()) != 5:
        raise UsageError("A cron expression has five fields: minute, hour, day, month, weekday.")
    if not all(_FIELD.fullmatch(part) for part in cron.split()):
        raise UsageError("A field of the cron expression cannot be read.")
    zone = trigger.get("zone", "UTC")
    try:
        ZoneInfo(zone if isinstance(zone, str) else "")
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError("There is no such time zone.") from error


# ---------------------------------------------------------------- notices


def notices(call: Call) -> types_operation.Notices:
    found = call.context.store.call("notices_list", limit=page_size(call.query.limit), after=_after(call.query))
    return msgspec.convert(found, types_operation.Notices)


def _after(query: PageQuery) -> str | None:
    after = query.after
    if after is not None and not (after.isascii() and after.isdigit() and len(after) < 19):
        raise UsageError("The cursor belongs to another list.")
    return after


def read_notices(call: Call) -> types.Done:
    done = call.context.store.call("notices_read", ids=call.body.ids)
    return types.Done(message=f"{count(done['read'], 'notice')} read.")


# ---------------------------------------------------------------- engine


def pause_engine(call: Call) -> types.Done:
    return audited(call, "engine.pause", "engine", lambda: pausing.pause(call.context, call.body.minutes, call.who))


def resume_engine(call: Call) -> types.Done:
    return audited(call, "engine.resume", "engine", lambda: pausing.resume(call.context))


def stop_engine(call: Call) -> types.Done:
    def work() -> types.Done:
        call.context.host.shutdown()
        return types.Done(message="The engine is stopping.")

    return audited(call, "engine.stop", "engine", work)


def audit(call: Call) -> types_operation.AuditPage:
    found = call.context.store.call("audit_list", limit=page_size(call.query.limit), after=_after(call.query))
    return msgspec.convert(found, types_operation.AuditPage)


def routes() -> list[Route]:
    """Rows of workers, schedule, notices and engine."""
    return [
        get("workers", "Pools, processes and what they run.", list_workers, types_operation.Workers),
        act("workers/{pool}/quiet", "Take nothing new.", quiet),
        act("workers/{pool}/resume", "Take jobs again.", resume_pool),
        act("workers/{pool}/restart", "Restart a pool's processes, finishing their jobs.", restart),
        act("workers/{pool}/stop", "Stop a pool's processes, finishing their jobs.", stop),
        act("workers/{pool}/start", "Start a pool's processes.", start),
        get("schedule", "Scheduled jobs, their next and last runs.", schedule, types_operation.Schedule),
        act("schedule/{id}/run", "Run a scheduled job now.", run_scheduled),
        act("schedule/{id}/pause", "Do not run it by itself.", pause_scheduled),
        act("schedule/{id}/resume", "Run it by itself again.", resume_scheduled),
        act("schedule/{id}/trigger", "Change when it runs.", change_trigger, body=types_operation.TriggerChange),
        get("notices", "What the engine told the person.", notices, types_operation.Notices, query=PageQuery),
        act("notices/read", "Mark notices as read.", read_notices, body=NoticesRead, optional=True, token="view"),  # noqa: S106
        get("audit", "Who did what, the newest first.", audit, types_operation.AuditPage, query=PageQuery),
        act("engine/pause", "Start nothing until a time, or until resumed.", pause_engine,
            body=types_operation.EnginePause, optional=True),
        act("engine/resume", "End the pause.", resume_engine),
        act("engine/stop", "End the whole engine.", stop_engine, token="admin"),  # noqa: S106
    ]  # fmt: skip
