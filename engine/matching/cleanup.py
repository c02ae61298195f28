"""Which rows are no payments at all: pending forms that posted or went stale, money in, refunded charges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

from rapidfuzz import fuzz

from engine.matching.normalise import normalise
from engine.matching.types import Key, Payment

Reason = Literal["money_in", "posted", "stale", "refunded"]
FRESH_DAYS = 10  # a pending row older than this will not post; banks drop most within a week
REFUND_DAYS = 60
_POSTS_WITHIN = timedelta(days=8)


def no_payments(payments: Iterable[Payment], today: date) -> dict[Key, Reason]:
    """The rows that pay no bill, each with why.

    A full refund undoes the latest equal charge before it on the same account with a word in
    common; a partial credit changes nothing.
    """
    rows = list(payments)
    found: dict[Key, Reason] = {}
    pending: list[Payment] = []
    refunds: list[Payment] = []
    for row in rows:
        if row.amount <= 0:
            found[row.key] = "money_in"
            if row.amount < 0:
                refunds.append(row)
        elif row.pending:
            pending.append(row)
    if pending:
        found.update(_pending(pending, rows, today))
    if refunds:
        found.update(_refunded(refunds, rows, found))
    return found


def _pending(pending: Sequence[Payment], rows: Sequence[Payment], today: date) -> dict[Key, Reason]:
    linked = {(row.item_id, row.pending_transaction_id): row for row in rows if row.pending_transaction_id}
    found: dict[Key, Reason] = {}
    taken: set[Key] = set()
    for row in sorted(pending, key=_order):
        if row.key in linked:
            found[row.key] = "posted"
            continue
        twin = _posted_twin(row, rows, taken)
        if twin is not None:
            taken.add(twin.key)
            found[row.key] = "posted"
        elif (today - row.date).days > FRESH_DAYS:
            found[row.key] = "stale"
    return found


def _posted_twin(row: Payment, rows: Sequence[Payment], taken: Collection[Key]) -> Payment | None:
    """The posted form of a pending row whose link is missing: same account, soon after, same amount or same name."""
    best: tuple[tuple[bool, int, str], Payment] | None = None
    for other in rows:
        if other.pending or other.account_id != row.account_id or other.key in taken or other.pending_transaction_id:
            continue
        if not row.date <= other.date <= row.date + _POSTS_WITHIN or other.amount <= 0:
            continue
        same = other.amount == row.amount
        if not _akin(row, other) or not (same or _authorised_only(row.amount, other.amount)):
            continue
        rank = (not same, (other.date - row.date).days, other.transaction_id)
        if best is None or rank < best[0]:
            best = (rank, other)
    return best[1] if best else None


def _authorised_only(pending: Decimal, posted: Decimal) -> bool:
    """Whether the posted amount may be of that authorisation: a token 1.00, or a tip or correction of a third."""
    return pending <= 1 or abs(posted - pending) * 3 <= pending


def _refunded(refunds: Sequence[Payment], rows: Sequence[Payment], other: Mapping[Key, Reason]) -> dict[Key, Reason]:
    charges: defaultdict[tuple[str, str, Decimal], list[Payment]] = defaultdict(list)
    wanted = {(row.item_id, row.account_id, -row.amount) for row in refunds}
    for row in rows:
        place = (row.item_id, row.account_id, row.amount)
        if place in wanted and row.key not in other:
            charges[place].append(row)
    found: dict[Key, Reason] = {}
    for refund in sorted(refunds, key=_order):
        before = [
            charge
            for charge in charges[refund.item_id, refund.account_id, -refund.amount]
            if charge.key not in found
            and 0 <= (refund.date - charge.date).days <= REFUND_DAYS
            and _akin(refund, charge)
        ]
        if before:
            found[max(before, key=_order).key] = "refunded"
    return found


def _akin(one: Payment, other: Payment) -> bool:
    """Whether two rows name the same merchant, as far as their texts tell."""
    if one.merchant and one.merchant == other.merchant:
        return True
    left, right = normalise(one.name), normalise(other.name)
    if any(len(word) >= 4 and word in right.words for word in left.words) or left.run == right.run:
        return True
    return min(len(left.run), len(right.run)) >= 3 and fuzz.partial_ratio(left.run, right.run) >= 85


def _order(row: Payment) -> tuple[date, str, str]:
    return (row.date, row.transaction_id, row.item_id)
