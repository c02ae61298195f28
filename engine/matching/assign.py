"""Exact assignment of payments to periods: one payment, one period, the greatest total score.

Components are tiny (a bill's periods and the payments in their windows), so the shortest
augmenting path method in plain Python is quick enough and needs no numeric library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_NEVER = 1e9


def assign(
    rows: Sequence[object], columns: Sequence[object], scores: Mapping[tuple[int, int], float]
) -> dict[int, int]:
    """Choose pairs (row, column) with the greatest sum of scores; each row and column at most once.

    Args:
        scores: score of each pair that may be chosen, by positions; a pair with a score of 0
            or less is never chosen, since leaving both alone is worth 0.

    Returns:
        The chosen column of each row that has one, by positions. Equal totals are decided by
        position, so sorted input gives the same answer every time.
    """
    count, width = len(rows), len(columns)
    if not count or not width or not scores:
        return {}
    if len(scores) == 1:
        ((row, column), score) = next(iter(scores.items()))
        return {row: column} if score > 0 else {}
    # A column of its own for each row, at cost 0, is "left alone".
    costs = [[_NEVER] * (width + count) for _ in range(count)]
    for (row, column), score in scores.items():
        costs[row][column] = -score
    for row in range(count):
        costs[row][width + row] = 0.0
    holder = _shortest_paths(costs)
    return {row: column for column, row in enumerate(holder[:width]) if row >= 0 and (row, column) in scores}


def _shortest_paths(costs: Sequence[Sequence[float]]) -> list[int]:
    """The row that holds each column (-1: none) in a full assignment of least cost (Hungarian method)."""
    count, width = len(costs), len(costs[0])
    row_price, column_price = [0.0] * (count + 1), [0.0] * (width + 1)
    holder = [0] * (width + 1)  # 1-based; column 0 is where the row being placed starts
    for row in range(1, count + 1):
        holder[0] = row
        came_from = [0] * (width + 1)
        least = [float("inf")] * (width + 1)
        seen = [False] * (width + 1)
        at = 0
        while True:
            seen[at] = True
            here, delta, following = holder[at], float("inf"), 0
            line, price = costs[here - 1], row_price[here]
            for column in range(1, width + 1):
                if seen[column]:
                    continue
                reduced = line[column - 1] - price - column_price[column]
                if reduced < least[column]:
                    least[column], came_from[column] = reduced, at
                if least[column] < delta:
                    delta, following = least[column], column
            for column in range(width + 1):
                if seen[column]:
                    row_price[holder[column]] += delta
                    column_price[column] -= delta
                else:
                    least[column] -= delta
            at = following
            if holder[at] == 0:
                break
        while at:
            holder[at] = holder[came_from[at]]
            at = came_from[at]
    return [row - 1 for row in holder[1:]]
