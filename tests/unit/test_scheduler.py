"""When scheduled jobs run: triggers, what a start finds overdue, and jumps of the clock."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from engine.errors import UsageError
from scheduler import plan, triggers
from scheduler.clockwatch import ClockWatch

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)  # a Tuesday
QUARTER = {"every_s": 900}
NIGHTLY = {"cron": "30 2 * * *", "zone": "UTC"}


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("*", "*"),
        ("0", "sun"),
        ("7", "sun"),
        ("1", "mon"),
        ("1-5", "mon,tue,wed,thu,fri"),
        ("sat,sun", "sat,sun"),
        ("5-1", "mon,fri,sat,sun"),
        ("*/2", "tue,thu,sat,sun"),
        ("Mon-Wed", "mon,tue,wed"),
    ],
)
def test_weekdays_have_crons_meaning(field: str, days: str) -> None:
    assert triggers.weekdays(field) == days


def test_a_cron_monday_fires_on_a_monday() -> None:
    made = triggers.build({"cron": "0 6 * * 1"}, NOON)
    due = made.get_next_fire_time(None, NOON)
    assert due == datetime(2026, 3, 16, 6, 0, tzinfo=UTC)
    assert due.weekday() == 0


@pytest.mark.parametrize(
    "trigger",
    [
        {},
        {"every_s": 0},
        {"every_s": True},
        {"every_s": "900"},
        {"cron": "* * * *"},
        {"cron": "61 * * * *"},
        {"cron": "0 0 * * 8"},
        {"cron": "0 0 * * */0"},
        {"cron": "0 0 * * *", "zone": "Mars/Olympus"},
    ],
)
def test_what_is_no_trigger_is_refused_in_words(trigger: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        triggers.build(trigger, NOON)


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        (QUARTER, "every 15 minutes"),
        ({"every_s": 86400}, "every day"),
        ({"every_s": 1}, "every second"),
        ({"every_s": 90}, "every 90 seconds"),
        (NIGHTLY, "every day at 02:30 UTC"),
        ({"cron": "5 9 * * 1"}, "Mondays at 09:05 UTC"),
        ({"cron": "5 * * * *"}, "every hour at :05"),
        ({"cron": "0 0 1 * *", "zone": "Asia/Tokyo"}, "cron 0 0 1 * * Asia/Tokyo"),
        ({"cron": "0 0 * * 9"}, "cron 0 0 * * 9 UTC"),
    ],
)
def test_words(trigger: dict[str, object], words: str) -> None:
    assert triggers.words(trigger) == words


def test_next_five() -> None:
    made, due = plan.first_run(QUARTER, None, NOON)
    assert triggers.next_times(made, due) == [NOON + minutes(15 * n) for n in range(1, 6)]
    assert triggers.next_times(made, None) == []


def test_a_local_time_that_comes_twice_in_autumn() -> None:
    """Why the backup run counts in UTC: an interval there has no such nights."""
    start = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)  # Berlin sets its clocks back at 01:00 UTC
    made = triggers.build(QUARTER, start)
    times = triggers.next_times(made, start + minutes(15), 12)
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [minutes(15)] * 11
    assert len({moment.astimezone(ZoneInfo("Europe/Berlin")).strftime("%H:%M") for moment in times}) < 12


class TestStart:
    def test_never_ran(self) -> None:
        assert plan.first_run(QUARTER, None, NOON)[1] == NOON + minutes(15)

    def test_goes_on_counting_from_the_last_run(self) -> None:
        assert plan.first_run(QUARTER, NOON - minutes(5), NOON)[1] == NOON + minutes(10)

    @pytest.mark.parametrize("away", [15, 16, 60 * 24 * 3])
    def test_overdue_runs_once_now(self, away: int) -> None:
        made, due = plan.first_run(QUARTER, NOON - minutes(away), NOON)
        assert triggers.next_times(made, due, 2) == [NOON, NOON + minutes(15)]

    def test_a_cron_time_that_passed_while_nobody_ran(self) -> None:
        made, due = plan.first_run(NIGHTLY, NOON - timedelta(days=2), NOON)
        assert triggers.next_times(made, due, 2) == [NOON, datetime(2026, 3, 11, 2, 30, tzinfo=UTC)]

    def test_a_cron_time_that_did_not_pass(self) -> None:
        assert plan.first_run(NIGHTLY, NOON - minutes(60), NOON)[1] == datetime(2026, 3, 11, 2, 30, tzinfo=UTC)

    def test_a_last_run_in_the_future(self) -> None:
        assert plan.first_run(QUARTER, NOON + timedelta(days=400), NOON)[1] == NOON + minutes(15)


class TestJump:
    def test_ahead_over_a_planned_time_runs_once(self) -> None:
        made, due = plan.after_jump(QUARTER, NOON + minutes(10), NOON + minutes(65), minutes(65))
        now = NOON + minutes(65)
        assert triggers.next_times(made, due, 2) == [now, now + minutes(15)]

    def test_ahead_but_not_that_far(self) -> None:
        planned = NOON + minutes(10)
        made, due = plan.after_jump(QUARTER, planned, NOON + minutes(5), minutes(5))
        assert triggers.next_times(made, due, 2) == [planned, planned + minutes(15)]

    def test_back_keeps_the_time_that_was_left(self) -> None:
        now = NOON - minutes(60)
        made, due = plan.after_jump(QUARTER, NOON + minutes(10), now, -minutes(60))
        assert triggers.next_times(made, due, 2) == [now + minutes(10), now + minutes(25)]

    def test_back_by_years_never_waits_longer_than_an_interval(self) -> None:
        now = NOON - timedelta(days=1000)
        _made, due = plan.after_jump(QUARTER, NOON + minutes(10), now, -minutes(3))
        assert due == now + minutes(15)

    def test_cron_comes_again_by_its_own_clock(self) -> None:
        planned = datetime(2026, 3, 11, 2, 30, tzinfo=UTC)
        now = datetime(2026, 3, 10, 1, 0, tzinfo=UTC)
        assert plan.after_jump(NIGHTLY, planned, now, -timedelta(hours=11))[1] == datetime(
            2026, 3, 10, 2, 30, tzinfo=UTC
        )


class TestClockWatch:
    def test_it_tells_a_jump_once_and_follows_a_drift(self) -> None:
        offset, steady = [0.0], [100.0]
        watch = ClockWatch(lambda: NOON + timedelta(seconds=steady[0] + offset[0]), lambda: steady[0])
        assert watch.jumped() is None
        for change in (3600.0, -3600.0, -7200.0):
            steady[0] += 1
            offset[0] += change
            jump = watch.jumped()
            assert jump is not None
            assert abs(jump.total_seconds() - change) < 0.001
            assert watch.jumped() is None
        for _ in range(200):  # half a second every second, as a time service slews at most
            steady[0] += 1
            offset[0] += 0.4
            assert watch.jumped() is None
