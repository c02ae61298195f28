"""An item's transactions in the order of their changes, and what /transactions/sync makes of them.

Every change has a number of its own. A cursor says up to which change its holder has seen
(``seen``), from which it began the update (``base``), and how far the ledger was at the last
page (``top``). A row is listed once, by its latest change: as added if it came after ``base``,
as modified if it was there before, as removed if the holder can know it.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from engine.sandbox.model import Transaction
from engine.sandbox.refusals import Refusal

_CURSOR = struct.Struct(">IQQQ")
NOT_OURS = "cursor not associated with access_token"


@dataclass(slots=True)
class Row:
    """A transaction with the numbers of the changes that made it, changed it last, and whether it is gone."""

    content: Transaction
    created: int
    changed: int
    removed: bool = False


@dataclass(frozen=True)
class Page:
    """One page of an update."""

    added: list[Transaction]
    modified: list[Transaction]
    removed: list[Transaction]
    next_cursor: str
    has_more: bool


@dataclass(frozen=True)
class Position:
    """What a cursor says."""

    base: int = 0
    seen: int = 0
    top: int = 0

    @property
    def within(self) -> bool:
        """Whether it is the cursor of a page that others follow."""
        return self.base != self.seen


class Ledger:
    """The changes of one item's transactions."""

    def __init__(self, item_id: str) -> None:
        self._mark = zlib.crc32(item_id.encode())
        self._rows: dict[str, Row] = {}
        self._numbers: list[int] = []  # of changes, ascending; a row's earlier ones are skipped when read
        self._changed: list[Row | None] = []
        self._mutated = 0  # number of the latest change to a row that was there before

    @property
    def top(self) -> int:
        """Number of the latest change."""
        return self._numbers[-1] if self._numbers else 0

    def add(self, transactions: Iterable[Transaction]) -> None:
        """Rows that come new.

        Raises:
            ValueError: an id was used before; a removed one never comes back.
        """
        for content in transactions:
            if content.transaction_id in self._rows:
                raise ValueError(f"transaction id {content.transaction_id} was used before")
            number = self.top + 1
            row = Row(content, number, number)
            self._rows[content.transaction_id] = row
            self._append(row, number)

    def modify(self, content: Transaction) -> None:
        """Put another content to a row that is there.

        Raises:
            KeyError: there is none.
        """
        row = self._live(content.transaction_id)
        row.content = content
        self._touch(row)

    def remove(self, transaction_id: str) -> None:
        """Take a row away.

        Raises:
            KeyError: there is none.
        """
        row = self._live(transaction_id)
        row.removed = True
        self._touch(row)

    def disturb(self) -> None:
        """Pretend that a row seen on an earlier page changed: an update under way must restart."""
        self._mutated = self.top + 1
        self._append(None, self._mutated)

    def get(self, transaction_id: str) -> Transaction | None:
        """The live transaction of this id."""
        row = self._rows.get(transaction_id)
        return None if row is None or row.removed else row.content

    def live(self) -> Iterator[Transaction]:
        """Every transaction that is there now, in the order they came."""
        return (row.content for row in self._rows.values() if not row.removed)

    def __len__(self) -> int:
        return sum(1 for row in self._rows.values() if not row.removed)

    def page(self, cursor: str | None, count: int, account_id: str | None = None) -> Page:
        """The next ``count`` changes after a cursor (None or empty: from the beginning).

        Raises:
            Refusal: the cursor is not one of this item, or rows of the update changed since its last page.
        """
        position = self.read(cursor)
        if position.within and self._mutated > position.top:
            raise Refusal("TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION")
        added: list[Transaction] = []
        modified: list[Transaction] = []
        removed: list[Transaction] = []
        seen, taken, more = position.seen, 0, False
        for index in range(bisect_right(self._numbers, position.seen), len(self._numbers)):
            number, row = self._numbers[index], self._changed[index]
            if (
                row is not None
                and row.changed == number
                and (account_id is None or row.content.account_id == account_id)
            ):
                kind = self._kind(row, position.base)
                if kind is not None:
                    if taken == count:
                        more = True
                        break
                    {"added": added, "modified": modified, "removed": removed}[kind].append(row.content)
                    taken += 1
            seen = number
        after = Position(position.base, seen, self.top) if more else Position(seen, seen, seen)
        return Page(added, modified, removed, self.write(after), more)

    def read(self, cursor: str | None) -> Position:
        """What a cursor says.

        Raises:
            Refusal: it was not made by this ledger.
        """
        if not cursor:
            return Position()
        try:
            raw = base64.b64decode(cursor.encode(), validate=True)
            mark, base, seen, top = _CURSOR.unpack(raw[:-4])
            if zlib.crc32(raw[:-4]) != int.from_bytes(raw[-4:], "big"):
                raise ValueError(cursor)
        except (ValueError, struct.error, binascii.Error):
            raise Refusal("INVALID_FIELD", NOT_OURS) from None
        if mark != self._mark or max(base, seen) > self.top:
            raise Refusal("INVALID_FIELD", NOT_OURS)
        return Position(base, seen, top)

    def write(self, position: Position) -> str:
        """The cursor that says this."""
        raw = _CURSOR.pack(self._mark, position.base, position.seen, position.top)
        return base64.b64encode(raw + zlib.crc32(raw).to_bytes(4, "big")).decode()

    @staticmethod
    def _kind(row: Row, base: int) -> str | None:
        if row.removed:
            return "removed" if row.created <= base else None
        return "modified" if row.created <= base else "added"

    def _live(self, transaction_id: str) -> Row:
        row = self._rows[transaction_id]
        if row.removed:
            raise KeyError(transaction_id)
        return row

    def _touch(self, row: Row) -> None:
        row.changed = self._mutated = self.top + 1
        self._append(row, row.changed)

    def _append(self, row: Row | None, number: int) -> None:
        self._numbers.append(number)
        self._changed.append(row)
