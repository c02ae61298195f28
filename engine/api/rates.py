"""How often a door may be knocked at: a bucket of calls that fills again over a minute."""

from __future__ import annotations

import threading

from engine import clock


class Rate:
    """At most so many calls a minute, counted in this process; a minute's calls may come at once. Any thread."""

    def __init__(self, per_minute: int) -> None:
        self._most = float(per_minute)
        self._left, self._at = self._most, clock.monotonic()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether one more call is within the rate; if so it is counted."""
        with self._lock:
            now = clock.monotonic()
            self._left = min(self._most, self._left + (now - self._at) * self._most / 60)
            self._at = now
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def wait_s(self) -> int:
        """Whole seconds until a call is within the rate again, for ``Retry-After``."""
        with self._lock:
            return max(1, round((1 - self._left) * 60 / self._most))
