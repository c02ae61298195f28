"""Linking a bank and signing in again, on Plaid's page in the browser, followed to its end."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QObject, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices

from engine.api import types_banks
from gui.client.api import Failure, path
from gui.desk import Desk

POLL_MS = 2000
GIVE_UP = 900
"""Looks before following ends: half an hour, as long as Plaid's page lives."""

MENDS = frozenset({"Sign in", "Renew", "Choose accounts", "Review accounts", "Allow"})
"""Actions that are done on Plaid's page for a link that exists."""
NEW = frozenset({"Link again"})
"""Actions that need a new link."""


class Linking(QObject):
    """One session at a time; a new one ends the following of the former."""

    ended = Signal(str)
    opened = Signal(str)

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._desk = desk
        self._session = ""
        self._left = 0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._look)

    @property
    def waiting(self) -> bool:
        """Whether a page is open in the browser whose end is awaited."""
        return bool(self._session)

    def begin(self, item_id: str | None = None) -> None:
        """Open Plaid's page: for a new link, or to mend the one of ``item_id``."""
        request = types_banks.LinkRequest(item_id=item_id)
        self._desk.act("POST", path("items", "link"), request, done=self._opened, shape=types_banks.LinkStart)

    def _opened(self, start: Any) -> None:
        self._session, self._left = start.session, GIVE_UP
        address = QUrl(start.url)
        if address.scheme() not in {"https", "http"}:
            self._end("The engine gave a page that is not a web address; it was not opened.")
            return
        self.opened.emit(start.url)
        QDesktopServices.openUrl(address)
        self._desk.say("Your browser opens Plaid's page. Syncdesk goes on by itself when you are done there.")
        self._timer.start()

    def _look(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self._end("Plaid's page was not finished. Begin again when you are ready.")
            return
        address = path("items", "link", self._session)
        self._desk.client.get(address, types_banks.LinkState, self._on_state, self._on_failure)

    def _on_state(self, state: types_banks.LinkState) -> None:
        if state.session != self._session:
            return
        if state.state == "waiting":
            self._timer.start()
        else:
            self._end(state.message)

    def _on_failure(self, failure: Failure) -> None:
        if failure.no_answer or failure.status == 503:
            self._timer.start()
        else:
            self._end(failure.message)

    def _end(self, words: str) -> None:
        self._session = ""
        self._timer.stop()
        self._desk.say(words)
        self.ended.emit(words)
