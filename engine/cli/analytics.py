"""``syncdeskctl analytics``: throughput, durations, lag and failures of jobs over time."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from engine.cli import common, remote

if TYPE_CHECKING:
    from engine.api.analytics import Point, Spread


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``analytics``."""
    command = commands.add_parser("analytics", help="figures of jobs over time, for two years back")
    command.add_argument("--days", type=int, default=7, help="so many days back (7)")
    command.add_argument("--step", choices=("hour", "day", "week", "month", "all"), default="day")
    command.add_argument("--by", choices=("queue", "item", "institution", "user"), default="", help="apart by")
    command.add_argument("--queue", choices=("transactions", "webhooks", "notifications"))
    command.add_argument("--item", metavar="ID")
    command.add_argument("--institution", metavar="NAME")
    command.add_argument("--user", metavar="ID")
    common.add_json(command)
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from engine.api.analytics import Analytics

    names = ("days", "step", "by", "queue", "item", "institution", "user")
    with remote.client() as engine:
        found = engine.get("analytics", Analytics, **{name: getattr(args, name) for name in names})
    head = ("From", "Of", "Jobs", "Failed", "Rate", "Run p50", "Run p95", "Wait p95", "Lag p50", "Lag p95")
    rows = [_row(point) for point in found.points]
    more = "\nThere is more; choose a shorter span or a longer step." if found.more else ""
    return remote.show(args, found, remote.table(head, rows) + more if rows else "No jobs in that time.")


def _row(point: Point) -> tuple[object, ...]:
    rate = "" if point.failure_rate is None else f"{point.failure_rate:.1%}"
    times = (_ms(point.run, "p50"), _ms(point.run, "p95"), _ms(point.wait, "p95"))
    lag = (_ms(point.lag, "p50"), _ms(point.lag, "p95"))
    return (point.at[:16], point.label or point.key, point.samples, point.failed, rate, *times, *lag)


def _ms(spread: Spread, name: str) -> str:
    value = getattr(spread, name)
    return "" if value is None else f"{value:,.0f} ms"
