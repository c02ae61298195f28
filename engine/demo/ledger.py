"""What the demo's database holds, read directly, and whether it is what the bank has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import TracebackType
from typing import Any

from engine import clock
from engine.errors import NotRunningError, StartError
from engine.profile import Profile

Facts = tuple[str, Decimal, str, bool, str, str | None, str | None]
"""Of one transaction: account, amount, date, pending, name, merchant, currency."""

_POLL_S = 0.002
_LONGEST_S = 60.0
"""Guards against what never comes: a machine with much else to do may need long for what takes a moment. Above all
a webhook that was not answered in time is sent again half a minute later."""


class Ledger:
    """A reading connection of its own to the demo's database."""

    def __init__(self, profile: Profile) -> None:
        import psycopg

        from engine.host import postgres

        url = postgres.running_url(profile)
        if url is None:
            raise NotRunningError("The demo's database does not run.")
        self._connection: psycopg.Connection[tuple[Any, ...]] = psycopg.connect(url, autocommit=True)
        self._pause = threading.Event()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def one(self, query: str, *values: Any) -> Any:
        """First column of the first row."""
        row = self._connection.execute(query, values or None).fetchone()
        return None if row is None else row[0]

    def wait(self, sentence: str, query: str, *values: Any, deadline_s: float = _LONGEST_S) -> float:
        """Wait until ``query`` says true; the moment it was seen, as Unix milliseconds.

        Raises:
            StartError: it did not within ``deadline_s``; ``sentence`` says what did not come true.
        """
        return self.until(sentence, lambda: bool(self.one(query, *values)), deadline_s)

    def until(self, sentence: str, condition: Callable[[], bool], deadline_s: float = _LONGEST_S) -> float:
        """As `wait`, for whatever ``condition`` looks at."""
        end = clock.monotonic() + deadline_s
        while not condition():
            if clock.monotonic() > end:
                raise StartError(sentence)
            self._pause.wait(_POLL_S)
        return clock.now().timestamp() * 1000

    def wait_row(self, transaction_id: str) -> float:
        """Wait for a transaction to be readable."""
        query = "select exists (select from syncdesk.transactions where transaction_id = %s and removed_at is null)"
        return self.wait("A transaction that a webhook announced did not arrive.", query, transaction_id)

    def rows(self, plaid_item_id: str) -> dict[str, Facts]:
        """The live transactions of an item by Plaid's id."""
        found = self._connection.execute(
            "select t.transaction_id, t.account_id, t.amount, t.date::text, t.pending, t.name, t.merchant_name,"
            " coalesce(t.iso_currency_code, t.unofficial_currency_code)"
            " from syncdesk.transactions t join syncdesk.items i on i.id = t.item_id"
            " where i.plaid_item_id = %s and t.removed_at is null",
            (plaid_item_id,),
        )
        return {row[0]: row[1:] for row in found}

    def added_twice(self) -> int:
        """Transactions that the history says were added more than once."""
        return int(
            self.one(
                "select count(*) from (select 1 from syncdesk.transaction_history where change = 'added'"
                " group by item_id, transaction_id having count(*) > 1) twice"
            )
        )


def bank_rows(truth: Mapping[str, Any]) -> dict[str, Facts]:
    """The same facts from the bank's own truth of one item."""
    return {
        row["transaction_id"]: (
            row["account_id"],
            Decimal(row["amount"]),
            row["date"],
            row["pending"],
            row["name"],
            row["merchant_name"],
            row["iso_currency_code"] or row["unofficial_currency_code"],
        )
        for row in truth["transactions"]
    }
