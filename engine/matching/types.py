"""The words of bill matching: what a plan is made from and what it answers.

The structs mirror the JSON of ``syncdesk.match_inputs`` and of ``p_matches`` of the commit,
so both sides are decoded and encoded by msgspec alone. Money is an exact `Decimal` (text in
JSON), dates are nominal calendar days without a zone, and amounts keep Plaid's sign:
positive is money out of the account.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from engine.api.types_bills import Candidate, Evidence

Cadence = Literal["weekly", "biweekly", "semimonthly", "monthly", "bimonthly", "quarterly", "yearly"]
Shift = Literal["none", "next", "previous"]
Mode = Literal["rules", "simple"]
HeldState = Literal["auto", "suggested", "confirmed", "assigned", "rejected"]
Key = tuple[str, str]  # item id and Plaid's transaction id: one payment


class Bill(Struct, frozen=True, kw_only=True):
    """A bill as the person typed it. ``anchor_date`` is one due date, before any shift."""

    id: str
    name: str
    amount: Decimal | None = None
    amount_min: Decimal | None = None
    amount_max: Decimal | None = None
    currency: str = "USD"
    category: str | None = None
    cadence: Cadence = "monthly"
    anchor_date: dt.date
    business_day_shift: Shift = "none"
    account_id: str | None = None
    tolerance: Decimal = Decimal("0.10")
    aliases: tuple[str, ...] = ()
    start_date: dt.date | None = None
    end_date: dt.date | None = None


class Payment(Struct, frozen=True, kw_only=True, array_like=True):
    """A transaction, with what matching looks at. ``currency`` is the ISO code, else the unofficial one.

    In JSON an array of the fields in this order, as ``syncdesk.match_inputs`` sends hundreds of them.
    """

    item_id: str
    transaction_id: str
    account_id: str
    date: dt.date
    authorized_date: dt.date | None = None
    amount: Decimal
    currency: str | None = None
    name: str = ""
    merchant: str | None = None
    pending: bool = False
    pending_transaction_id: str | None = None
    primary: str | None = None
    detailed: str | None = None

    @property
    def key(self) -> Key:
        return (self.item_id, self.transaction_id)


class Held(Struct, frozen=True, kw_only=True):
    """A match that is stored: the matcher's (auto, suggested) or the person's (the rest)."""

    bill_id: str
    item_id: str
    transaction_id: str
    period: dt.date
    state: HeldState

    @property
    def key(self) -> Key:
        return (self.item_id, self.transaction_id)


class MatchInputs(Struct, frozen=True, kw_only=True):
    """What ``syncdesk.match_inputs(user)`` gives: the user's bills, payments and matches from ``since`` on.

    ``match_version`` is the user's; the commit refuses a plan that was made against
    another one. ``payments`` holds rows not removed; rows of the run itself are handed to
    `engine.matching.plan.plan` as ``arrived`` and win over stored ones.
    """

    match_version: int = 0
    since: dt.date | None = None
    bills: tuple[Bill, ...] = ()
    payments: tuple[Payment, ...] = ()
    matches: tuple[Held, ...] = ()

    @classmethod
    def read(cls, answer: Mapping[str, Any] | None) -> MatchInputs:
        """From the answer of ``match_inputs``, whose lists come as the text of JSON lists; none: no bills.

        Raises:
            msgspec.ValidationError: not such an answer.
        """
        given = answer or {}
        return cls(
            match_version=given.get("match_version") or 0,
            since=msgspec.convert(given.get("since"), dt.date | None),
            bills=msgspec.json.decode(given.get("bills") or "[]", type=tuple[Bill, ...]),
            payments=msgspec.json.decode(given.get("payments") or "[]", type=tuple[Payment, ...]),
            matches=msgspec.json.decode(given.get("matches") or "[]", type=tuple[Held, ...]),
        )


class PlannedMatch(Struct, frozen=True, kw_only=True):
    """One change to the stored matches. State ``none`` withdraws a match of the matcher's own."""

    bill_id: str
    item_id: str
    transaction_id: str
    period: dt.date
    state: Literal["auto", "suggested", "none"]
    score: float = 0.0
    evidence: list[Evidence] = field(default_factory=list)
    others: list[Candidate] = field(default_factory=list)

    @property
    def key(self) -> Key:
        return (self.item_id, self.transaction_id)
