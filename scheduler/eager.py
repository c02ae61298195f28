"""Looks that come sooner than the backup sync: just after linking, without webhooks, at hours when news is usual.

How soon is one rule in the database (``syncdesk.look_after``). What a person did to the backup sync holds here too:
paused, nothing is looked for; with another interval, that is the base.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from engine import clock
from scheduler.work import Tools, hint

EVERY_S = 5.0
MOST = 20
"""Links a look; a look every five seconds makes 240 calls a minute at most, a tenth of what Plaid allows."""


class Eager:
    """Called often; looks every few seconds."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._next = 0.0

    def look(self, jobs: Sequence[Mapping[str, Any]]) -> int:
        """Raise the wishes that are due, as the schedule's rows ``jobs`` allow it; how many.

        Raises:
            StoreUnavailable: at the next look, then.
        """
        if clock.monotonic() < self._next:
            return 0
        self._next = clock.monotonic() + EVERY_S
        backup = next((row for row in jobs if row["id"] == "backup_sync"), None)
        if backup is None or backup["paused"]:
            return 0
        base_s = int(backup["trigger"].get("every_s") or self._tools.settings.backup_every_s)
        correlation = str(uuid.uuid4())
        found = self._tools.store.call("items_want_due", base_s=base_s, limit=MOST, correlation=correlation)["hints"]
        for row in found:
            hint(self._tools, row, correlation, 0)
        return len(found)
