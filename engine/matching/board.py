"""The board a plan is made on: who may pay what, weighed only as far as it is asked for.

Nodes are payments and periods (bill, due date); an edge says that the payment may pay the
period. Edges of one pair of bill and payment depend on nothing but these two, so a part of
the board weighed alone gives the same edges as the whole.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import NamedTuple

from engine.matching.assign import assign
from engine.matching.cleanup import Reason, no_payments
from engine.matching.parts import find as find_parts
from engine.matching.periods import WIDEST_DAYS
from engine.matching.rules import Judgement, Model, Pair, judge, pairs
from engine.matching.types import Held, Key, MatchInputs, Payment

Node = tuple[str, date]  # bill id and period


class Choice(NamedTuple):
    """A payment placed on a period."""

    bill_id: str
    key: Key
    pair: Pair
    parts: int = 1  # how many payments make up the period


class Board:
    """Bills, payments and what is decided among them, after the rows that arrived and went."""

    def __init__(self, inputs: MatchInputs, arrived: Sequence[Payment], gone: Collection[Key], today: date) -> None:
        self.models = {bill.id: Model.of(bill) for bill in inputs.bills}
        self.rows: dict[Key, Payment] = {row.key: row for row in inputs.payments}
        for row in arrived:
            self.rows[row.key] = row
        for key in gone:
            self.rows.pop(key, None)
        self.out: dict[Key, Reason] = no_payments(self.rows.values(), today)
        self.first_open = None if inputs.since is None else inputs.since + timedelta(days=WIDEST_DAYS)
        self.held = inputs.matches
        self.taken: set[Key] = set()
        self.paid: set[Node] = set()
        self.begun: dict[Node, Decimal] = {}  # what the person decided of periods that are paid in part
        self.rejected: set[tuple[str, Key]] = set()
        self._decide(set(gone))
        self._by_amount = sorted(self.rows.values(), key=lambda row: (row.amount, row.date, row.key))
        self._amounts = [row.amount for row in self._by_amount]
        self._edges: dict[tuple[str, Key], tuple[Pair, ...]] = {}
        self._verdicts: dict[tuple[str, Key], Judgement | None] = {}
        self._opened: dict[str, dict[date, list[Key]]] = {}

    def _decide(self, gone: Collection[Key]) -> None:
        """What the person decided stands, also after a pending row posted under another id."""
        posted = {
            (row.item_id, row.pending_transaction_id): row.key
            for row in self.rows.values()
            if row.pending_transaction_id
        }
        for held in self.held:
            key = posted.get(held.key, held.key)
            if held.state == "rejected":
                self.rejected |= {(held.bill_id, held.key), (held.bill_id, key)}
            elif held.state in ("confirmed", "assigned") or held.bill_id not in self.models:
                if key not in gone:
                    self.taken |= {held.key, key}
                    self._note_paid(held, key)
            elif self.is_closed(held.period) and key in self.rows and key not in self.out:
                self.taken.add(key)

    def _note_paid(self, held: Held, key: Key) -> None:
        """A period is paid by what the person decided, unless that is only a part of the bill."""
        node, row, model = (held.bill_id, held.period), self.rows.get(key), self.models.get(held.bill_id)
        amount = model.bill.amount if model is not None else None
        if node in self.paid:
            return
        if row is not None and model is not None and amount is not None and float(row.amount) < model.low:
            self.begun[node] = self.begun.get(node, Decimal(0)) + row.amount
            if self.begun[node] < amount:
                return
        self.begun.pop(node, None)
        self.paid.add(node)

    def is_closed(self, period: date) -> bool:
        """Periods too near the window's start are left as they are: their payments may lie before it."""
        return self.first_open is not None and period < self.first_open

    def verdict(self, bill_id: str, row: Payment) -> Judgement | None:
        place = (bill_id, row.key)
        if place not in self._verdicts:
            self._verdicts[place] = judge(self.models[bill_id], row)
        return self._verdicts[place]

    def edges(self, bill_id: str, row: Payment) -> tuple[Pair, ...]:
        """The periods of the bill that the payment may pay."""
        place = (bill_id, row.key)
        found = self._edges.get(place)
        if found is None:
            found = self._edges[place] = self._weigh(bill_id, row)
        return found

    def _weigh(self, bill_id: str, row: Payment) -> tuple[Pair, ...]:
        if row.key in self.out or row.key in self.taken or (bill_id, row.key) in self.rejected:
            return ()
        verdict = self.verdict(bill_id, row)
        if verdict is None:
            return ()
        return tuple(
            pair
            for pair in pairs(self.models[bill_id], row, verdict)
            if not self.is_closed(pair.period) and (bill_id, pair.period) not in self.paid
        )

    def within_reach(self, bill_id: str) -> list[Payment]:
        """The payments whose amount is not out of the question for the bill."""
        low, high = self.models[bill_id].reach
        start = bisect_left(self._amounts, Decimal(low))
        end = bisect_right(self._amounts, Decimal(high))
        return self._by_amount[start:end]

    def _payers(self, bill_id: str) -> dict[date, list[Key]]:
        opened = self._opened.get(bill_id)
        if opened is None:
            opened = defaultdict(list)
            for row in self.within_reach(bill_id):
                for pair in self.edges(bill_id, row):
                    opened[pair.period].append(row.key)
            self._opened[bill_id] = opened
        return opened

    def payers(self, node: Node) -> list[Key]:
        """The payments that may pay the period."""
        return self._payers(node[0]).get(node[1], [])

    def _offers(self, key: Key) -> list[tuple[Node, Pair]]:
        """All periods of all bills that the payment may pay."""
        if key in self.out or key in self.taken:
            return []
        row = self.rows[key]
        value = float(row.amount)
        return [
            ((bill_id, pair.period), pair)
            for bill_id, model in self.models.items()
            if model.reach[0] <= value <= model.reach[1]
            for pair in self.edges(bill_id, row)
        ]

    def component(self, keys: Iterable[Key], nodes: Iterable[Node]) -> tuple[set[Key], set[Node]]:
        """All payments and periods that hang together with the given ones."""
        reached_keys: set[Key] = set()
        reached_nodes: set[Node] = set()
        waiting_nodes = list(nodes)
        waiting = [key for key in keys if key in self.rows]
        while waiting or waiting_nodes:
            while waiting_nodes:
                node = waiting_nodes.pop()
                if node in reached_nodes or node[0] not in self.models:
                    continue
                reached_nodes.add(node)
                waiting += [key for key in self.payers(node) if key not in reached_keys]
            if waiting:
                key = waiting.pop()
                if key in reached_keys:
                    continue
                reached_keys.add(key)
                waiting_nodes += [node for node, _ in self._offers(key) if node not in reached_nodes]
        return reached_keys, reached_nodes

    def solve(self, keys: Collection[Key], nodes: Collection[Node]) -> list[Choice]:
        """The best placing inside one component: parts that add up first, then the assignment of the rest."""
        parts = self._parts(keys, nodes)
        placed, filled = {choice.key for choice in parts}, {(choice.bill_id, choice.pair.period) for choice in parts}
        columns = sorted((key for key in keys if key not in placed), key=lambda key: (self.rows[key].date, key))
        rows = sorted(node for node in nodes if node not in filled and node not in self.begun)
        place = {node: index for index, node in enumerate(rows)}
        found: dict[tuple[int, int], Pair] = {}
        for column, key in enumerate(columns):
            for node, pair in self._offers(key):
                if pair.grade != "none" and node in place:
                    found[place[node], column] = pair
        # Of equal rivals the earlier payment stands: a hair's weight, far below any real difference.
        scores = {spot: pair.score - spot[1] * 1e-7 for spot, pair in found.items()}
        chosen = sorted(assign(rows, columns, scores).items())
        return parts + [Choice(rows[row][0], columns[column], found[row, column]) for row, column in chosen]

    def _parts(self, keys: Collection[Key], nodes: Collection[Node]) -> list[Choice]:
        offered: defaultdict[Node, list[tuple[Pair, Key]]] = defaultdict(list)
        whole: set[Node] = set()
        for key in keys:
            seen: set[str] = set()
            for node, pair in self._offers(key):
                if pair.part:
                    offered[node].append((pair, key))
                elif pair.grade == "auto" and node[0] not in seen:
                    whole.add(node)  # a payment of the whole amount is at hand, and nearest to this period
                seen.add(node[0])
        found: list[Choice] = []
        placed: set[Key] = set()
        for node in sorted(offered.keys() & set(nodes)):
            amount = self.models[node[0]].bill.amount
            if amount is None or node in whole:
                continue
            open_ = {key: pair for pair, key in offered[node] if key not in placed}
            rest = amount - self.begun.get(node, Decimal(0))
            group = find_parts(rest, node in self.begun, [(pair.late, self.rows[key]) for key, pair in open_.items()])
            for row in group:
                placed.add(row.key)
                pair = open_[row.key]._replace(grade="auto", score=3.5)
                found.append(Choice(node[0], row.key, pair, len(group) + (node in self.begun)))
        return found

    def stored(self) -> list[Held]:
        """The matcher's own stored matches of bills that still stand."""
        return [held for held in self.held if held.state in ("auto", "suggested") and held.bill_id in self.models]
