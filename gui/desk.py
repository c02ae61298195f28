"""What every page works with: the engine's client, the state of the link to it, actions and what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from PySide6.QtCore import QObject, QTimer, Signal

from engine.api import types, types_overview
from gui.client.api import Client, Failure, Query, path
from gui.client.connection import Connection
from gui.client.stream import Batch

SLOW_MS = 10_000
"""What changes with time alone (ages, next runs) is looked at anew this often."""
RANK = {"": 0, "view": 0, "operate": 1, "admin": 2}


class Desk(QObject):
    """Shared by shell and pages. ``topics``: kinds of things that changed, at most four times a second."""

    topics = Signal(object)
    go = Signal(str, str)
    said = Signal(str, object, str)
    noticed = Signal(object)

    def __init__(self, client: Client, connection: Connection, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.client, self.connection = client, connection
        self.overview = Query(client, types_overview.Overview, path("overview"), self)
        self.batch = Batch(self)
        self.batch.told.connect(self.topics)
        connection.heard.connect(self._hear)
        connection.changed.connect(self._link_changed)
        self._slow = QTimer(self)
        self._slow.setInterval(SLOW_MS)
        self._slow.timeout.connect(lambda: self.batch.add("time"))
        self._slow.start()

    @property
    def connected(self) -> bool:
        """Whether an engine answers."""
        return self.connection.state == "connected"

    @property
    def known(self) -> types_overview.Overview | None:
        """The last overview, which may be old where no engine answers."""
        found: types_overview.Overview | None = self.overview.data
        return found

    def may(self, kind: str = "operate") -> tuple[bool, str]:
        """Whether an action may be done now, and if not, why."""
        if not self.connected:
            return False, "The engine is not answering, so nothing can be done now."
        if RANK[self.connection.kind] < RANK[kind]:
            return False, f"Your token may only {self.connection.kind}; this needs one that may {kind}."
        return True, ""

    def act(
        self,
        method: str,
        address: str,
        body: Mapping[str, Any] | msgspec.Struct | None = None,
        *,
        done: Callable[[Any], None] | None = None,
        failed: Callable[[Failure], None] | None = None,
        undo: Callable[[], None] | None = None,
        words: str = "",
        shape: Any = types.Done,
    ) -> None:
        """Do something in the engine and say how it went; ``undo`` is offered with the sentence."""

        def worked(answer: Any) -> None:
            if done is not None:
                done(answer)
            message = words or getattr(answer, "message", "")
            if message:
                self.said.emit(message, undo, "Undo")

        def refused(failure: Failure) -> None:
            self.said.emit(failure.message, None, "")
            if failed is not None:
                failed(failure)

        self.client.act(method, address, body, worked, refused, shape)

    def say(self, words: str) -> None:
        """A sentence at the bottom of the window."""
        self.said.emit(words, None, "")

    def _hear(self, event: types.Event) -> None:
        self.batch.add("hello" if event.topic == "hello" else event.topic)

    def _link_changed(self) -> None:
        if self.connected:
            self.overview.refresh()
            self.batch.add("hello")
