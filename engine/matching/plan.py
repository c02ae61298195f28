"""What a sync asks: given the rows that arrived and those that went, which matches change?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

from engine.api.types_bills import Candidate, Evidence
from engine.matching import explain, simple
from engine.matching.board import Board, Choice, Node
from engine.matching.cleanup import no_payments
from engine.matching.types import Held, Key, MatchInputs, Mode, Payment, PlannedMatch

MOST_OTHERS = 3


def plan(
    inputs: MatchInputs, arrived: Sequence[Payment], gone: Collection[Key], today: date, *, mode: Mode = "rules"
) -> list[PlannedMatch]:
    """The changes to the stored matches that ``arrived`` and ``gone`` bring about.

    Only bills and periods in reach of these rows are weighed; the outcome equals that of
    `plan_all` over everything. Encode the result with ``msgspec.to_builtins`` for ``p_matches``.

    Args:
        inputs: ``sync_claim``'s ``matching``, read by `MatchInputs.read`.
        arrived: rows added or modified by this run.
        gone: (item id, transaction id) of rows removed by this run.
        today: the day in UTC; decides whether a pending row is still fresh.
    """
    # A pending row goes stale by itself, without news.
    if not inputs.bills or not (arrived or gone or any(row.pending for row in inputs.payments)):
        return []
    board = Board(inputs, arrived, gone, today)
    before = no_payments(inputs.payments, today)
    touched = {row.key for row in arrived} | set(gone)
    touched |= {key for key in before.keys() ^ board.out.keys() if key in board.rows}
    touched |= {key for key, row in board.rows.items() if row.pending}
    return _plan(board, touched, mode)


def plan_all(inputs: MatchInputs, today: date, *, mode: Mode = "rules") -> list[PlannedMatch]:
    """The changes that weighing everything anew brings: after a bill was written, or a decision made."""
    board = Board(inputs, (), (), today)
    touched = set(board.rows) | {held.key for held in board.stored() if not board.is_closed(held.period)}
    return _plan(board, touched, mode)


def _plan(board: Board, touched: set[Key], mode: Mode) -> list[PlannedMatch]:
    if mode == "simple":
        return _plan_simple(board, touched)
    nodes: set[Node] = {
        (held.bill_id, held.period)
        for held in board.stored()
        if held.key in touched and not board.is_closed(held.period) and (held.bill_id, held.period) not in board.paid
    }
    chosen: dict[Key, Choice] = {}
    all_keys, all_nodes = set(touched), set(nodes)
    seen_keys: set[Key] = set()
    seen_nodes: set[Node] = set()
    for keys, starts in [((key,), ()) for key in sorted(touched)] + [((), (node,)) for node in sorted(nodes)]:
        if seen_keys.issuperset(keys) and seen_nodes.issuperset(starts):
            continue
        found_keys, found_nodes = board.component(keys, starts)
        seen_keys |= found_keys
        seen_nodes |= found_nodes
        if found_keys and found_nodes:
            chosen.update((choice.key, choice) for choice in board.solve(found_keys, found_nodes))
    all_keys |= seen_keys
    all_nodes |= seen_nodes
    changes = _withdrawn(board, chosen, all_keys, all_nodes)
    kept = {(held.bill_id, held.key, held.period, held.state) for held in board.stored()}
    for choice in sorted(chosen.values(), key=lambda choice: (choice.bill_id, choice.pair.period, choice.key)):
        if (choice.bill_id, choice.key, choice.pair.period, choice.pair.grade) not in kept:
            changes.append(_planned(board, choice, chosen))
    return changes


def _withdrawn(board: Board, chosen: dict[Key, Choice], keys: set[Key], nodes: set[Node]) -> list[PlannedMatch]:
    """The stored matches in reach that no longer stand."""
    found = []
    for held in board.stored():
        if held.key not in keys and (held.bill_id, held.period) not in nodes:
            continue
        if held.key in board.taken and board.is_closed(held.period):
            continue
        choice = chosen.get(held.key)
        if choice is None or choice.bill_id != held.bill_id:
            found.append(_none(held))
    return found


def _none(held: Held) -> PlannedMatch:
    return PlannedMatch(
        bill_id=held.bill_id,
        item_id=held.item_id,
        transaction_id=held.transaction_id,
        period=held.period,
        state="none",
    )


def _planned(board: Board, choice: Choice, chosen: dict[Key, Choice]) -> PlannedMatch:
    row, model = board.rows[choice.key], board.models[choice.bill_id]
    verdict = board.verdict(choice.bill_id, row)
    return PlannedMatch(
        bill_id=choice.bill_id,
        item_id=row.item_id,
        transaction_id=row.transaction_id,
        period=choice.pair.period,
        state="auto" if choice.pair.grade == "auto" else "suggested",
        score=round(min(1.0, choice.pair.score / 4.5 if choice.pair.grade == "auto" else choice.pair.score), 4),
        evidence=explain.evidence(model, row, verdict, choice.pair.period, parts=choice.parts),
        others=_others(board, choice, chosen),
    )


def _others(board: Board, choice: Choice, chosen: dict[Key, Choice]) -> list[Candidate]:
    """The strongest rivals for the period, and what spoke against each."""
    rivals = []
    for key in board.payers((choice.bill_id, choice.pair.period)):
        row = board.rows[key]
        if key == choice.key:
            continue
        for pair in board.edges(choice.bill_id, row):
            if pair.period == choice.pair.period:
                rivals.append((-pair.score, row.date, row))
    rivals.sort(key=lambda rival: (rival[0], rival[1], rival[2].key))
    return [explain.candidate(row, _against(board, choice, row, chosen)) for _, _, row in rivals[:MOST_OTHERS]]


def _against(board: Board, choice: Choice, row: Payment, chosen: dict[Key, Choice]) -> list[Evidence]:
    bill_id, period = choice.bill_id, choice.pair.period
    lines = explain.evidence(board.models[bill_id], row, board.verdict(bill_id, row), period)
    placed = chosen.get(row.key)
    if placed is None:
        text = "Another payment fits this period better."
    elif placed.bill_id == bill_id:
        text = f"It pays the period due {explain.day(placed.pair.period)}."
    else:
        text = f"It pays “{board.models[placed.bill_id].bill.name}”."
    return [Evidence("taken", False, text), *lines]


def _plan_simple(board: Board, touched: set[Key]) -> list[PlannedMatch]:
    """Each payment by itself: the simple mode knows no rivals."""
    changes, bills = [], [model.bill for model in board.models.values()]
    stored = {held.key: held for held in board.stored()}
    for key in sorted(touched):
        row, held = board.rows.get(key), stored.get(key)
        usable = row is not None and key not in board.out and key not in board.taken
        free = [bill for bill in bills if (bill.id, key) not in board.rejected]
        picked = simple.pick(free, row) if row is not None and usable else None
        if held is not None and (picked is None or picked[0].id != held.bill_id):
            changes.append(_none(held))
        if row is None or picked is None:
            continue
        bill, period = picked
        if held is not None and (held.bill_id, held.period, held.state) == (bill.id, period, "auto"):
            continue
        lines = explain.evidence(board.models[bill.id], row, board.verdict(bill.id, row), period)
        changes.append(
            PlannedMatch(
                bill_id=bill.id,
                item_id=row.item_id,
                transaction_id=row.transaction_id,
                period=period,
                state="auto",
                score=1.0,
                evidence=lines,
            )
        )
    return changes
