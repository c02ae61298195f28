"""The end of an engine is bounded: one deadline that its steps share, and a last resort behind them all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from engine import clock
from engine.logs import logger

END_S = 8.5
"""From the order to end until everything has ended, whatever hangs; 10 are promised."""
_LAST_S = 0.5

log = logger("host")


class Ending:
    """The order to end, and how much time is left since it came."""

    def __init__(self, seconds: float = END_S) -> None:
        self.asked = threading.Event()
        self._seconds = seconds
        self._limit: float | None = None
        self._done = threading.Event()

    def ask(self) -> None:
        """Give the order: any thread and signal handlers, any number of times."""
        if self._limit is None:
            self._limit = clock.monotonic() + self._seconds
        self.asked.set()

    def share(self, wanted_s: float, reserve_s: float = 0.0) -> float:
        """Seconds for one step: ``wanted_s``, or what is left less ``reserve_s`` for those after it; never nothing."""
        left = self._seconds if self._limit is None else self._limit - clock.monotonic()
        return max(0.1, min(wanted_s, left - reserve_s))

    def within(self, name: str, work: Callable[[], object], seconds: float) -> bool:
        """Do a step that may hang; False: it was left behind after ``seconds``."""
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        thread.join(seconds)
        return not thread.is_alive()

    def guard(self, kill: Callable[[], None], leave: Callable[[int], None] = os._exit) -> None:
        """From now on: ``kill`` what is left and ``leave`` where the end takes longer, as it waits for what hangs."""
        threading.Thread(target=self._guard, args=(kill, leave), name="last-resort", daemon=True).start()

    def done(self) -> None:
        """The end has come by itself."""
        self._done.set()

    def _guard(self, kill: Callable[[], None], leave: Callable[[int], None]) -> None:
        self.asked.wait()
        if self._done.wait(self.share(self._seconds) + _LAST_S):
            return
        log.error("The end takes too long: what is left is killed")
        kill()
        if not self._done.wait(_LAST_S):
            leave(1)
