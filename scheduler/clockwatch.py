"""Noticing that the wall clock jumped: set by hand or by the network's time, or gone on while the machine slept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from engine import clock

TOLERANCE_S = 5.0
"""A clock that is drawn slowly towards the right time is no jump."""


class ClockWatch:
    """Compares the wall clock with the monotonic one. Both may be given, to test what is hard to wait for."""

    def __init__(self, wall: Callable[[], datetime] = clock.now, steady: Callable[[], float] = clock.monotonic) -> None:
        self._wall, self._steady = wall, steady
        self._offset = self._now()

    def _now(self) -> float:
        return self._wall().timestamp() - self._steady()

    def jumped(self) -> timedelta | None:
        """By how much the wall clock jumped since the last look (negative: back); None: it did not."""
        offset = self._now()
        change = offset - self._offset
        self._offset = offset if abs(change) > TOLERANCE_S else self._offset + change * 0.1
        return timedelta(seconds=change) if abs(change) > TOLERANCE_S else None
