"""Why not? The payments nearest to a bill's period that were not matched to it, with what spoke against each."""

from __future__ import annotations

import datetime as dt

from engine.api.types_bills import Candidate, Evidence
from engine.matching import explain
from engine.matching.board import Board
from engine.matching.periods import WINDOWS, shifted
from engine.matching.types import Key, MatchInputs, Payment

_WHY_OUT = {
    "posted": "It is the pending form of a payment that was posted.",
    "stale": "It was pending for too long and never posted.",
    "refunded": "It was refunded in full.",
}


def nearest(inputs: MatchInputs, bill_id: str, due: dt.date, today: dt.date, *, most: int = 5) -> list[Candidate]:
    """The payments around ``due`` that come closest to the bill, best first, each with its evidence."""
    board = Board(inputs, (), (), today)
    model = board.models.get(bill_id)
    if model is None:
        return []
    before, after = WINDOWS[model.bill.cadence]
    expected = shifted(due, model.bill.business_day_shift)
    holders = {held.key: held.bill_id for held in inputs.matches if held.state not in ("rejected", "suggested")}
    found: list[tuple[float, dt.date, Key, Candidate]] = []
    for row in board.rows.values():
        late = (row.date - expected).days
        if row.amount <= 0 or not -before <= late <= after or holders.get(row.key) == bill_id:
            continue
        lines = explain.evidence(model, row, board.verdict(bill_id, row), due)
        likeness = sum(line.weight for line in lines if line.fits and line.feature in ("amount", "name"))
        distance = abs(late) / (after if late > 0 else before)
        hurdle = _hurdle(board, row, bill_id, holders)
        found.append((likeness - 0.2 * distance, row.date, row.key, explain.candidate(row, [*hurdle, *lines])))
    found.sort(key=lambda entry: (-entry[0], entry[1], entry[2]))
    return [candidate for _, _, _, candidate in found[:most]]


def _hurdle(board: Board, row: Payment, bill_id: str, holders: dict[Key, str]) -> list[Evidence]:
    """What rules a payment out, whatever its amount, name and day."""
    if (bill_id, row.key) in board.rejected:
        return [Evidence("rejected", False, "You rejected this payment for this bill.")]
    if row.key in holders:
        holder = board.models.get(holders[row.key])
        text = f"It pays “{holder.bill.name}”." if holder else "It pays a bill that is archived."
        return [Evidence("taken", False, text)]
    reason = board.out.get(row.key)
    return [Evidence("taken", False, _WHY_OUT[reason])] if reason in _WHY_OUT else []
