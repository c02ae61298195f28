"""Webhooks that came while the database took none: stored as soon as it does, not when Plaid sends them again.

Plaid is told to send them again all the same, since this memory ends with the process; what comes twice is found to be
a duplicate. Only Plaid's own are kept: a relay that sent one again would be refused for it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from engine.errors import StoreUnavailable, SyncdeskError
from engine.logs import logger

MOST: Final = 2000
"""Webhooks kept, the oldest go first: what they told of is found by the schedule."""
LARGEST: Final = 4096
"""Bytes of a body. Plaid's have some hundred."""
AGAIN_S: Final = 1.0

log = logger("webhook")


class Missed:
    """Keeps them and stores them in a thread of its own, which lives while there are any. ``store`` is told of each:
    the verified signature and the body."""

    def __init__(self, store: Callable[[Any, bytes], object]) -> None:
        self._store = store
        self._kept: OrderedDict[str, tuple[Any, bytes]] = OrderedDict()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def keep(self, verified: Any, body: bytes) -> None:
        """Store it later. One that says what another one said replaces that one."""
        if verified.by != "jwt" or len(body) > LARGEST:
            return
        with self._lock:
            self._kept.pop(verified.body_sha256, None)
            self._kept[verified.body_sha256] = verified, body
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="webhooks-missed", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread; what is kept is forgotten."""
        self._closing.set()
        thread = self._thread
        if thread is not None:
            thread.join(1)

    def _run(self) -> None:
        taken = 0
        while not self._closing.is_set():
            with self._lock:
                if not self._kept:
                    self._thread = None
                    break
                name, (verified, body) = next(iter(self._kept.items()))
            try:
                self._store(verified, body)
                taken += 1
            except StoreUnavailable:
                self._closing.wait(AGAIN_S)
                continue
            except SyncdeskError as error:
                log.warning("A webhook that the database had missed was not stored", code=error.code)
            with self._lock:
                if self._kept.get(name) == (verified, body):
                    del self._kept[name]
        if taken:
            log.info("Webhooks that the database had missed were stored", count=taken)
