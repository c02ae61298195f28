"""The ``rules`` mode: two of amount, name and category must hold, inside the bill's period.

Each pair of bill and payment is judged once, whatever the period (`judge`); the period adds
the distance to the expected day (`pairs`). Scores order rivals for the assignment: a tag is
worth 2 to 5, a suggestion less than 1, so no number of suggestions outweighs a tag they displace.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Literal, NamedTuple

from engine.matching import categories, periods
from engine.matching.normalise import likeness
from engine.matching.types import Bill, Payment

Grade = Literal["auto", "suggested", "none"]

NAME_FITS = 0.75
_CENT = 0.005
_SETTLES_DAYS = 4
_LEAST_PART = 0.1


class Judgement(NamedTuple):
    """How a payment fits a bill, its day aside. ``amount`` and ``name`` are 0 to 1, ``off`` a fraction or None."""

    amount: float
    exact: bool
    off: float | None
    name: float
    category: float
    account: bool
    transfer: bool


class Pair(NamedTuple):
    """A payment that may pay a bill's period; ``late`` is days after the expected day.

    ``part``: too little for the bill but by its name, so it may be one of several payments for
    the period; with grade ``none`` it is nothing by itself.
    """

    period: date
    late: int
    grade: Grade
    score: float
    part: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """A bill made ready for judging: bounds as floats, names, the category it has or its name tells."""

    bill: Bill
    names: tuple[str, ...]
    low: float
    high: float
    amount: float | None
    category: str | None
    reach: tuple[float, float]

    @classmethod
    def of(cls, bill: Bill) -> Model:
        amount = None if bill.amount is None else float(bill.amount)
        tolerance = float(bill.tolerance)
        low = high = 0.0
        if amount is not None:
            low, high = amount * (1 - tolerance) - _CENT, amount * (1 + tolerance) + _CENT
        if bill.amount_min is not None or bill.amount_max is not None:
            least = float(bill.amount_min) if bill.amount_min is not None else 0.0
            most = float(bill.amount_max) if bill.amount_max is not None else max(high, least * 4)
            low, high = min(low or least, least * 0.95), max(high, most * 1.05)
        reach = (low * _LEAST_PART, high * 2.0) if high else (0.0, float("inf"))
        category = categories.of_bill(bill.category, bill.name)
        return cls(bill, (bill.name, *bill.aliases), low, high, amount, category, reach)


def judge(model: Model, payment: Payment) -> Judgement | None:
    """How the payment fits the bill; None where nothing but the day could speak for it."""
    value = float(payment.amount)
    if not model.reach[0] <= value <= model.reach[1]:
        return None
    bill = model.bill
    if payment.currency is not None and payment.currency != bill.currency:
        return None
    inside = bool(model.high) and model.low <= value <= model.high
    name = _named(model.names, payment.name, payment.merchant)
    if not inside and name < NAME_FITS:
        return None
    category = categories.agreement(model.category, payment.primary, payment.detailed)
    off = None if not model.amount else value / model.amount - 1
    return Judgement(
        amount=_closeness(model, value) if inside else 0.0,
        exact=off is not None and abs(value - (model.amount or 0.0)) < _CENT,
        off=off,
        name=name,
        category=category,
        account=bill.account_id is not None and bill.account_id == payment.account_id,
        transfer=_is_transfer(payment),
    )


@lru_cache(maxsize=20_000)
def _named(names: tuple[str, ...], name: str, merchant: str | None) -> float:
    """How well the best of a bill's names fits a payment's texts; the same texts come back every month."""
    best = max(likeness(text, name) for text in names)
    if best < 1.0 and merchant:
        best = max(best, *(likeness(text, merchant) for text in names))
    return best


def _closeness(model: Model, value: float) -> float:
    """1 at the bill's amount, 0.3 at the edge of what it allows; 0.7 all over a range without an amount."""
    if model.amount is None:
        return 0.7
    edge = (model.high if value >= model.amount else model.low) - model.amount
    return 1 - 0.7 * min(1.0, abs(value - model.amount) / abs(edge)) if edge else 1.0


def _is_transfer(payment: Payment) -> bool:
    return (payment.primary or "").startswith("TRANSFER") or payment.detailed == "LOAN_PAYMENTS_CREDIT_CARD_PAYMENT"


def pairs(model: Model, payment: Payment, verdict: Judgement) -> list[Pair]:
    """The periods this payment may pay, each with what it would be worth there."""
    bill = model.bill
    before, after = periods.WINDOWS[bill.cadence]
    found = []
    ahead = 0 if payment.authorized_date is None else (payment.date - payment.authorized_date).days
    for period, days in periods.near(bill, payment.date):
        # A card shows the payment some days after it was made: the nearer of both days counts.
        late = min(days, days - max(0, min(_SETTLES_DAYS, ahead)), key=abs)
        distance = abs(late) / (after if late > 0 else before)
        grade = _grade(verdict, distance)
        part = verdict.name >= NAME_FITS and verdict.off is not None and float(payment.amount) < model.low
        if grade != "none" or part:
            found.append(Pair(period, late, grade, _score(verdict, distance, grade), part))
    return found


def _grade(verdict: Judgement, distance: float) -> Grade:
    """Two of the three rules, the day in the period's window; weaker pairs are only proposed."""
    amount, named = verdict.amount > 0, verdict.name >= NAME_FITS
    known = verdict.off is not None
    not_too_little = amount or not known or (verdict.off or 0.0) >= -0.5
    if (
        (amount and named)
        or (named and verdict.category > 0 and known and abs(verdict.off or 0.0) <= 0.5 and distance <= 0.5)
        or (amount and verdict.category == 1.0 and not verdict.transfer and distance <= 0.35)
    ):
        return "auto"
    if (not_too_little and (named or (amount and verdict.category > 0)) and distance <= 0.5) or (
        verdict.exact and distance <= 0.2
    ):
        return "suggested"
    return "none"


def _score(verdict: Judgement, distance: float, grade: Grade) -> float:
    worth = 0.34 * verdict.amount + 0.3 * verdict.name + 0.08 * verdict.category + 0.28 * (1 - distance)
    worth += 0.1 * verdict.exact + 0.05 * verdict.account
    return 2.0 + 2.5 * worth if grade == "auto" else 0.8 * worth
