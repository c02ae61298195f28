"""The ``simple`` mode, the baseline: amount within tolerance, and the name contained or the category equal.

The nearest amount wins. It knows neither periods nor that a period is paid once; the period
it names is that of the nearest due date.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from engine.matching import periods
from engine.matching.types import Bill, Payment

_SPAN = {"weekly": 4, "biweekly": 8, "semimonthly": 9, "monthly": 17, "bimonthly": 32, "quarterly": 48, "yearly": 185}


def fits(bill: Bill, payment: Payment) -> bool:
    """Whether amount, and name or category, hold."""
    if bill.amount is None or bill.amount <= 0 or payment.amount <= 0:
        return False
    if abs(payment.amount - bill.amount) > bill.amount * bill.tolerance:
        return False
    name = bill.name.casefold()
    if name in payment.name.casefold() or name in (payment.merchant or "").casefold():
        return True
    return bill.category is not None and bill.category in (payment.detailed, payment.primary)


def pick(bills: Iterable[Bill], payment: Payment) -> tuple[Bill, date] | None:
    """The bill with the nearest amount, and the due date nearest to the payment; None: no bill fits."""
    best = min(
        (bill for bill in bills if fits(bill, payment)),
        key=lambda bill: (abs(payment.amount - (bill.amount or 0)), bill.id),
        default=None,
    )
    if best is None:
        return None
    span = timedelta(days=_SPAN[best.cadence])
    dues = list(periods.dues(best, payment.date - span, payment.date + span))
    return (best, min(dues, key=lambda due: (abs((payment.date - due).days), due))) if dues else None
