"""Calls a minute, counted over the last 60 seconds, as Plaid limits /transactions/sync."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from engine import clock
from engine.sandbox.refusals import Refusal

WINDOW_S = 60.0


class Limits:
    """What was called when, by name."""

    def __init__(self) -> None:
        self._calls: dict[str, deque[float]] = {}

    def count(self, names: Iterable[tuple[str, int | None]]) -> None:
        """Count one call under each name with its limit (None: unlimited); a refused call is not counted on.

        Raises:
            Refusal: a limit is exceeded.
        """
        now = clock.monotonic()
        for name, limit in names:
            if limit is None:
                continue
            calls = self._calls.setdefault(name, deque())
            while calls and calls[0] < now - WINDOW_S:
                calls.popleft()
            if len(calls) >= limit:
                raise Refusal("TRANSACTIONS_SYNC_LIMIT")
            calls.append(now)
