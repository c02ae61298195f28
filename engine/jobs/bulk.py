"""Bulk actions at work: steps of `syncdesk_bulk_step`, then what each step released is hinted at or moved in Redis.

The database decides and remembers; a step is one transaction. So whoever drives may be killed at any moment: what was
released and not hinted is put back by the reconciler, what was not released is released by the next driver.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from engine.clock import monotonic
from engine.errors import BrokerUnavailable, Conflict, SyncdeskError
from engine.logs import Outage, logger
from engine.queue.control import Control
from engine.queue.hints import Hints
from engine.queue.ports import Store

LEASE: Final = "bulk"
LEASE_S: Final = 6
RENEW_S: Final = 2.0
STEP_S: Final = 0.25
IDLE_S: Final = 1.0
FOLD_S: Final = 10.0
SWEEP_S: Final = 3600.0

log = logger("jobs")


class BulkDriver:
    """Drives all bulk actions of the install. Any number may run: one holds the lease, the others stand by."""

    def __init__(
        self, store: Store, hints: Hints, control: Control, publish: Callable[[str, str | None], None], owner: str
    ) -> None:
        self._store = store
        self._hints = hints
        self._control = control
        self._publish = publish
        self._owner = owner
        self._fold_at = self._sweep_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Drive while the lease is held, until ``stop``; then let go of it."""
        renew_at, held, active = 0.0, False, False
        outage = Outage(log, "A step of the bulk actions failed", "The bulk actions go on")
        while not stop.wait(STEP_S if active else IDLE_S):
            try:
                if monotonic() >= renew_at:
                    held = self._store.call("named_lease_claim", name=LEASE, owner=self._owner, ttl_s=LEASE_S)["held"]
                    renew_at = monotonic() + RENEW_S
                active = held and self.step()
                if held:
                    self._tidy()
                outage.worked()
            except Exception as error:  # noqa: BLE001 - told; one that is a defect must not end all bulk actions
                outage.failed(error)
                active = False
        if held:
            self._let_go()

    def step(self) -> bool:
        """One step of one bulk action; whether any is not finished yet.

        Raises:
            StoreUnavailable: the database is away; nothing was done.
        """
        answer = self._store.call("bulk_step")
        told = [found for row in answer["rows"] if (found := self._do(row)) is not None]
        if told:
            self._store.call("bulk_report", rows=told)
        for bulk_id in answer["changed"]:
            self._tell(bulk_id)
        return bool(answer["active"])

    def _do(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """Hint at or move one job; what there is to report of it."""
        place = {"bulk": row["bulk"], "n": row["n"]}
        try:
            if row["verb"] == "move":
                return place | self._move(row["job_id"], row["lane"])
            job_id = self._hints.put(
                row["queue"],
                row["target"],
                user_id=row["user_id"],
                institution=row["institution"],
                lane="medium",
                trigger="retry",
                correlation=row["correlation"],
                urgent=True,
            )
        except BrokerUnavailable as error:
            log.debug("the reconciler puts the hint", code=error.code, target=row["target"])
            return None
        return place | {"job": job_id}

    def _move(self, job_id: str, lane: str) -> dict[str, str]:
        try:
            moved = self._control.change_lane(job_id, lane)
        except Conflict as error:
            return {"state": "skipped", "reason": error.message}
        return {"state": "done"} if moved else {"state": "skipped", "reason": "It is no longer queued"}

    def _tidy(self) -> None:
        """Keep the counters' rows few; forget old bulk actions."""
        now = monotonic()
        if now >= self._fold_at:
            self._store.call("tallies_fold")
            self._fold_at = now + FOLD_S
        if now >= self._sweep_at:
            self._store.call("bulks_sweep")
            self._sweep_at = now + SWEEP_S

    def _tell(self, bulk_id: str) -> None:
        try:
            self._publish("bulks", bulk_id)
            self._publish("jobs", None)
        except BrokerUnavailable as error:
            log.debug("An event was not told", code=error.code, bulk=bulk_id)

    def _let_go(self) -> None:
        try:
            self._store.call("named_lease_release", name=LEASE, owner=self._owner)
        except SyncdeskError as error:
            log.debug("The lease of bulk actions runs out by itself", code=error.code)
