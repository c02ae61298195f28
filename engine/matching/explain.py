"""Why a payment fits a bill's period or not, as data that a person can read."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from engine.api.types_bills import Candidate, Evidence
from engine.matching.periods import WINDOWS, shifted
from engine.matching.rules import NAME_FITS, Judgement, Model
from engine.matching.types import Bill, Payment

_PLACES = {"JPY": 0, "KRW": 0, "VND": 0, "ISK": 0, "CLP": 0}


def money(amount: Decimal, currency: str) -> str:
    """An amount as text: the currency's places (at least those the amount has) and its code."""
    places = _PLACES.get(currency, 2)
    exact = amount if -int(amount.normalize().as_tuple().exponent or 0) > places else round(amount, places)
    return f"{exact:f} {currency}"


def day(when: date) -> str:
    """A day in words, the same on every system."""
    return f"{when.day} {when:%B %Y}"


def evidence(
    model: Model, payment: Payment, verdict: Judgement | None, period: date | None, *, parts: int = 1
) -> list[Evidence]:
    """Each rule with whether it holds, in words.

    Args:
        period: the due date it is weighed for; None: none is near the payment.
        parts: how many payments make up the period; more than one: this is a part of it.
    """
    bill = model.bill
    if payment.currency is not None and payment.currency != bill.currency:
        return [
            Evidence("currency", False, f"Paid in {payment.currency}, the bill is in {bill.currency}."),
            _when(bill, payment, period),
        ]
    found = [
        _amount(model, payment, parts),
        _name(bill, payment, verdict),
        _category(model, payment, verdict),
        _when(bill, payment, period),
    ]
    if bill.account_id is not None:
        same = bill.account_id == payment.account_id
        found.append(
            Evidence("account", same, "Paid from the bill's account." if same else "Paid from another account.", 0.05)
        )
    return found


def _amount(model: Model, payment: Payment, parts: int) -> Evidence:
    bill = model.bill
    paid = money(payment.amount, bill.currency)
    if parts > 1 and bill.amount is not None:
        whole = money(bill.amount, bill.currency)
        return Evidence("amount", True, f"{paid} is one of {parts} payments that add up to {whole}.", 0.44)
    value = float(payment.amount)
    inside = bool(model.high) and model.low <= value <= model.high
    if bill.amount is None and not model.high:
        return Evidence("amount", False, f"{paid}; the bill has no amount to compare with.")
    if bill.amount_min is not None or bill.amount_max is not None:
        low, high = (money(Decimal(str(round(edge, 2))), bill.currency) for edge in (model.low, model.high))
        words = "lies within" if inside else "lies outside"
        return Evidence("amount", inside, f"{paid} {words} {low} to {high}.", 0.34)
    expected = bill.amount or Decimal(0)
    if payment.amount == expected:
        return Evidence("amount", True, f"{paid} is the bill's amount.", 0.44)
    share = abs(float(payment.amount / expected - 1)) if expected else 1.0
    side = "above" if payment.amount > expected else "below"
    limit = f"{float(bill.tolerance):.0%}"
    allowed = f"within {limit}" if inside else f"more than the {limit} allowed"
    return Evidence(
        "amount", inside, f"{paid} is {share:.1%} {side} {money(expected, bill.currency)}, {allowed}.", 0.34
    )


def _name(bill: Bill, payment: Payment, verdict: Judgement | None) -> Evidence:
    text = payment.merchant or payment.name
    if verdict is not None and verdict.name >= NAME_FITS:
        return Evidence("name", True, f"“{text}” fits the name “{bill.name}”.", 0.3)
    return Evidence("name", False, f"“{text}” does not tell the name “{bill.name}”.", 0.3)


def _category(model: Model, payment: Payment, verdict: Judgement | None) -> Evidence:
    theirs = payment.detailed or payment.primary
    if theirs is None:
        return Evidence("category", False, "The payment has no category.", 0.08)
    if model.category is None:
        return Evidence("category", False, "The bill has no category to compare with.", 0.08)
    agrees = verdict is not None and verdict.category > 0
    return Evidence("category", agrees, f"Category {words(theirs)}, the bill's is {words(model.category)}.", 0.08)


def words(category: str) -> str:
    """Plaid's category as words."""
    return category.replace("_", " ").lower()


def _when(bill: Bill, payment: Payment, period: date | None) -> Evidence:
    if period is None:
        return Evidence("date", False, f"Paid {day(payment.date)}, far from every due date.", 0.28)
    expected = shifted(period, bill.business_day_shift)
    late = (payment.date - expected).days
    before, after = WINDOWS[bill.cadence]
    inside = -before <= late <= after
    if late == 0:
        return Evidence("date", True, f"Paid on the day it was due, {day(expected)}.", 0.28)
    count = f"{abs(late)} day" + ("" if abs(late) == 1 else "s")
    side = "after" if late > 0 else "before"
    return Evidence("date", inside, f"Paid {count} {side} it was due, {day(expected)}.", 0.28)


def candidate(payment: Payment, found: list[Evidence]) -> Candidate:
    """A payment that was weighed and not chosen."""
    return Candidate(
        transaction_id=payment.transaction_id,
        description=payment.merchant or payment.name,
        date=payment.date.isoformat(),
        amount=f"{payment.amount:f}",
        currency=payment.currency or "",
        evidence=found,
    )
