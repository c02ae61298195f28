"""Pausing the whole engine: its queues start nothing until a time or until somebody resumes.

Kept in the database, so that it outlives restarts; queues that a person had paused before
stay paused afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from engine import clock
from engine.api import types
from engine.api.actions import tell
from engine.api.context import Context
from engine.errors import Conflict, StoreUnavailable, SyncdeskError, UsageError
from engine.logs import logger

KEY = "engine_pause"
LOOK_S = 5.0


def paused_until(pause: dict[str, Any] | None) -> str | None:
    """When a pause ends by itself (ISO), None where only a person ends it."""
    return pause["until"] if pause else None


def pause(context: Context, minutes: int | None, who: str) -> types.Done:
    """Pause every queue that runs.

    Raises:
        UsageError: minutes out of range.
        BrokerUnavailable: Redis does not answer, so nothing can be told to wait.
    """
    if minutes is not None and not 1 <= minutes <= 10_080:
        raise UsageError("Pause for 1 to 10,080 minutes (a week), or without a limit.")
    held = context.store.call("settings_get", key=KEY)
    ours = set(held["queues"]) if held else set()
    for row in context.view.queues():
        if not row["paused"]:
            context.control.pause(row["name"])
            ours.add(row["name"])
    until = clock.iso(clock.now() + timedelta(minutes=minutes)) if minutes is not None else None
    value = {"since": clock.iso(clock.now()), "until": until, "queues": sorted(ours), "who": who}
    context.store.call("setting_put", key=KEY, value=value, who=who)
    tell(context, "engine")
    return types.Done(message="Nothing new starts until you resume." if until is None else f"Paused until {until}.")


def resume(context: Context) -> types.Done:
    """End the pause; queues that were paused one by one stay so.

    Raises:
        Conflict: the engine is not paused.
    """
    held = context.store.call("settings_get", key=KEY)
    if held is None:
        raise Conflict("The engine is not paused.")
    for queue in held["queues"]:
        context.control.resume(queue)
    context.store.call("setting_put", key=KEY, value=None, who="")
    tell(context, "engine")
    return types.Done(message="Syncing goes on.")


class PauseWatch:
    """Ends a pause whose time has come; a clock that is set back only makes it end later.

    As it asks the database anyway, it also calls ``changed`` when that is lost or found again.
    """

    def __init__(self, context: Context, changed: Callable[[], None]) -> None:
        self._context, self._changed = context, changed
        self._away = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pause-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for a look that is under way."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            away = False
            try:
                until = paused_until(self._context.store.call("settings_get", key=KEY))
                if until is not None and clock.parse(until) <= clock.now():
                    resume(self._context)
            except SyncdeskError as error:
                away = isinstance(error, StoreUnavailable)
                logger("api").debug("The pause was not looked at", code=error.code)
            if away != self._away:
                self._away = away
                self._changed()
