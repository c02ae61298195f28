"""Cron by the clock on the wall of a zone: each time once, also on the days when that clock is changed.

APScheduler's own trigger with such a zone runs a time of the hour that comes twice two times, and skips the midnight
after the clocks went forward (3.11.3). So it only counts by fixed offsets here.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger

_INSTANT = timedelta(microseconds=1)
_LOOKED_AT = range(-1, 400, 10)  # days: no zone's summer time, nor Morocco's winter month, slips through


class WallCron(BaseTrigger):  # type: ignore[misc]
    """CronTrigger's fields by name, read in a zone. Its times are in UTC.

    A time that the change passes over comes an hour later; of one that comes twice only the first counts. Where every
    hour counts (``*``), it is the hours that passed that do.

    Raises:
        ValueError: a field cannot be read.
    """

    def __init__(self, fields: Mapping[str, str], zone: ZoneInfo) -> None:
        self._fields, self._zone = dict(fields), zone
        self._hourly = self._fields.get("hour", "*").startswith("*")
        self._by(timedelta(0))

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        """The first time after ``previous``, or from ``now`` on where there is none or the clock was set back."""
        start = now.astimezone(UTC)
        if previous is not None:
            start = min(start, previous.astimezone(UTC) + _INSTANT)
        days = (start + timedelta(days=day) for day in _LOOKED_AT)
        offsets = {moment.astimezone(self._zone).utcoffset() or timedelta(0) for moment in days}
        waiting: list[tuple[datetime, timedelta]] = []
        self._add(waiting, offsets, start)
        while waiting:
            found, offset = heapq.heappop(waiting)
            if self._counts(found, offset):
                return found
            self._add(waiting, {offset}, found + _INSTANT)
        return None

    def _add(self, waiting: list[tuple[datetime, timedelta]], offsets: set[timedelta], start: datetime) -> None:
        for offset in offsets:
            found = self._by(offset).get_next_fire_time(None, start.astimezone(timezone(offset)))
            if found is not None:
                heapq.heappush(waiting, (found.astimezone(UTC), offset))

    def _by(self, offset: timedelta) -> CronTrigger:
        return CronTrigger(**self._fields, timezone=timezone(offset))

    def _counts(self, found: datetime, offset: timedelta) -> bool:
        """Whether the zone's clock shows that time then; one that it never shows belongs to the offset before."""
        if self._hourly:
            return found.astimezone(self._zone).utcoffset() == offset
        shown = found.astimezone(timezone(offset)).replace(tzinfo=self._zone, fold=0)
        return shown.astimezone(UTC) == found
