"""Due dates of a bill: calendar arithmetic from its anchor, never "+30 days" carried on.

A period is named by its nominal due date. A business-day shift moves the day a payment is
expected, not the period's name. Weekends count as days off; public holidays are not known
here, which the windows around a due date leave room for.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import date, timedelta

from engine.matching.types import Bill, Cadence, Shift

_STEP_DAYS: dict[str, int] = {"weekly": 7, "biweekly": 14}
_STEP_MONTHS: dict[str, int] = {"semimonthly": 1, "monthly": 1, "bimonthly": 2, "quarterly": 3, "yearly": 12}

# Days before and after the expected day in which a payment still belongs to the period: people
# pay late more often than early, and windows of neighbours overlap so that assignment decides.
WINDOWS: dict[Cadence, tuple[int, int]] = {
    "weekly": (3, 4),
    "biweekly": (5, 8),
    "semimonthly": (6, 9),
    "monthly": (12, 24),
    "bimonthly": (15, 30),
    "quarterly": (20, 35),
    "yearly": (30, 40),
}
WIDEST_DAYS = 45  # no window with its shift reaches further


def cut(year: int, month: int, day: int) -> date:
    """That day of the month, or the month's last day where it has no such day."""
    return date(year, month, min(day, monthrange(year, month)[1]))


def shifted(due: date, shift: Shift) -> date:
    """The day a due date moves to where it falls on a weekend."""
    weekday = due.weekday()
    if shift == "none" or weekday < 5:
        return due
    return due + timedelta(days=7 - weekday) if shift == "next" else due - timedelta(days=weekday - 4)


def dues(bill: Bill, first: date, last: date) -> Iterator[date]:
    """The bill's nominal due dates from ``first`` to ``last``, both inclusive, in order.

    Dates before the bill's start or after its end do not count.
    """
    if bill.start_date is not None:
        first = max(first, bill.start_date)
    if bill.end_date is not None:
        last = min(last, bill.end_date)
    if first > last:
        return
    step = _STEP_DAYS.get(bill.cadence)
    found = _by_days(bill.anchor_date, step, first, last) if step else _by_months(bill, first, last)
    yield from found


def _by_days(anchor: date, step: int, first: date, last: date) -> Iterator[date]:
    day = first + timedelta(days=(anchor - first).days % step)
    while day <= last:
        yield day
        day += timedelta(days=step)


def _by_months(bill: Bill, first: date, last: date) -> Iterator[date]:
    anchor, step = bill.anchor_date, _STEP_MONTHS[bill.cadence]
    days = _semimonthly_days(anchor) if bill.cadence == "semimonthly" else (anchor.day,)
    index, end = first.year * 12 + first.month - 1, last.year * 12 + last.month - 1
    index += (anchor.year * 12 + anchor.month - 1 - index) % step
    while index <= end:
        for day in days:
            due = cut(index // 12, index % 12 + 1, day)
            if first <= due <= last:
                yield due
        index += step


def _semimonthly_days(anchor: date) -> tuple[int, int]:
    """Day d and d+15; an anchor on the 15th or on a month's last day means the 15th and the last day."""
    if anchor.day == 15 or anchor.day == monthrange(anchor.year, anchor.month)[1]:
        return (15, 31)
    other = anchor.day + 15 if anchor.day < 15 else anchor.day - 15
    return (min(anchor.day, other), max(anchor.day, other))


def near(bill: Bill, paid: date, *, most: int = 2) -> list[tuple[date, int]]:
    """The due dates whose window holds ``paid``, nearest first, each with days from the expected day.

    Positive days are late. At most ``most`` of them: a payment is for the period next to it.
    """
    before, after = WINDOWS[bill.cadence]
    found = []
    for due in dues(bill, paid - timedelta(days=after + 2), paid + timedelta(days=before + 2)):
        late = (paid - shifted(due, bill.business_day_shift)).days
        if -before <= late <= after:
            found.append((due, late))
    found.sort(key=lambda pair: (abs(pair[1]), pair[0]))
    return found[:most]
