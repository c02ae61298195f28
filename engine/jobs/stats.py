"""Statistics of jobs, gathered in memory and written to Postgres in batches: a write a second, not one a job."""

from __future__ import annotations

import threading
from typing import Any, Final

from engine.errors import SyncdeskError
from engine.logs import logger
from engine.queue.jobs import Outcome, Taken
from engine.queue.keys import QUEUES
from engine.queue.ports import Store

EVERY_S: Final = 1.0
SLOTS: Final = 22  # of the histogram: 2^21 ms is more than half an hour
# Kept at most while Postgres is away; what comes beyond is counted without its item.
MOST_ROWS: Final = 5000
MOST_TARGETS: Final = 5000

log = logger("jobs")


class Stats(threading.Thread):
    """The batch and the thread that writes it. Losing a second of it in a crash loses statistics, nothing else."""

    def __init__(self, store: Store) -> None:
        super().__init__(name="stats", daemon=True)
        self._store = store
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, str, str, str], dict[str, Any]] = {}
        self._ended = threading.Event()

    def add(self, job: Taken, outcome: Outcome, duration_ms: int) -> None:
        """Count one end of a job."""
        if outcome.kind == "back" or job.queue not in QUEUES:
            return
        with self._lock:
            key = (job.queue, job.item_id if job.queue == "transactions" else "", job.institution, job.user_id)
            if key not in self._rows and len(self._rows) >= MOST_ROWS:
                key = (job.queue, "", "", "-")
            row = self._rows.setdefault(key, _empty(*key))
            if outcome.kind == "retry":
                row["retried"] += outcome.counts
                return
            row[outcome.kind] += 1
            row["run_ms"] += duration_ms
            row["wait_ms"] += max(0, job.waited_ms)
            row["run_hist"][min(duration_ms.bit_length(), SLOTS - 1)] += 1
            if outcome.kind == "done" and job.item_id and len(row["done_targets"]) < MOST_TARGETS:
                row["done_targets"].add(job.item_id)

    def run(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.flush()

    def stop(self) -> None:
        """Write what is left, and end."""
        self._ended.set()
        self.flush()

    def flush(self) -> bool:
        """Write the batch; False where Postgres is away (it is kept and tried again)."""
        with self._lock:
            rows, self._rows = self._rows, {}
        if not rows:
            return True
        batch = [{**row, "done_targets": sorted(row["done_targets"])} for row in rows.values()]
        try:
            self._store.call("job_stats_add", rows=batch)
        except SyncdeskError as error:
            if not error.retryable:
                log.error("Statistics were refused and dropped", code=error.code, rows=len(batch))
                return True
            with self._lock:
                for key, row in rows.items():
                    _merge(self._rows.setdefault(key, _empty(*key)), row)
            return False
        return True


def _empty(queue: str, item_id: str, institution: str, user_id: str) -> dict[str, Any]:
    return {
        "queue": queue,
        "item_id": item_id or None,
        "institution": institution,
        "user_id": None if user_id in ("", "-") else user_id,
        "done": 0,
        "failed": 0,
        "retried": 0,
        "run_ms": 0,
        "wait_ms": 0,
        "run_hist": [0] * SLOTS,
        "done_targets": set(),
    }


def _merge(into: dict[str, Any], row: dict[str, Any]) -> None:
    for name in ("done", "failed", "retried", "run_ms", "wait_ms"):
        into[name] += row[name]
    into["run_hist"] = [a + b for a, b in zip(into["run_hist"], row["run_hist"], strict=True)]
    into["done_targets"] |= row["done_targets"]
