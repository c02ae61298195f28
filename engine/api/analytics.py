"""Figures of jobs over time (``/api/analytics``): throughput, durations, waits, lag and failures, each answer with the
number of jobs that it rests on. Hours are kept for two years (migration 0022)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from msgspec import Struct

from engine import clock
from engine.api.context import Context
from engine.api.routing import Call, Route
from engine.api.tables import get
from engine.api.views import identifier
from engine.errors import UsageError

Step = Literal["hour", "day", "week", "month", "all"]
By = Literal["", "queue", "item", "institution", "user"]
MOST_DAYS = 731
_HOURS = {"hour": 1, "day": 24, "week": 168, "month": 672}
MOST_SLOTS = 1000


class AnalyticsQuery(Struct):
    """The last ``days`` days, or from ``since`` until ``until`` (ISO times); in slots of ``step``; apart ``by``."""

    days: int = 7
    since: str | None = None
    until: str | None = None
    step: Step = "day"
    by: By = ""
    queue: str | None = None
    item: str | None = None
    institution: str | None = None
    user: str | None = None


class Spread(Struct):
    """Milliseconds: mean, and percentiles that are read off a histogram by powers of two (right to half as much
    again). Null where there is no sample."""

    mean: float | None
    p50: float | None
    p95: float | None
    samples: int


class Point(Struct):
    """``samples``: jobs that ended; ``failure_rate``: of those; ``lag``: from being queued to the end, tries and waits
    included."""

    at: str
    key: str
    label: str | None
    samples: int
    done: int
    failed: int
    retried: int
    failure_rate: float | None
    run: Spread
    wait: Spread
    lag: Spread


class Analytics(Struct):
    """``more``: there are more points than one answer holds; choose a shorter span or a longer step."""

    since: str
    until: str
    step: Step
    by: By
    points: list[Point]
    more: bool


def analytics(call: Call) -> Analytics:
    return read(call.context, call.query)


def read(context: Context, query: AnalyticsQuery) -> Analytics:
    """Ask the database and make percentiles of its histograms.

    Raises:
        UsageError: the span is none, or has too many slots.
    """
    since, until = _span(query)
    found: dict[str, Any] = context.reader.call(
        "analytics",
        **{"from": since, "to": until},
        step=query.step,
        by=query.by,
        queue=query.queue,
        item=identifier(query.item) if query.item else None,
        institution=query.institution,
        user=identifier(query.user) if query.user else None,
    )
    return Analytics(since, until, query.step, query.by, [_point(row) for row in found["points"]], found["more"])


def _span(query: AnalyticsQuery) -> tuple[str, str]:
    if not 1 <= query.days <= MOST_DAYS:
        raise UsageError(f"days is 1 to {MOST_DAYS}.")
    try:
        until = clock.parse(query.until) if query.until else clock.now()
        since = clock.parse(query.since) if query.since else until - timedelta(days=query.days)
        hours = (until - since).total_seconds() / 3600
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError("since and until are times such as 2026-05-01T00:00:00Z.") from error
    if not 0 < hours <= MOST_DAYS * 24:
        raise UsageError(f"since lies before until, by {MOST_DAYS} days at most.")
    if query.step != "all" and hours / _HOURS[query.step] > MOST_SLOTS:
        raise UsageError(f"That makes more than {MOST_SLOTS} slots: choose a longer step or a shorter span.")
    return clock.iso(since), clock.iso(until)


def _point(row: dict[str, Any]) -> Point:
    done, failed = int(row["done"]), int(row["failed"])
    return Point(
        at=row["at"],
        key=row["key"],
        label=row["label"],
        samples=done + failed,
        done=done,
        failed=failed,
        retried=int(row["retried"]),
        failure_rate=round(failed / (done + failed), 4) if done + failed else None,
        run=spread(row["run_hist"], row["run_ms"]),
        wait=spread(row["wait_hist"], row["wait_ms"]),
        lag=spread(row["lag_hist"], row["lag_ms"]),
    )


def spread(slots: list[int], total_ms: float) -> Spread:
    """Mean and percentiles of a histogram whose slot *n* counts milliseconds from 2^(n-1) to below 2^n."""
    samples = sum(slots)
    if not samples:
        return Spread(None, None, None, 0)
    return Spread(round(total_ms / samples, 1), _quantile(slots, 0.5), _quantile(slots, 0.95), samples)


def _quantile(slots: list[int], share: float) -> float:
    """Evenly spread inside a slot."""
    wanted, seen = sum(slots) * share, 0
    for slot, number in enumerate(slots):
        if number and seen + number >= wanted:
            low, high = (2 ** (slot - 1) if slot else 0), 2**slot
            return round(low + (high - low) * (wanted - seen) / number, 1) if slot else 0.0
        seen += number
    return float(2 ** len(slots))


def routes() -> list[Route]:
    """The one row."""
    return [get("analytics", "Figures of jobs over time.", analytics, Analytics, query=AnalyticsQuery, found=True)]
