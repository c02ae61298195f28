"""Parts of the queue that need no server: slots, names, statistics, notices, the bench's registry."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from engine.errors import SettingsError, StoreRefused, StoreUnavailable
from engine.jobs.stats import SLOTS, Stats
from engine.notify.words import notice
from engine.queue.connection import connect
from engine.queue.identity import worker_id, worker_prefix
from engine.queue.jobs import Outcome, Taken
from engine.queue.keys import Keys
from engine.queue.slots import Slots
from tests.support.wait import until


def test_all_keys_share_one_slot_of_a_cluster() -> None:
    keys = Keys("install")
    names = [keys.epoch, keys.job("1"), keys.lane("q", "high", "u"), keys.hint("x"), keys.worker("w"), keys.events]
    assert all(name.startswith("{install}:") for name in names)


def test_a_broken_address_is_refused_without_repeating_it() -> None:
    with pytest.raises(SettingsError) as met:
        connect("http://user:hunter2@host", "api")
    assert "hunter2" not in str(met.value)


def test_a_worker_is_known_by_machine_and_pid() -> None:
    import os

    assert worker_id().startswith(worker_prefix(os.getpid()))
    assert worker_id() != worker_id()


def test_slots_go_to_the_other_queue_that_waits() -> None:
    slots = Slots(1)
    assert slots.acquire("a", 0) == 1
    got: list[int] = []
    waiting = threading.Thread(target=lambda: got.append(slots.acquire("b", 10)))
    waiting.start()
    until(lambda: slots.wanted("a"))
    assert not slots.wanted("b")
    slots.release()
    waiting.join(10)
    assert got == [1]
    assert slots.acquire("a", 0.001) == 0


def taken(**changes: Any) -> Taken:
    return Taken(
        **{
            "id": "j", "queue": "transactions", "actor": "sync_item", "args": "[]", "kwargs": "{}", "lane": "high",
            "user_id": "u", "item_id": "i1", "institution": "B", "trigger": "t", "correlation": "c", "queued_ms": 0,
            "start": 1, "tries": 0, "final": "", "waited_ms": 5, "key": "", **changes,
        }
    )  # fmt: skip


class Away:
    """A database that is away at first."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.rows: list[dict[str, Any]] = []

    def call(self, name: str, /, **params: Any) -> Any:
        if self.error is not None:
            raise self.error
        self.rows += params["rows"]
        return {}


def test_statistics_wait_for_the_database_and_are_added_up() -> None:
    store = Away(StoreUnavailable("away"))
    stats = Stats(store)
    stats.add(taken(), Outcome("done"), 3)
    assert stats.flush() is False
    stats.add(taken(), Outcome("done"), 1000)
    stats.add(taken(), Outcome("retry"), 1)
    stats.add(taken(), Outcome("retry", counts=False), 1)
    store.error = None
    assert stats.flush() is True
    (row,) = store.rows
    assert (row["done"], row["retried"], row["run_ms"], row["wait_ms"]) == (2, 1, 1003, 10)
    assert row["done_targets"] == ["i1"]
    assert sum(row["run_hist"]) == 2
    assert row["run_hist"][2] == 1
    assert len(row["run_hist"]) == SLOTS
    assert stats.flush() is True
    assert len(store.rows) == 1


def test_refused_statistics_are_dropped() -> None:
    store = Away(StoreRefused("no"))
    stats = Stats(store)
    stats.add(taken(), Outcome("done"), 3)
    assert stats.flush() is True
    store.error = None
    stats.flush()
    assert store.rows == []


@pytest.mark.parametrize(
    ("row", "title", "sentence"),
    [
        (
            {"kind": "transactions", "payload": {"added": 1, "institution": "B"}},
            "B",
            "1 new transaction.",
        ),
        (
            {
                "kind": "transactions",
                "payload": {"added": 1200, "modified": 2, "tagged": 2, "first": True},
                "institution": "B",
            },
            "B is linked",
            "1,200 new, 2 changed transactions. 2 of them paid a bill.",
        ),
        (
            {"kind": "job_failed", "payload": {"job_id": "j1", "title": "T", "sentence": "S.", "institution": "B"}},
            "B: T",
            "S.",
        ),
    ],
)
def test_notices_speak_plainly(row: dict[str, Any], title: str, sentence: str) -> None:
    said = notice({"item_id": None, "institution": None} | row)
    assert (said.title, said.sentence) == (title, sentence)


def test_a_notice_of_a_bank_that_needs_its_person_leads_there() -> None:
    said = notice(
        {"kind": "item_state", "item_id": "i1", "institution": "B",
         "payload": {"state": "needs_you", "code": "ITEM_LOGIN_REQUIRED", "institution": "B"}}
    )  # fmt: skip
    assert said.target == "item:i1"
    assert said.tone == "warn"
    assert said.title.startswith("B: ")


def test_every_bench_is_in_the_registry() -> None:
    from tests.bench.__main__ import BENCHES

    assert {"pickup", "latency", "ingest", "start"} <= set(BENCHES)
