"""The one place for time: wall clock in UTC, durations by the monotonic clock, and the ISO text of both."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The current time, aware and in UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds from an arbitrary point, never set back: for durations and deadlines."""
    return time.monotonic()


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and ``Z``, as every API and log of Syncdesk writes times."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(text: str) -> datetime:
    """Read what `iso` (or Postgres, or Plaid) wrote.

    Raises:
        ValueError: the text is no ISO 8601 time.
    """
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def ms_since(start: float) -> float:
    """Milliseconds since a `monotonic` reading."""
    return round((monotonic() - start) * 1000, 3)
