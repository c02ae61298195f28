"""The event stream: what kind of thing changed, told at most four times a second."""

from __future__ import annotations

import msgspec
from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtNetwork import QNetworkReply, QNetworkRequest

from engine.api.types import Event
from gui.client.api import Client

SILENCE_MS = 25_000
"""The engine says something every 10 s; after this long without a word the stream is taken for dead."""
BATCH_MS = 250
_LONGEST = 65_536


class Stream(QObject):
    """Reads ``GET /api/events``. ``ended`` once it broke; `open` begins anew."""

    opened = Signal()
    heard = Signal(object)
    ended = Signal()

    def __init__(self, client: Client, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._client = client
        self._reply: QNetworkReply | None = None
        self._buffer = b""
        self._heard = False
        self._watch = QTimer(self)
        self._watch.setSingleShot(True)
        self._watch.setInterval(SILENCE_MS)
        self._watch.timeout.connect(self._broke)

    def open(self) -> None:
        """Open the stream of the client's engine; an open one is left first."""
        self.close()
        self._buffer, self._heard = b"", False
        reply = self._client.stream()
        self._reply = reply
        reply.readyRead.connect(self._read)
        reply.finished.connect(self._broke)
        self._watch.start()

    def close(self) -> None:
        """Leave the stream without a word."""
        reply, self._reply = self._reply, None
        self._watch.stop()
        if reply is not None:
            reply.abort()
            reply.deleteLater()

    def _read(self) -> None:
        reply = self._reply
        if reply is None or self.sender() not in {None, reply}:
            return
        if reply.attribute(QNetworkRequest.Attribute.HttpStatusCodeAttribute) != 200:
            return
        self._watch.start()
        if not self._heard:
            self._heard = True
            self.opened.emit()
        self._buffer += bytes(reply.readAll().data())
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > _LONGEST:
            self._broke()
            return
        for line in lines:
            if line.startswith(b"data:"):
                self._tell(line[5:])

    def _tell(self, line: bytes) -> None:
        try:
            event = msgspec.json.decode(line, type=Event)
        except msgspec.DecodeError:
            event = Event(topic="hello")  # not understood: look at everything again
        self.heard.emit(event)

    def _broke(self) -> None:
        if self._reply is not None and self.sender() in {None, self._reply, self._watch}:
            self.close()
            self.ended.emit()


class Batch(QObject):
    """Collects topics and tells them together, at most every 250 ms."""

    told = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._topics: set[str] = set()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(BATCH_MS)
        self._timer.timeout.connect(self._flush)

    def add(self, topic: str) -> None:
        """A thing of this kind changed."""
        self._topics.add(topic)
        if not self._timer.isActive():
            self._timer.start()

    def _flush(self) -> None:
        topics, self._topics = frozenset(self._topics), set()
        if topics:
            self.told.emit(topics)
