"""Keeps the leases of this process's runs alive: one thread for all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine import clock
from engine.errors import SyncdeskError


class _Store(Protocol):
    def call(self, name: str, /, **params: Any) -> Any: ...


@dataclass(eq=False)
class Lease:
    """A run's hold on its item. ``lost`` is set when somebody else took it, or it could not be renewed in time."""

    item_id: str
    fence: int
    until: float
    lost: threading.Event = field(default_factory=threading.Event)


class LeaseKeeper:
    """Renews every held lease each quarter of its time. The thread lives only while something is held."""

    def __init__(self, store: _Store, lease_s: float) -> None:
        self._store = store
        self._lease_s = lease_s
        self._held: set[Lease] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()

    @contextmanager
    def hold(self, item_id: str, fence: int) -> Iterator[Lease]:
        """Hold the lease that a claim just gave, until the block ends."""
        lease = Lease(item_id, fence, clock.monotonic() + self._lease_s)
        with self._lock:
            self._held.add(lease)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sync-leases", daemon=True)
                self._thread.start()
        try:
            yield lease
        finally:
            with self._lock:
                self._held.discard(lease)

    def _run(self) -> None:
        idle = 0
        while True:
            self._wake.wait(self._lease_s / 4)
            with self._lock:
                held = list(self._held)
                idle = 0 if held else idle + 1
                if idle > 8:
                    self._thread = None
                    return
            for lease in held:
                self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        try:
            asked = clock.monotonic()
            answer = self._store.call(
                "lease_renew", item=lease.item_id, fence=lease.fence, lease_ms=int(self._lease_s * 1000)
            )
        except SyncdeskError:
            # The database is away: what the run has is void once the lease's own time is over.
            if clock.monotonic() >= lease.until:
                lease.lost.set()
            return
        if answer["held"]:
            lease.until = asked + self._lease_s
        else:
            lease.lost.set()
