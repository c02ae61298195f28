"""When a part that ended is started again, and when it is left stopped: a crash loop must not burn a machine."""

from __future__ import annotations

from collections import deque

CRASHES = 5
"""So many ends within the window are a crash loop."""
WINDOW_S = 60.0
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0


class Restarts:
    """The ends of one part. Times are monotonic seconds."""

    def __init__(self, crashes: int = CRASHES, window_s: float = WINDOW_S) -> None:
        self._crashes = crashes
        self._window_s = window_s
        self._ends: deque[float] = deque(maxlen=crashes)

    def ended(self, now: float) -> float | None:
        """Note an end; the pause in seconds before the next start, None: a crash loop, leave it stopped.

        The pause grows with the ends of the last minute, so that a part which fails now and then starts at once.
        """
        self._ends.append(now)
        recent = sum(now - end < self._window_s for end in self._ends)
        if recent >= self._crashes:
            return None
        return float(min(FIRST_PAUSE_S * 2 ** (2 * (recent - 1)), LONGEST_PAUSE_S))

    def forget(self) -> None:
        """A person starts it again: what was before does not count."""
        self._ends.clear()
