"""Part payments: two or three payments of a bill's name that add up to it to the cent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import combinations

from engine.matching.types import Payment

MOST_PARTS = 3
_MOST_CANDIDATES = 12  # beyond that there is shopping at the merchant, and sums come about by chance
_SPAN = timedelta(days=21)


def find(rest: Decimal, begun: bool, candidates: Sequence[tuple[int, Payment]]) -> tuple[Payment, ...]:
    """The payments that make up ``rest``, or none.

    Exact to the cent on purpose: with a loose tolerance sums take other bills' payments.

    Args:
        rest: what is still to be paid of the period.
        begun: whether a part is paid already, so that one payment may complete it.
        candidates: payments that name the bill in the period's window, with their days off the due date.
    """
    if len(candidates) > _MOST_CANDIDATES:
        return ()
    nearest = sorted(candidates, key=lambda found: (found[1].date, found[1].key))
    for size in range(1 if begun else 2, MOST_PARTS + 1):
        best = min(
            (
                group
                for group in combinations(nearest, size)
                if sum(row.amount for _, row in group) == rest and group[-1][1].date - group[0][1].date <= _SPAN
            ),
            key=lambda group: (sum(abs(late) for late, _ in group), [row.key for _, row in group]),
            default=None,
        )
        if best is not None:
            return tuple(row for _, row in best)
    return ()
