"""Rows of the engine's lists, fetched page by page as they are scrolled to and refreshed from the top."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QModelIndex, QObject, Signal
from PySide6.QtNetwork import QNetworkReply

from gui.client.api import Client, Failure
from gui.models.rows import Index, Rows

PAGE = 100
TOP = 200
"""Rows from the top that a refresh asks for again; those further down stay until they are scrolled to anew."""
_NONE = QModelIndex()


class Paged(Rows):
    """``address(after, limit)`` makes a page's address, ``pick`` takes the rows out of its answer."""

    answered = Signal(object)
    failed = Signal(object)
    waiting = Signal(int)

    def __init__(
        self,
        client: Client,
        shape: Any,
        address: Callable[[str | None, int], str],
        pick: Callable[[Any], list[Any]],
        key: Callable[[Any], str],
        sentence: Callable[[Any], str],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(key, sentence, parent)
        self._client, self._shape, self._address, self._pick = client, shape, address, pick
        self._next: str | None = None
        self._reply: QNetworkReply | None = None
        self._again = self._release = False
        self.loaded = False
        self.holding: Callable[[], bool] = lambda: False
        """Asked at each refresh: is somebody reading, so that rows must not move?"""

    @property
    def complete(self) -> bool:
        """Whether the last page was fetched."""
        return self.loaded and self._next is None

    def restart(self) -> None:
        """Fetch from the top what is another list now: other filters."""
        if self._reply is not None:
            self._client.drop(self._reply)
            self._reply = None
        self._next, self.loaded, self._again, self._release = None, False, False, False
        self.clear()
        self.waiting.emit(0)
        self.refresh()

    def refresh(self, release: bool = False) -> None:
        """Fetch the top anew. ``release``: also let rows come, go and move."""
        if not self._client.base:
            return
        if self._reply is not None and self._client.waits_for(self._reply):
            self._again = True
            self._release = self._release or release  # a person's own action is not forgotten over a call that is out
            return
        limit = min(max(len(self._rows), PAGE), TOP)

        def done(answer: Any) -> None:
            self._reply = None
            self._top(answer, limit, release)

        self._reply = self._client.get(self._address(None, limit), self._shape, done, self._fail)

    def canFetchMore(self, parent: Index = _NONE) -> bool:
        return not parent.isValid() and self._next is not None and not self._busy()

    def fetchMore(self, parent: Index = _NONE) -> None:
        if not self.canFetchMore(parent):
            return

        def done(answer: Any) -> None:
            self._reply = None
            self._next = answer.next
            self.append(self._pick(answer))
            self.answered.emit(answer)
            self._more()

        self._reply = self._client.get(self._address(self._next, PAGE), self._shape, done, self._fail)

    def _busy(self) -> bool:
        return self._reply is not None and self._client.waits_for(self._reply)

    def _top(self, answer: Any, limit: int, release: bool) -> None:
        rows = self._pick(answer)
        covers_all = answer.next is None or len(self._rows) <= limit
        hold = self.loaded and not release and self.holding()
        if covers_all:
            self._next = answer.next
        keep_from = None if covers_all else limit
        self.loaded = True
        self.waiting.emit(self.show(rows, hold, keep_from))
        self.answered.emit(answer)
        self._more()

    def _fail(self, failure: Failure) -> None:
        self._reply = None
        self.failed.emit(failure)

    def _more(self) -> None:
        if self._again:
            release, self._again, self._release = self._release, False, False
            self.refresh(release)


class Continued(Rows):
    """Rows that a page makes of those of ``source``: scrolled to their end, they have it fetch its next page."""

    def __init__(
        self, source: Paged, key: Callable[[Any], str], sentence: Callable[[Any], str], parent: QObject | None = None
    ) -> None:
        super().__init__(key, sentence, parent)
        self._source = source

    def canFetchMore(self, parent: Index = _NONE) -> bool:
        return not parent.isValid() and self._source.canFetchMore()

    def fetchMore(self, parent: Index = _NONE) -> None:
        if not parent.isValid():
            self._source.fetchMore()
