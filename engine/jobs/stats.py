"""Statistics of jobs, from the queue's lines to Postgres in batches: a write a second, not one a job.

The queue writes one line with each end of a job (`engine.queue.lua_stats`); any worker may carry a batch of them over.
A batch has a number that the database remembers, so that each end counts once also where a worker is killed between.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterable
from typing import Any, Final

import redis

from engine.errors import BrokerUnavailable, StoreUnavailable, SyncdeskError
from engine.logs import HIGH_FAILURE_RATE, logger
from engine.queue import scripts
from engine.queue.connection import translated
from engine.queue.hints import ANYBODY, Hints
from engine.queue.keys import QUEUES, Keys
from engine.queue.ports import Store

EVERY_S: Final = 1.0
SLOTS: Final = 22  # of a histogram: 2^21 ms is more than half an hour

log = logger("jobs")


class Stats(threading.Thread):
    """The thread that carries the lines over."""

    def __init__(self, store: Store, client: redis.Redis, keys: Keys) -> None:
        super().__init__(name="stats", daemon=True)
        self._store = store
        self._client = client
        self._keys = keys
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.flush()

    def stop(self) -> None:
        """Carry over what is left, and end."""
        self._ended.set()
        self.flush()

    def flush(self) -> bool:
        """Carry over what is there; False where the queue or the database is away (nothing is lost by that)."""
        try:
            return self._carry()
        except (BrokerUnavailable, StoreUnavailable):
            return False

    def _carry(self) -> bool:
        with translated():
            taken = scripts.run(self._client, self._keys, "stats_take", str(uuid.uuid4()))
        if not taken:
            return True
        source, number, *lines = taken
        try:
            answer = self._store.call("job_stats_add", rows=rows(lines), source=source, number=int(number))
        except StoreUnavailable:
            self._settled(source, number, written=False)
            raise
        except SyncdeskError as error:
            log.error("Statistics were refused and dropped", code=error.code, jobs=len(lines))
            answer = {}
        self._settled(source, number, written=True)
        tell(answer, Hints(self._client, self._keys))
        return True

    def _settled(self, source: str, number: str, *, written: bool) -> None:
        with translated():
            scripts.run(self._client, self._keys, "stats_done", source, number, int(written))


def rows(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The lines of a batch added up by queue, item, institution and user."""
    found: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for line in lines:
        queue, outcome, error, item, institution, user, *times = json.loads(line)
        if queue in QUEUES:
            key = (queue, item if queue == "transactions" else "", institution, user)
            row = found.setdefault(key, _empty(*key))
            _count(row, outcome, error, item, *(int(ms) for ms in times))
    return [
        {**row, **{name: _short(row[name]) for name in ("run_hist", "wait_hist", "lag_hist")},
         "done_targets": sorted(row["done_targets"])}
        for row in found.values()
    ]  # fmt: skip


def _count(row: dict[str, Any], outcome: str, error: str, item: str, wait_ms: int, run_ms: int, lag_ms: int) -> None:
    row["classes"][f"{_OUTCOMES[outcome]}|{error}"] = row["classes"].get(f"{_OUTCOMES[outcome]}|{error}", 0) + 1
    row[_OUTCOMES[outcome]] += 1
    if outcome == "retry":
        return
    for name, value in (("wait", wait_ms), ("run", run_ms), ("lag", lag_ms)):
        row[f"{name}_ms"] += value
        row[f"{name}_hist"][min(value.bit_length(), SLOTS - 1)] += 1
    if outcome == "done" and item and not error:
        row["done_targets"].add(item)


_OUTCOMES: Final = {"done": "done", "failed": "failed", "retry": "retried"}


def _empty(queue: str, item_id: str, institution: str, user_id: str) -> dict[str, Any]:
    counts = dict.fromkeys(("done", "failed", "retried", "run_ms", "wait_ms", "lag_ms"), 0)
    return {
        "queue": queue,
        "item_id": item_id or None,
        "institution": institution,
        "user_id": None if user_id in ("", ANYBODY) else user_id,
        **counts,
        **{name: [0] * SLOTS for name in ("run_hist", "wait_hist", "lag_hist")},
        "classes": {},
        "done_targets": set(),
    }


def _short(slots: list[int]) -> list[int]:
    """A histogram without the zeros at its end."""
    most = max((at + 1 for at, value in enumerate(slots) if value), default=0)
    return slots[:most]


def tell(answer: dict[str, Any], hints: Hints | None) -> None:
    """Say which queues began to fail often and which ended it: each once, as the database tells only one of all
    processes that look."""
    for change in answer.get("changes", ()):
        facts = {name: change[name] for name in ("queue", "failed", "done", "minutes")}
        if change["high"]:
            log.warning(HIGH_FAILURE_RATE, **facts)
        else:
            log.info("Failure rate in queue is normal again", **facts)
        if hints is not None and change["outbox"] is not None:
            try:
                hints.notification(change["outbox"], None, "")
            except BrokerUnavailable:
                log.debug("the reconciler puts the hint", outbox=change["outbox"])
