"""The lines that an operator looks for: each event happens for real, and its line is read from the part's file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import logs
from engine.plaid.errors import plaid_error
from engine.profile import Profile
from engine.store import Transport
from tests.support.jobs import USER, actor, hint, item, run
from tests.support.queue import Bench, bench, settings
from tests.support.wait import until


@pytest.fixture
def world(redis_url: str, namespace: str, store: Transport, database_url: str) -> Iterator[Bench]:
    run(database_url, "insert into syncdesk.users (id, name) values (%s, 'Ana')", USER)
    with bench(redis_url, namespace, store) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    profile = Profile("test", tmp_path / "profile")
    logs.configure("worker-sync", profile, terminal=False)
    yield profile.logs / "worker-sync.log"
    logs.configure("test", None, terminal=False)


def lines(file: Path, words: str) -> list[dict[str, Any]]:
    return [
        line for text in file.read_text(encoding="utf-8").splitlines() if (line := json.loads(text))["event"] == words
    ]


def test_every_line_of_a_sync_job(world: Bench, file: Path, database_url: str) -> None:
    broker = world.broker(given=settings(max_attempts=2))
    good, bad = item(database_url), item(database_url)

    def sync(item_id: str, **_: Any) -> None:
        if item_id == bad:
            raise plaid_error("INTERNAL_SERVER_ERROR", "API_ERROR", request_id="r1", http_status=500)

    actor(broker, sync)
    world.work(broker)
    jobs = {target: hint(world, target) for target in (good, bad)}
    until(lambda: len(lines(file, logs.FAILED)) == 2 and lines(file, logs.COMPLETED), 30)

    queued = {line["target"]: line for line in lines(file, "📋 Queued transaction sync job")}
    assert {target: line["job"] for target, line in queued.items()} == jobs
    assert {line["trigger"] for line in queued.values()} == {"webhook"}
    begun = [line for line in lines(file, "🔄 Processing transaction sync job") if line["target"] == good]
    assert [(line["job"], line["attempt"], line["trigger"]) for line in begun] == [(jobs[good], 1, "webhook")]
    (done,) = lines(file, "✅ Transaction sync job completed")
    assert (done["target"], done["job"], done["level"]) == (good, jobs[good], "info")
    assert done["duration_ms"] >= 0
    first, last = lines(file, "❌ Transaction sync job failed")
    assert [(line["target"], line["code"]) for line in (first, last)] == [(bad, "INTERNAL_SERVER_ERROR")] * 2
    assert [(line["level"], line["final"]) for line in (first, last)] == [("warning", False), ("error", True)]


def test_many_failures_begin_and_end_with_a_line(world: Bench, file: Path, store: Transport, database_url: str) -> None:
    from engine.jobs.stats import tell

    broker = world.broker(given=settings(max_attempts=1))

    def fails(**_: Any) -> None:
        raise plaid_error("INVALID_FIELD", "INVALID_REQUEST", request_id="r1", http_status=400)

    actor(broker, fails)
    world.work(broker)
    for _ in range(12):
        hint(world, item(database_url))
    until(lambda: len(lines(file, logs.FAILED)) == 12, 30)

    def told() -> list[dict[str, Any]]:
        world.flush_stats()
        return lines(file, "⚠️ High failure rate in queue")

    (line,) = until(told, 30)
    assert (line["queue"], line["level"], line["minutes"]) == ("transactions", "warning", 15)
    run(database_url, "update syncdesk.job_minutes set minute = minute - interval '1 hour'")
    tell(store.call("failing_look"), None)
    run(database_url, "update syncdesk.queue_alarms set calm_since = now() - interval '6 minutes'")
    tell(store.call("failing_look"), None)
    (end,) = lines(file, "Failure rate in queue is normal again")
    assert (end["queue"], end["level"]) == ("transactions", "info")
    assert len(told()) == 1
