"""What was asked and answered, with the times of receipt and of the finished answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

KEPT = 50_000


@dataclass(slots=True)
class Entry:
    """One request. ``*_ms`` are Unix milliseconds, ``own_ms`` is from receipt to the end of the answer (monotonic)."""

    number: int
    path: str
    received_ms: float
    answered_ms: float = 0.0
    own_ms: float = 0.0
    status: int = 0
    error_code: str | None = None
    item_id: str | None = None
    request_id: str = ""
    fault: str | None = None


class RequestLog:
    """The newest requests, oldest first."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._next = 1

    def begin(self, path: str, received_ms: float) -> Entry:
        entry = Entry(self._next, path, received_ms)
        self._next += 1
        return entry

    def end(self, entry: Entry) -> None:
        """Keep it, now that it is answered."""
        self._entries.append(entry)

    def after(self, number: int) -> Iterator[Entry]:
        return (entry for entry in self._entries if entry.number > number)
