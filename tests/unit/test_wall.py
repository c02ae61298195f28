"""Cron on the days when a zone's clocks change: each time once, none left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from scheduler import plan, triggers

BERLIN, LORD_HOWE = "Europe/Berlin", "Australia/Lord_Howe"


def shown(cron: str, zone: str, start: datetime, count: int) -> list[str]:
    """The times from ``start`` (UTC) on as the zone's clock shows them, asked for one by one as APScheduler does."""
    made = triggers.build({"cron": cron, "zone": zone}, start)
    times = triggers.next_times(made, made.get_next_fire_time(None, start), count)
    assert times == sorted(set(times))
    return [moment.astimezone(ZoneInfo(zone)).strftime("%d %H:%M") for moment in times]


def test_a_time_in_the_hour_that_comes_twice_counts_once() -> None:
    start = datetime(2027, 10, 30, 0, 0, tzinfo=UTC)  # Berlin sets its clocks back on the 31st, 01:00 UTC
    assert shown("30 2 * * *", BERLIN, start, 3) == ["30 02:30", "31 02:30", "01 02:30"]
    second = datetime(2027, 10, 31, 1, 30, tzinfo=UTC)
    assert shown("30 2 * * *", BERLIN, second, 1) == ["01 02:30"]


def test_a_time_that_is_left_out_in_spring_comes_an_hour_later() -> None:
    start = datetime(2027, 3, 27, 0, 0, tzinfo=UTC)  # Berlin sets its clocks on the 28th, 01:00 UTC
    assert shown("30 2 * * *", BERLIN, start, 3) == ["27 02:30", "28 03:30", "29 02:30"]
    just_after = datetime(2027, 3, 28, 1, 1, tzinfo=UTC)
    assert shown("30 2 * * *", BERLIN, just_after, 1) == ["28 03:30"]


def test_the_midnight_after_a_change_is_not_skipped() -> None:
    assert shown("0 0 * * *", BERLIN, datetime(2027, 3, 27, tzinfo=UTC), 3) == ["28 00:00", "29 00:00", "30 00:00"]
    assert shown("0 0 * * *", BERLIN, datetime(2027, 10, 30, tzinfo=UTC), 3) == ["31 00:00", "01 00:00", "02 00:00"]
    cairo = datetime(2027, 4, 28, 12, 0, tzinfo=UTC)  # there midnight itself is what is left out
    assert shown("0 0 * * *", "Africa/Cairo", cairo, 3) == ["29 00:00", "30 01:00", "01 00:00"]


@pytest.mark.parametrize("day", [datetime(2027, 3, 27, 12, tzinfo=UTC), datetime(2027, 10, 30, 12, tzinfo=UTC)])
def test_where_every_hour_counts_the_hours_that_pass_do(day: datetime) -> None:
    made = triggers.build({"cron": "*/20 * * * *", "zone": BERLIN}, day)
    assert triggers.next_times(made, day, 100) == [day + timedelta(minutes=20 * n) for n in range(100)]


def test_a_change_of_half_an_hour_and_months() -> None:
    start = datetime(2027, 4, 2, 18, 0, tzinfo=UTC)  # Lord Howe goes from +11 to +10:30 on the 4th
    assert shown("45 1 * * *", LORD_HOWE, start, 3) == ["04 01:45", "05 01:45", "06 01:45"]
    assert shown("0 0 1 * *", "Africa/Casablanca", datetime(2027, 2, 5, tzinfo=UTC), 3) == ["01 00:00"] * 3


def test_a_day_that_never_comes_has_no_times() -> None:
    assert shown("0 0 31 2 *", BERLIN, datetime(2027, 1, 1, tzinfo=UTC), 3) == []
    assert shown("0 0 29 2 *", BERLIN, datetime(2027, 1, 1, tzinfo=UTC), 1) == ["29 00:00"]


def test_what_ran_in_the_first_of_two_hours_waits_for_the_next_day() -> None:
    nightly, ran = {"cron": "30 2 * * *", "zone": BERLIN}, datetime(2027, 10, 31, 0, 30, tzinfo=UTC)
    _made, due = plan.first_run(nightly, ran, ran + timedelta(minutes=50))
    assert due == datetime(2027, 11, 1, 1, 30, tzinfo=UTC)
    _made, due = plan.after_jump(nightly, due, ran + timedelta(minutes=40), -timedelta(minutes=10))
    assert due == datetime(2027, 11, 1, 1, 30, tzinfo=UTC)


def test_a_clock_that_was_set_back_counts_from_where_it_is() -> None:
    made = triggers.build({"cron": "30 2 * * *"}, datetime(2027, 1, 1, tzinfo=UTC))
    ahead, now = datetime(2027, 6, 1, 2, 30, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    assert made.get_next_fire_time(ahead, now) == datetime(2027, 1, 1, 2, 30, tzinfo=UTC)
