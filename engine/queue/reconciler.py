"""Puts hints back for what Postgres says is unfinished, so that Redis may vanish at any moment."""

from __future__ import annotations

import threading
from typing import Any, Final

import redis

from engine.clock import monotonic
from engine.logs import Outage, logger
from engine.queue.connection import translated
from engine.queue.hints import Hints
from engine.queue.keys import LANES, QUEUES, Keys
from engine.queue.limits import put
from engine.queue.ports import Store

EVERY_S: Final = 30.0
LOOK_S: Final = 1.0
AGAIN_S: Final = 2.0
PAGE: Final = 500

log = logger("queue")


class Reconciler:
    """Compares Postgres with the lanes. Several may run: coalescing makes a hint that is there a no-op."""

    def __init__(self, store: Store, client: redis.Redis, keys: Keys, defaults: dict[str, str] | None = None) -> None:
        """``defaults``: the limits of the settings (`engine.queue.limits`), used where nobody changed them."""
        self._store = store
        self._client = client
        self._keys = keys
        self._hints = Hints(client, keys)
        self._defaults = defaults or {}
        self._now = threading.Event()

    def run_once(self) -> int:
        """Put every missing hint and the limits; how many hints were looked at.

        Raises:
            BrokerUnavailable, StoreUnavailable: one of both is away; try again later.
        """
        count = 0
        after: dict[str, Any] = {}
        while True:
            page = self._store.call("unfinished", after=after, limit=PAGE)
            if not after:
                self._restore(page)
            count += self._put(page)
            full = False
            for name, key in (("items", "item"), ("inbox", "inbox"), ("outbox", "outbox")):
                if page[name]:
                    after[key] = page[name][-1]["id"]
                full = full or len(page[name]) >= PAGE
            if not full:
                return count

    def run(self, stop: threading.Event) -> None:
        """Reconcile on connecting, every 30 s, and at once when asked or when Redis was wiped; until ``stop``."""
        due = monotonic()
        outage = Outage(log, "Unfinished work could not be looked up", "Unfinished work is looked up again")
        while not stop.is_set():
            asked = self._now.is_set()
            self._now.clear()
            try:
                if asked or (monotonic() >= due and self._claim()):
                    self.run_once()
                    due = monotonic() + EVERY_S
                self._notice_wipe()
                outage.worked()
            except Exception as error:  # noqa: BLE001 - told; one that is a defect must not end the looks
                outage.failed(error)
                self._now.set()  # again, without asking whose turn it is
                stop.wait(AGAIN_S)
                continue
            self._now.wait(LOOK_S)

    def ask(self) -> None:
        """Make `run` look now (the broker's epoch was missing)."""
        self._now.set()

    def _notice_wipe(self) -> None:
        """Notice it also where no worker fetches."""
        with translated():
            if self._client.set(self._keys.epoch, "reconciler", nx=True):
                self._now.set()

    def _claim(self) -> bool:
        """One reconciler of all is enough at a time; on a fresh Redis nobody has run."""
        key, lasts_ms = self._keys.reconciled, int(EVERY_S * 900)
        with translated():
            if self._client.pttl(key) > lasts_ms:  # from a clock that was ahead; it would silence us for as long
                self._client.delete(key)
            return bool(self._client.set(key, "1", nx=True, px=lasts_ms))

    def _restore(self, page: dict[str, Any]) -> None:
        """Put limits and weights, until what was put is still what Postgres has: a person changes both one by one."""
        done = None
        while done != (found := (page["limits"], page["weights"])):
            self._put_limits(*found)
            done = found
            page = self._store.call("unfinished", after={}, limit=1)

    def _put_limits(self, limits: dict[str, Any] | None, weights: dict[str, int] | None) -> None:
        fields = dict(self._defaults)
        for queue in QUEUES:
            kept = (limits or {}).get(f"queue.{queue}") or {}
            fields |= {f"{queue}:{name}": str(value or "") for name, value in kept.items()}
        put(self._client, self._keys, weights or {}, fields)

    def _put(self, page: dict[str, Any]) -> int:
        for item in page["items"]:
            lane = item["lane"] if item["lane"] in LANES else "medium"
            self._hints.put(
                "transactions",
                item["id"],
                user_id=item["user_id"],
                institution=item["institution"],
                lane=lane,
                trigger=item["trigger"],
                correlation=item["correlation"],
                again=False,
            )
        for queue, name, lane in (("webhooks", "inbox", "high"), ("notifications", "outbox", "medium")):
            for row in page[name]:
                self._hints.put(
                    queue,
                    str(row["id"]),
                    user_id=row["user_id"],
                    lane=lane,
                    trigger="reconciler",
                    correlation=row["correlation"],
                    again=False,
                )
        return len(page["items"]) + len(page["inbox"]) + len(page["outbox"])
