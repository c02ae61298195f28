"""Rows kept by key: what changed is told narrowly, and what is being read does not move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt, Signal

ROW = Qt.ItemDataRole.UserRole
Index = QModelIndex | QPersistentModelIndex
_NONE = QModelIndex()


class Rows(QAbstractListModel):
    """A list of rows (structs). ``key`` names a row for good, ``sentence`` says it to a screen reader."""

    shown = Signal()

    def __init__(
        self, key: Callable[[Any], str], sentence: Callable[[Any], str], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.key, self._sentence = key, sentence
        self._rows: list[Any] = []
        self.stale: set[str] = set()
        """Keys of rows that left this list while it was being read."""
        self.ticked: set[str] = set()
        """Keys of rows that a person ticked; one that leaves the list is ticked no more."""

    @property
    def rows(self) -> Sequence[Any]:
        """The rows as they stand."""
        return self._rows

    def rowCount(self, parent: Index = _NONE) -> int:
        return 0 if parent.isValid() else len(self._rows)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid() or index.row() >= len(self._rows):
            return None
        row = self._rows[index.row()]
        if role == ROW:
            return row
        if role in {Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole}:
            return f"Ticked, {self._sentence(row)}" if self.key(row) in self.ticked else self._sentence(row)
        return None

    def find(self, key: str) -> int:
        """The place of a row; -1 where it is not there."""
        return next((at for at, row in enumerate(self._rows) if self.key(row) == key), -1)

    def get(self, key: str) -> Any:
        """The row of a key, or None."""
        at = self.find(key)
        return self._rows[at] if at >= 0 else None

    def show(self, rows: Sequence[Any], hold: bool = False, keep_from: int | None = None) -> int:
        """Become ``rows``, by the fewest changes; returns how many rows wait.

        ``hold``: somebody is reading. Rows change in place, none comes, goes or moves; those that
        would have come are counted, those that would have gone are ``stale``. ``keep_from``: rows
        from there on were not asked for again and stay as they are.
        """
        tail = self._rows[keep_from:] if keep_from is not None else []
        fresh = {self.key(row): row for row in rows}
        if tail:
            for row in tail:
                fresh.setdefault(self.key(row), row)
        known = {self.key(row) for row in self._rows}
        if hold and self._rows:
            self.stale = known - set(fresh)
            self._replace(fresh)
            self.ticked -= self.stale
            self.shown.emit()
            return sum(1 for key in fresh if key not in known)
        self.stale = set()
        self._remove([at for at, row in enumerate(self._rows) if self.key(row) not in fresh])
        self._arrange(list(fresh.values()))
        self._replace(fresh)
        self.ticked &= set(fresh)
        self.shown.emit()
        return 0

    def append(self, rows: Sequence[Any]) -> None:
        """Add a page of rows at the end; rows that are there already are only brought up to date."""
        known = {self.key(row) for row in self._rows}
        fresh = [row for row in rows if self.key(row) not in known]
        self._replace({self.key(row): row for row in rows})
        if fresh:
            self.beginInsertRows(QModelIndex(), len(self._rows), len(self._rows) + len(fresh) - 1)
            self._rows.extend(fresh)
            self.endInsertRows()

    def clear(self) -> None:
        """No rows."""
        self.beginResetModel()
        self._rows = []
        self.stale = set()
        self.ticked = set()
        self.endResetModel()

    def touch(self) -> None:
        """Have every row painted anew, since time has passed."""
        if self._rows:
            self.dataChanged.emit(self.index(0), self.index(len(self._rows) - 1), [ROW])

    def _remove(self, places: list[int]) -> None:
        while places:
            last = first = places.pop()
            while places and places[-1] == first - 1:
                first = places.pop()
            self.beginRemoveRows(QModelIndex(), first, last)
            del self._rows[first : last + 1]
            self.endRemoveRows()

    def _arrange(self, wanted: list[Any]) -> None:
        """Insert and move until the keys stand as in ``wanted``, which holds all of ours."""
        present = {self.key(row) for row in self._rows}
        at = 0
        while at < len(wanted):
            key = self.key(wanted[at])
            if key not in present:
                end = at
                while end < len(wanted) and self.key(wanted[end]) not in present:
                    end += 1
                self.beginInsertRows(QModelIndex(), at, end - 1)
                self._rows[at:at] = wanted[at:end]
                self.endInsertRows()
                at = end
                continue
            if self.key(self._rows[at]) != key:
                place = self.find(key)
                self.beginMoveRows(QModelIndex(), place, place, QModelIndex(), at)
                self._rows.insert(at, self._rows.pop(place))
                self.endMoveRows()
            at += 1

    def _replace(self, fresh: dict[str, Any]) -> None:
        """Put new values in place; one ``dataChanged`` for each run of rows that differ."""
        start: int | None = None
        for at, row in enumerate(self._rows):
            new = fresh.get(self.key(row), row)
            if new != row:
                self._rows[at] = new
                start = at if start is None else start
            elif start is not None:
                self._tell(start, at - 1)
                start = None
        if start is not None:
            self._tell(start, len(self._rows) - 1)

    def _tell(self, first: int, last: int) -> None:
        roles = [ROW, Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole]
        self.dataChanged.emit(self.index(first), self.index(last), roles)
