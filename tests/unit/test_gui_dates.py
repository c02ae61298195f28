"""Days as the console says them: today is the machine's, also at midnight, at a year's end and when clocks change."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import pytest

QtCore = pytest.importorskip("PySide6.QtCore", reason="needs Qt's system libraries", exc_type=ImportError)

from engine import clock  # noqa: E402
from gui import words  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("english"),
    pytest.mark.skipif(sys.platform == "win32", reason="sets the zone of the process, which Windows cannot"),
]

At = Callable[[str, str], None]


@pytest.fixture
def at() -> Iterator[At]:
    """Sets the clock to a moment (UTC) and the machine to a zone."""
    with pytest.MonkeyPatch.context() as patch:

        def set_to(moment: str, zone: str) -> None:
            now = clock.parse(moment)
            patch.setattr(clock, "now", lambda: now)
            patch.setenv("TZ", zone)
            time.tzset()

        yield set_to
    time.tzset()


def test_the_last_minute_of_a_year(at: At) -> None:
    at("2026-12-31T23:59:30Z", "UTC")
    assert words.day_and_time("2026-12-31T00:05:00Z") == "Today 00:05"
    assert words.day_and_time("2027-01-01T00:00:10Z") == "Tomorrow 00:00"
    assert words.day_and_time("2026-12-30T23:59:00Z") == "Yesterday 23:59"
    assert (words.day("2026-12-31"), words.day("2027-01-01")) == ("today", "1 Jan 2027")
    assert words.days_from_now("2027-01-01") == 1
    at("2027-01-01T00:00:00Z", "UTC")
    assert words.short_date("2026-12-31T23:59:59Z") == "31 Dec 2026"
    assert words.ago("2026-12-31T23:59:30Z") == "30 s ago"
    assert words.day("2027-01-01") == "today"


@pytest.mark.parametrize(
    ("zone", "moment", "today"),
    [
        ("Pacific/Kiritimati", "2028-02-28T10:00:00Z", "2028-02-29"),
        ("Asia/Kathmandu", "2028-02-29T18:15:00Z", "2028-03-01"),
        ("America/St_Johns", "2028-03-01T03:29:59Z", "2028-02-29"),
        ("Europe/Berlin", "2027-03-27T23:00:00Z", "2027-03-28"),
    ],
)
def test_today_is_the_machines(at: At, zone: str, moment: str, today: str) -> None:
    at(moment, zone)
    assert words.short_date(moment) == words.day(today) == "today"
    assert words.days_from_now(today) == 0
    assert words.day_and_time(moment).startswith("Today ")


def test_tomorrow_after_the_clocks_went_forward(at: At) -> None:
    at("2027-03-27T23:30:00Z", "Europe/Berlin")
    assert words.day_and_time("2027-03-28T00:59:00Z") == "Today 01:59"
    assert words.day_and_time("2027-03-28T01:00:00Z") == "Today 03:00"
    assert words.day_and_time("2027-03-28T22:00:00Z") == "Tomorrow 00:00"
