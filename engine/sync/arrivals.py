"""What a run brought, as the matcher sees it: only rows that could pay a bill that is still open."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from engine.matching.types import Key, MatchInputs, Payment
from engine.plaid.pages import Body, Row


class Arrivals:
    """Collects payments and removals over a run's pages; empty where the user has no bills."""

    def __init__(self, item_id: str, inputs: MatchInputs) -> None:
        self._item = item_id
        self._wanted = bool(inputs.bills)
        # ISO dates compare as text.
        self._since = inputs.since.isoformat() if inputs.since else ""
        self._payments: dict[str, Payment] = {}
        self.gone: set[Key] = set()

    @property
    def payments(self) -> list[Payment]:
        return list(self._payments.values())

    def add(self, body: Body) -> None:
        """Take in one page, in the order in which Plaid means it."""
        if not self._wanted:
            return
        for row in _both(body):
            if row.date >= self._since:
                self._payments[row.transaction_id] = self._payment(row)
                self.gone.discard((self._item, row.transaction_id))
        for entry in body.removed:
            self._payments.pop(entry.transaction_id, None)
            self.gone.add((self._item, entry.transaction_id))

    def _payment(self, row: Row) -> Payment:
        return Payment(
            item_id=self._item,
            transaction_id=row.transaction_id,
            account_id=row.account_id,
            date=date.fromisoformat(row.date),
            authorized_date=date.fromisoformat(row.authorized_date) if row.authorized_date else None,
            amount=row.amount,
            currency=row.iso_currency_code or row.unofficial_currency_code,
            name=row.name or "",
            merchant=row.merchant_name,
            pending=row.pending,
            pending_transaction_id=row.pending_transaction_id,
            primary=row.category_primary,
            detailed=row.category_detailed,
        )


def _both(body: Body) -> Iterator[Row]:
    yield from body.added
    yield from body.modified
