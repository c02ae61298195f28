"""Bills and the payments that match them, in the manner of `engine.api.types`."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field


class Bill(Struct):
    id: str
    user_id: str
    name: str
    amount: str | None
    amount_min: str | None
    amount_max: str | None
    currency: str
    category: str | None
    cadence: str
    state: Literal["paid", "due", "overdue", "upcoming", "ended"]
    due: str | None
    next_due: str | None
    paid_on: str | None
    paid_amount: str | None
    days_late: int | None
    archived: bool = False


class Evidence(Struct):
    """One line of why a payment fits a bill, or why not."""

    feature: Literal["amount", "name", "category", "date", "account", "currency", "rejected", "taken"]
    fits: bool
    text: str
    weight: float = 0.0


class Match(Struct):
    id: str
    bill_id: str
    bill: str
    transaction_id: str
    period: str
    state: Literal["auto", "suggested", "confirmed", "rejected", "assigned"]
    score: float
    description: str
    institution: str
    date: str
    amount: str
    currency: str
    evidence: list[Evidence]
    others: list[Candidate] = field(default_factory=list)
    version: str = ""


class Candidate(Struct):
    """Another payment that was weighed for the same bill period, and what spoke against it."""

    transaction_id: str
    description: str
    date: str
    amount: str
    currency: str
    evidence: list[Evidence]


class BillPage(Struct):
    bills: list[Bill]
    counts: dict[str, int]
    next: str | None = None


class MatchPage(Struct):
    matches: list[Match]
    counts: dict[str, int]
    next: str | None = None


class BillDetail(Struct):
    """``nearest``: payments around the due date that did not match, with why; ``written``: what the person typed."""

    bill: Bill
    history: list[Match]
    nearest: list[Candidate]
    written: BillWrite | None = None


class BillWrite(Struct):
    name: str
    cadence: str
    anchor_date: str
    currency: str = "USD"
    amount: str | None = None
    amount_min: str | None = None
    amount_max: str | None = None
    category: str | None = None
    tolerance: str = "0.10"
    aliases: list[str] = field(default_factory=list)
    business_day_shift: Literal["none", "next", "previous"] = "none"
    account_id: str | None = None
    start_date: str | None = None
    end_date: str | None = None
    user: str | None = None


class MatchAssign(Struct):
    bill_id: str
    transaction_id: str
    period: str
