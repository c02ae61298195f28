"""The engine's notices as toasts: those that came while the window is open, bad ones first, good ones now and then."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PySide6.QtCore import QTimer

from engine.api import types_operation
from gui.client.api import Query, path
from gui.desk import Desk
from gui.kit.notes import Toast

CALM_MS = 60_000
"""Notices that need nothing are shown at most this often: good news in a row is said once, not for ever."""
PAGES = {"item": "banks", "job": "jobs", "bill": "bills", "match": "bills"}


class Notices(Query):
    """Fetches the latest notices and says the new ones. What came before the window is not said again."""

    def __init__(self, desk: Desk, toast: Toast) -> None:
        super().__init__(desk.client, types_operation.Notices, path("notices", limit=20), desk)
        self._desk, self._toast = desk, toast
        self._seen: str | None = None
        self._calm = QTimer(self)
        self._calm.setSingleShot(True)
        self._calm.setInterval(CALM_MS)
        self.arrived.connect(self._say)

    def _say(self, found: types_operation.Notices) -> None:
        newest = found.notices[0].id if found.notices else ""
        seen, self._seen = self._seen, newest
        if seen is None:
            return
        fresh: list[types_operation.Notice] = []
        for notice in found.notices:
            if notice.id == seen:
                break
            fresh.append(notice)
        loud = [notice for notice in reversed(fresh) if notice.tone in {"warn", "error"}]
        for notice in loud:
            self._queue(notice)
        quiet = [notice for notice in fresh if notice.tone not in {"warn", "error"}]
        if quiet and not loud and not self._toast.isVisible() and not self._calm.isActive():
            self._calm.start()
            self._queue(quiet[0])

    def _queue(self, notice: types_operation.Notice) -> None:
        self._toast.queue(f"{notice.title}. {notice.sentence}".strip(), self._opener(notice.target))

    def _opener(self, target: str | None) -> Callable[[], None] | None:
        kind, _, found = (target or "").partition(":")
        page = PAGES.get(kind)
        return partial(self._desk.go.emit, page, found) if page is not None else None
