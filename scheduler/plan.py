"""When a job runs next after a start, a pause, an edit or a jump of the clock: pure functions of times."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from apscheduler.triggers.base import BaseTrigger

from scheduler.triggers import build, interval_s


def first_run(trigger: Mapping[str, Any], last: datetime | None, now: datetime) -> tuple[BaseTrigger, datetime | None]:
    """The trigger and its first time when the scheduler takes over: what was due while nobody ran is run once, now.

    A job that never ran waits for its first time; an interval longer than the time since its last run goes on
    counting from that run.

    Raises:
        UsageError: the trigger cannot be read.
    """
    if last is None or last > now:  # a last run in the future: the clock was set back since
        made = build(trigger, now)
        return made, made.get_next_fire_time(None, now)
    made = build(trigger, last)
    due = made.get_next_fire_time(None, last + timedelta(microseconds=1))
    if due is not None and due <= now:
        return build(trigger, now), now
    return made, due


def after_jump(
    trigger: Mapping[str, Any], planned: datetime, now: datetime, jump: timedelta
) -> tuple[BaseTrigger, datetime | None]:
    """The trigger and its next time after the wall clock jumped by ``jump`` to ``now``.

    An interval keeps the time that was left, at most one interval; what a jump ahead passed over runs once, now.
    A cron time that the jump ahead passed over runs once, now; after a jump back it comes again by its own clock.
    """
    if planned <= now:
        return build(trigger, now), now
    every = interval_s(trigger)
    if every is None:
        made = build(trigger, now)
        return made, made.get_next_fire_time(None, now)
    if jump > timedelta(0):
        return build(trigger, planned - timedelta(seconds=every)), planned
    left = min(planned - (now - jump), timedelta(seconds=every))
    due = now + max(left, timedelta(0))
    return build(trigger, due - timedelta(seconds=every)), due
