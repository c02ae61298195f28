"""Parts of the queue that need no server: slots, names, statistics, notices, the bench's registry."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from engine.errors import SettingsError
from engine.jobs.stats import SLOTS, rows
from engine.notify.words import notice
from engine.queue.connection import connect
from engine.queue.identity import worker_id, worker_prefix
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


def test_the_lines_of_a_batch_are_added_up() -> None:
    lines = [
        json.dumps(["transactions", *line])
        for line in (
            ["done", "", "i1", "Bank", "u1", "5", "3", "9"],
            ["done", "", "i1", "Bank", "u1", "5", "1000", "1100"],
            ["retry", "plaid", "i1", "Bank", "u1", "0", "1", "1"],
            ["failed", "bug", "i2", "Bank", "-", "0", "0", str(10**9)],
            ["done", "plaid", "i2", "Bank", "-", "0", "1", "1"],
        )
    ]
    lines.append(json.dumps(["somebody's", "done", "", "", "", "", "1", "1", "1"]))
    first, second = rows(lines)
    assert (first["done"], first["retried"], first["failed"]) == (2, 1, 0)
    assert (first["run_ms"], first["wait_ms"], first["lag_ms"]) == (1003, 10, 1109)
    assert (first["user_id"], second["user_id"]) == ("u1", None)
    assert first["done_targets"] == ["i1"]
    assert first["run_hist"] == [0, 0, 1, *[0] * 7, 1]
    assert first["classes"] == {"done|": 2, "retried|plaid": 1}
    assert second["classes"] == {"failed|bug": 1, "done|plaid": 1}
    assert second["lag_hist"] == [0, 1, *[0] * (SLOTS - 3), 1]
    assert second["done_targets"] == []


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
