"""When a scheduled job runs: the trigger as kept in the database, as APScheduler's, and in words.

``{"every_s": 900}`` counts in UTC from an anchor. ``{"cron": "30 2 * * *", "zone": "UTC"}`` has cron's five fields
with cron's meaning of weekdays, which APScheduler counts from Monday: so they are handed over by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from engine.errors import UsageError
from scheduler.wall import WallCron

LONGEST_S = 366 * 86400
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")  # cron knows Sunday as 0 and as 7
_NAMES = {
    "sun": "Sunday",
    "mon": "Monday",
    "tue": "Tuesday",
    "wed": "Wednesday",
    "thu": "Thursday",
    "fri": "Friday",
    "sat": "Saturday",
}


def build(trigger: Mapping[str, Any], anchor: datetime) -> BaseTrigger:
    """APScheduler's trigger; an interval's first time is one interval after ``anchor``.

    Raises:
        UsageError: it is none of the two forms, or a part of it cannot be.
    """
    every = trigger.get("every_s")
    if isinstance(every, int) and not isinstance(every, bool) and 1 <= every <= LONGEST_S:
        return IntervalTrigger(seconds=every, start_date=anchor + timedelta(seconds=every), timezone=UTC)
    parts = str(trigger.get("cron", "")).split()
    if len(parts) != 5:
        raise UsageError('A schedule is {"every_s": seconds} or {"cron": "minute hour day month weekday"}.')
    minute, hour, day, month, weekday = parts
    try:
        zone = ZoneInfo(str(trigger.get("zone", "UTC")))
        fields = {"minute": minute, "hour": hour, "day": day, "month": month, "day_of_week": weekdays(weekday)}
        return WallCron(fields, zone)
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise UsageError(f"The schedule {trigger.get('cron')!r} cannot be read: {error}.") from error


def weekdays(field: str) -> str:
    """Cron's weekday field (0 and 7 are Sunday) by name, as APScheduler takes it.

    Raises:
        UsageError: it is none.
    """
    if field == "*":
        return field
    chosen: set[str] = set()
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        first, dash, last = ("0", "-", "6") if span == "*" else span.partition("-")
        low, high = _day(first), _day(last) if dash else (6 if step else _day(first))
        if dash and high < low:
            high += 7
        if step and not (step.isdecimal() and int(step) > 0):
            raise UsageError(f"The weekday {field!r} cannot be read.")
        chosen |= {_DAYS[day % 7] for day in range(low, high + 1, int(step or 1))}
    return ",".join(day for day in _DAYS[1:] if day in chosen)


def _day(text: str) -> int:
    if text.isdecimal() and int(text) <= 7:
        return int(text)
    if text in _NAMES:
        return _DAYS.index(text)
    raise UsageError(f"{text!r} is no weekday: use 0 to 7 or sun to sat.")


def interval_s(trigger: Mapping[str, Any]) -> int | None:
    """The interval in seconds, None for cron."""
    every = trigger.get("every_s")
    return every if isinstance(every, int) else None


def next_times(trigger: BaseTrigger, first: datetime | None, count: int = 5) -> list[datetime]:
    """``first`` and the times after it."""
    times: list[datetime] = []
    current = first
    while current is not None and len(times) < count:
        times.append(current)
        current = trigger.get_next_fire_time(current, current + timedelta(microseconds=1))
    return times


def words(trigger: Mapping[str, Any]) -> str:
    """The trigger for people: ``every 15 minutes``, ``every day at 02:30 UTC``, ``Mondays at 02:30 UTC``."""
    every = interval_s(trigger)
    if every is not None:
        return f"every {_span(every)}"
    cron, zone = str(trigger.get("cron", "")), str(trigger.get("zone", "UTC"))
    minute, hour, day, month, weekday = [*cron.split(), *"*****"][:5]
    if minute.isdecimal() and hour.isdecimal() and (day, month) == ("*", "*"):
        at = f"at {int(hour):02}:{int(minute):02} {zone}"
        try:
            days = weekdays(weekday)
        except UsageError:
            return f"cron {cron} {zone}"
        return (
            f"every day {at}" if days == "*" else ", ".join(f"{_NAMES[found]}s" for found in days.split(",")) + f" {at}"
        )
    if minute.isdecimal() and (hour, day, month, weekday) == ("*", "*", "*", "*"):
        return f"every hour at :{int(minute):02}"
    return f"cron {cron} {zone}"


def _span(seconds: int) -> str:
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            count = seconds // size
            return name if count == 1 else f"{count} {name}s"
    return "second" if seconds == 1 else f"{seconds} seconds"
