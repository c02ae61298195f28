"""Hints after the answer: a webhook's caller never waits for Redis.

One thread takes hints from a bounded queue. Redis that refuses or hangs opens a breaker, and
while it is open hints are dropped: Postgres has the wish, and the reconciler puts it back.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from engine import clock
from engine.errors import BrokerUnavailable
from engine.logs import logger

WAITING = 1000
PAUSE_S = 1.0
PAUSE_MOST_S = 8.0

Hint = Callable[[], object]


class Hinter:
    """Gives hints one after another in its own thread."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Hint | None] = queue.SimpleQueue()
        self._closed_until = 0.0
        self._pause = PAUSE_S
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="hints", daemon=True)
        self._thread.start()

    def put(self, hint: Hint) -> bool:
        """Give the hint soon; False where it was dropped instead. Never blocks."""
        if clock.monotonic() < self._closed_until or self._queue.qsize() >= WAITING:
            self.dropped += 1
            return False
        self._queue.put(hint)
        return True

    def close(self) -> None:
        """Give what waits, then end; waits a second at most."""
        self._queue.put(None)
        self._thread.join(1)

    def _run(self) -> None:
        log = logger("webhook")
        while (hint := self._queue.get()) is not None:
            if clock.monotonic() < self._closed_until:
                self.dropped += 1
                continue
            try:
                hint()
                self._pause = PAUSE_S
            except BrokerUnavailable as error:
                # What waited behind this one would wait for the same time limit again.
                self._closed_until = clock.monotonic() + self._pause
                self._pause = min(self._pause * 2, PAUSE_MOST_S)
                log.warning("Hints are left to the reconciler for a while", code=error.code, pause_s=self._pause)
            except Exception as error:  # noqa: BLE001 - a hint may be lost, this thread may not
                log.error("A hint failed", kind=type(error).__name__)
