"""Today's date in tests. A test that counts in days must not be cut in two by midnight: see the fixture ``one_day``."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from engine import clock
from tests.support.wait import until

#: Longer than any test that counts in days takes, also on a loaded machine.
_LASTS = timedelta(minutes=1)


def today() -> date:
    """Today in UTC, the zone of the engine and of its database."""
    return clock.now().date()


def ago(days: int) -> str:
    """The date so many days ago."""
    return (today() - timedelta(days=days)).isoformat()


def settle() -> None:
    """Return at once, but in a day's last minute when the next day has begun."""
    now = clock.now()
    midnight = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
    if midnight - now < _LASTS:
        until(lambda: clock.now() >= midnight, 2 * _LASTS.total_seconds(), what="the next day")
