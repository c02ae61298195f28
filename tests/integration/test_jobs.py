"""Jobs on real Postgres and Valkey: attempts, failures and their groups, retries, outages, statistics."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import psycopg
import pytest

from engine.errors import Conflict, NotFound, StoreUnavailable
from engine.jobs import actors
from engine.jobs.heart import HUNG_S, Heart
from engine.jobs.pace import Later
from engine.plaid.errors import plaid_error
from engine.queue import Control, FailedJobs, Hints, Reconciler, View, scripts
from engine.queue.broker import Broker
from engine.queue.consumer import RECORD_AGAIN_MS
from engine.store import Transport
from tests.support.queue import Bench, bench, settings
from tests.support.wait import until

USER = "00000000-0000-0000-0000-00000000000a"


@pytest.fixture
def world(redis_url: str, namespace: str, store: Transport, database_url: str) -> Iterator[Bench]:
    run(database_url, "insert into syncdesk.users (id, name) values (%s, 'Ana')", USER)
    with bench(redis_url, namespace, store) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


def run(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement, values)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


def item(url: str, wanted: int = 1) -> str:
    (row,) = run(
        url,
        "insert into syncdesk.items (user_id, plaid_item_id, institution_name, environment, access_token,"
        " access_key_id, wanted, wanted_at, wanted_correlation, wanted_trigger)"
        " values (%s, gen_random_uuid()::text, 'First Bank', 'simulated', 'x', 'k', %s, now(), 'c1', 'webhook')"
        " returning id::text",
        USER,
        wanted,
    )
    return str(row[0])


def actor(broker: Broker, function: Callable[..., None], queue: str = "transactions") -> None:
    names = {"transactions": "sync_item", "webhooks": "process_webhook", "notifications": "deliver_notice"}
    dramatiq.actor(actor_name=names[queue], queue_name=queue, broker=broker, throws=BaseException)(function)


def hint(world: Bench, item_id: str, lane: str = "high", trigger: str = "webhook") -> str:
    return Hints(world.client, world.keys).sync(item_id, USER, "First Bank", lane, trigger, "c1")


def login_required() -> Exception:
    return plaid_error("ITEM_LOGIN_REQUIRED", "ITEM_ERROR", request_id="r1", http_status=400)


@pytest.mark.brokers
def test_four_attempts_then_a_failed_job_with_all_of_them(world: Bench, store: Transport, database_url: str) -> None:
    broker = world.broker()
    starts: list[int] = []

    def fails(item_id: str, trigger: str, correlation: str) -> None:
        starts.append(1)
        raise ValueError("row (4711, 'Joe''s Diner', 12.50) is wrong")

    actor(broker, fails)
    world.work(broker)
    job_id = hint(world, item(database_url))
    found = until(lambda: failed(store, job_id))
    assert len(starts) == 4
    assert [entry["number"] for entry in found["timeline"]] == [1, 2, 3, 4]
    assert {entry["outcome"] for entry in found["timeline"]} == {"failed"}
    assert found["job"]["state"] == "failed"
    assert found["error"]["code"] == "ValueError"
    assert "fails" in found["error"]["traceback"]
    assert "Diner" not in json.dumps(found)
    assert "12.50" not in json.dumps(found)
    until(lambda: world.state(job_id) is None)


def failed(store: Transport, job_id: str) -> Any:
    try:
        return store.call("job_failed_get", job_id=job_id)
    except NotFound:
        return None


def test_an_error_that_no_retry_can_cure_fails_at_once(world: Bench, store: Transport, database_url: str) -> None:
    broker = world.broker()

    def fails(**_: Any) -> None:
        raise login_required()

    actor(broker, fails)
    world.work(broker)
    job_id = hint(world, item(database_url))
    found = until(lambda: failed(store, job_id))
    assert len(found["timeline"]) == 1
    assert found["error"]["code"] == "ITEM_LOGIN_REQUIRED"
    (group,) = store.call("failure_groups_list", span="24h")["groups"]
    assert (group["code"], group["count"], group["open_jobs"], group["banks"]) == ("ITEM_LOGIN_REQUIRED", 1, 1, 1)
    assert sum(group["hours"]) == 1
    (outbox,) = run(database_url, "select kind, payload ->> 'job_id' from syncdesk.outbox")
    assert outbox == ("job_failed", job_id)


@pytest.mark.brokers
def test_retry_makes_a_new_job_and_success_closes_the_group(world: Bench, store: Transport, database_url: str) -> None:
    broker = world.broker()
    broken = threading.Event()
    broken.set()
    done: list[str] = []

    def sometimes(item_id: str, trigger: str, correlation: str) -> None:
        if broken.is_set():
            raise login_required()
        done.append(trigger)

    actor(broker, sometimes)
    world.work(broker)
    item_id = item(database_url)
    job_id = hint(world, item_id)
    until(lambda: failed(store, job_id))
    until(lambda: world.state(job_id) is None)
    broken.clear()
    jobs = FailedJobs(store, Hints(world.client, world.keys))
    retried = jobs.retry(job_id)
    assert len(retried.ids) == 1
    assert retried.ids[0] != job_id
    until(lambda: done == ["retry"])
    assert store.call("job_failed_get", job_id=job_id)["retried_as"] == retried.ids[0]
    with pytest.raises(Conflict):
        jobs.retry(job_id)
    assert run(database_url, "select wanted, wanted_trigger from syncdesk.items") == [(2, "retry")]
    until(lambda: not broker.held)
    world.flush_stats()
    assert run(database_url, "select open from syncdesk.failure_group_items") == [(False,)]


def test_discard_restore_and_unknown_jobs(world: Bench, store: Transport, database_url: str) -> None:
    broker = world.broker()

    def fails(**_: Any) -> None:
        raise login_required()

    actor(broker, fails)
    world.work(broker)
    job_id = hint(world, item(database_url))
    until(lambda: failed(store, job_id))
    jobs = FailedJobs(store, Hints(world.client, world.keys))
    jobs.discard(job_id)
    assert store.call("jobs_failed_list", state="discarded")["jobs"][0]["state"] == "discarded"
    with pytest.raises(Conflict):
        jobs.discard(job_id)
    jobs.restore(job_id)
    page = store.call("jobs_failed_list", state="failed", q="ITEM_LOGIN")
    assert [job["id"] for job in page["jobs"]] == [job_id]
    assert page["counts"] == {"failed": 1, "discarded": 0}
    with pytest.raises(NotFound):
        jobs.retry("nothing")


def test_a_group_reaches_items_whose_records_were_trimmed(world: Bench, store: Transport, database_url: str) -> None:
    broker = world.broker(threads=4, given=settings(keep_failed=3))
    broken = threading.Event()
    broken.set()
    done: set[str] = set()

    def sometimes(item_id: str, trigger: str, correlation: str) -> None:
        if broken.is_set():
            raise login_required()
        done.add(item_id)

    actor(broker, sometimes)
    world.work(broker)
    items = {item(database_url) for _ in range(12)}
    for item_id in items:
        hint(world, item_id)
    until(lambda: store.call("failure_groups_list")["groups"][:1] and group_count(store) == 12)
    until(lambda: not broker.held)
    assert len(store.call("jobs_failed_list")["jobs"]) == 3
    broken.clear()
    jobs = FailedJobs(store, Hints(world.client, world.keys))
    fingerprint = store.call("failure_groups_list")["groups"][0]["fingerprint"]
    with pytest.raises(Conflict):
        jobs.retry_group(fingerprint, 11)
    assert jobs.retry_group(fingerprint, 12).reached == 12
    until(lambda: done == items)


def group_count(store: Transport) -> int:
    groups = store.call("failure_groups_list")["groups"]
    return int(groups[0]["count"]) if groups else 0


def test_lists_page_by_key(world: Bench, store: Transport, database_url: str) -> None:
    for n in range(7):
        store.call(
            "job_failed", job_id=f"j{n}", queue="transactions", actor="sync_item", lane="high", trigger="t",
            arguments={}, target="", user_id=None, institution="B", correlation="c", fingerprint="f",
            rule_version=1, error={"code": "X", "kind": "bug", "title": "t", "sentence": "s"}, attempts=[],
            queued_at="2026-01-01T00:00:00Z", keep=50,
        )  # fmt: skip
    first = store.call("jobs_failed_list", limit=4)
    rest = store.call("jobs_failed_list", limit=4, after=first["next"])
    assert [job["id"] for job in first["jobs"] + rest["jobs"]] == [f"j{n}" for n in reversed(range(7))]
    assert rest["next"] is None


def test_a_failure_is_recorded_once_however_often_it_is_told(store: Transport, database_url: str) -> None:
    for _ in range(3):
        store.call(
            "job_failed", job_id="j", queue="transactions", actor="sync_item", lane="high", trigger="t",
            arguments={}, target="", user_id=None, institution="B", correlation="c", fingerprint="f",
            rule_version=1, error={"code": "X", "kind": "bug", "title": "t", "sentence": "s"}, attempts=[],
            queued_at="2026-01-01T00:00:00Z", keep=50,
        )  # fmt: skip
    assert group_count(store) == 1


class Flaky:
    """The real store behind a switch, as if the network to Postgres were cut."""

    def __init__(self, store: Transport) -> None:
        self._store = store
        self.away = threading.Event()

    def call(self, name: str, /, **params: Any) -> Any:
        if self.away.is_set():
            raise StoreUnavailable("The database cannot be reached.")
        return self._store.call(name, **params)


@pytest.mark.brokers
def test_a_failure_waits_in_redis_until_postgres_is_back(
    redis_url: str, namespace: str, store: Transport, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(database_url, "insert into syncdesk.users (id, name) values (%s, 'Ana')", USER)
    monkeypatch.setattr("engine.queue.consumer.RECORD_AGAIN_MS", 50)
    assert RECORD_AGAIN_MS > 50
    flaky = Flaky(store)
    starts: list[int] = []
    with bench(redis_url, namespace, flaky) as world:
        world.client.set(world.keys.epoch, "1")
        broker = world.broker()

        def fails(**_: Any) -> None:
            starts.append(1)
            flaky.away.set()
            raise login_required()

        actor(broker, fails)
        world.work(broker)
        job_id = hint(world, item(database_url))
        until(lambda: world.state(job_id) == "retrying")
        assert failed(store, job_id) is None
        flaky.away.clear()
        found = until(lambda: failed(store, job_id))
        assert starts == [1]  # it came back to be recorded, not to be run
        assert [entry["outcome"] for entry in found["timeline"]] == ["failed"]
        assert found["error"]["code"] == "ITEM_LOGIN_REQUIRED"
        assert found["error"]["traceback"]


@pytest.mark.brokers
def test_a_poison_job_is_recorded_with_what_it_did(world: Bench, store: Transport, database_url: str) -> None:
    job_id = hint(world, item(database_url))
    for _ in range(3):
        scripts.run(world.client, world.keys, "take", "transactions", "host:9:x", 60_000, 1)
        Control(world.client, world.keys).free("host:9:")
    broker = world.broker()
    ran: list[int] = []
    actor(broker, lambda **_: ran.append(1))
    world.work(broker)
    found = until(lambda: failed(store, job_id))
    assert ran == []
    assert found["error"]["code"] == "POISON"
    assert [entry["outcome"] for entry in found["timeline"]] == ["lost"] * 3
    assert {entry["error"]["code"] for entry in found["timeline"]} == {"WORKER_ENDED"}


@pytest.mark.brokers
def test_the_reconciler_puts_back_what_is_unfinished_and_nothing_else(
    world: Bench, store: Transport, database_url: str
) -> None:
    wanted, finished, paused, removed, leased = (item(database_url) for _ in range(5))
    run(database_url, "update syncdesk.items set done = wanted where id = %s", finished)
    run(database_url, "update syncdesk.items set paused_at = now() where id = %s", paused)
    run(database_url, "update syncdesk.items set removed_at = now() where id = %s", removed)
    run(
        database_url,
        "insert into syncdesk.item_leases values (%s, 'o', 1, gen_random_uuid(), now() + interval '1 hour')",
        leased,
    )
    run(
        database_url,
        "insert into syncdesk.inbox (body, body_sha256, correlation_id, state) values ('{}', 'x', 'c', 'received'),"
        " ('{}', 'y', 'c', 'processed')",
    )
    run(database_url, "insert into syncdesk.outbox (kind, sent_at) values ('x', null), ('x', now())")
    run(database_url, "update syncdesk.users set weight = 3")
    reconciler = Reconciler(store, world.client, world.keys, {"transactions:concurrency": "5"})
    for _ in range(2):
        assert reconciler.run_once() == 3
    view = View(world.client, world.keys)
    assert [job["item_id"] for job in view.jobs("waiting", "transactions")["jobs"]] == [wanted]
    assert len(view.jobs("waiting", "webhooks")["jobs"]) == 1
    assert len(view.jobs("waiting", "notifications")["jobs"]) == 1
    assert view.queues()[0]["concurrency"] == 5
    assert world.client.hgetall(world.keys.weights) == {USER: "3"}


def test_the_reconciler_pages_through_many(world: Bench, store: Transport, database_url: str) -> None:
    run(
        database_url,
        "insert into syncdesk.outbox (kind) select 'x' from generate_series(1, 1203)",
    )
    assert Reconciler(store, world.client, world.keys).run_once() == 1203
    assert View(world.client, world.keys).queues()[2]["waiting"] == 1203


def test_a_failed_item_is_not_hinted_again_until_somebody_asks(
    world: Bench, store: Transport, database_url: str
) -> None:
    broker = world.broker()

    def fails(**_: Any) -> None:
        raise login_required()

    actor(broker, fails)
    world.work(broker)
    item_id = item(database_url)
    job_id = hint(world, item_id)
    until(lambda: failed(store, job_id))
    assert store.call("unfinished")["items"] == []
    run(database_url, "update syncdesk.items set wanted = wanted + 1, wanted_at = clock_timestamp()")
    assert [row["id"] for row in store.call("unfinished")["items"]] == [item_id]


@pytest.mark.brokers
def test_limits_survive_a_wipe(world: Bench, store: Transport) -> None:
    Control(world.client, world.keys, store).limit("transactions", 7, 60)
    Control(world.client, world.keys, store).pause("transactions")
    world.client.delete(world.keys.limits)
    Reconciler(store, world.client, world.keys, {"transactions:concurrency": "5"}).run_once()
    queue = View(world.client, world.keys).queues()[0]
    assert (queue["concurrency"], queue["per_minute"], queue["paused"]) == (7, 60, True)


def test_a_pause_does_not_freeze_the_limit_of_the_settings(world: Bench, store: Transport) -> None:
    Reconciler(store, world.client, world.keys, {"transactions:concurrency": "5"}).run_once()
    Control(world.client, world.keys, store).pause("transactions")
    Reconciler(store, world.client, world.keys, {"transactions:concurrency": "9"}).run_once()
    queue = View(world.client, world.keys).queues()[0]
    assert (queue["concurrency"], queue["paused"]) == (9, True)


@pytest.mark.brokers
def test_cancel_takes_the_wish_along(world: Bench, store: Transport, database_url: str) -> None:
    job_id = hint(world, item(database_url))
    assert Control(world.client, world.keys, store).cancel(job_id) is True
    assert store.call("unfinished")["items"] == []


@pytest.mark.brokers
def test_a_wish_raised_during_the_run_makes_one_more(world: Bench, store: Transport, database_url: str) -> None:
    broker = world.broker(threads=3)
    gate, runs = threading.Event(), []

    def slow(item_id: str, trigger: str, correlation: str) -> None:
        runs.append(trigger)
        gate.wait(20)

    actor(broker, slow)
    world.work(broker)
    item_id = item(database_url)
    hint(world, item_id)
    until(lambda: len(runs) == 1)
    for _ in range(5):
        hint(world, item_id, trigger="manual")
    gate.set()
    until(lambda: len(runs) == 2 and not broker.held)
    assert View(world.client, world.keys).queues()[0]["waiting"] == 0
    assert runs[0] == "webhook"


def test_statistics_and_charts(world: Bench, store: Transport, database_url: str) -> None:
    broker = world.broker()
    actor(broker, lambda **_: None)
    world.work(broker)
    items = [item(database_url) for _ in range(5)]
    for item_id in items:
        hint(world, item_id)
    until(lambda: world.client.llen(world.keys.done("transactions")) == 5)
    world.flush_stats()
    stats = store.call("queue_stats")
    assert (stats["transactions"]["done_24h"], stats["transactions"]["failed_24h"]) == (5, 0)
    assert sum(stats["transactions"]["last_hour"]) == 5
    assert stats["transactions"]["high_failure_rate"] is False
    for span, slots in (("1h", 60), ("24h", 48), ("7d", 84)):
        chart = store.call("job_chart", span=span)
        assert len(chart["slots"]) == slots
        assert sum(slot["done"] for slot in chart["slots"]) == 5
        assert [slot["known"] for slot in chart["slots"] if slot["done"]].count(False) == 0
        assert not chart["slots"][0]["known"]
    rows = run(database_url, "select done, run_hist from syncdesk.job_stats")
    assert len(rows) == 5
    assert all(sum(hist) == 1 for _, hist in rows)


def test_notices_are_delivered_once_in_words(world: Bench, store: Transport, database_url: str) -> None:
    broker = world.broker()
    told: list[tuple[str, str | None]] = []
    parts = actors.Parts(
        store=store, sync=lambda: pytest.fail("no bank is needed"), publish=lambda t, i: told.append((t, i))
    )
    actors.declare(broker, parts, {"notifications"})
    world.work(broker)
    outbox = store.call(
        "outbox_add", kind="transactions", payload={"added": 3, "tagged": 1, "institution": "First Bank"}
    )["id"]
    hints = Hints(world.client, world.keys)
    hints.notification(outbox, USER, "c")
    until(lambda: store.call("notices_list")["notices"])
    until(lambda: not broker.held)
    hints.notification(outbox, USER, "c")
    until(lambda: world.client.llen(world.keys.done("notifications")) == 2)
    (notice,) = store.call("notices_list")["notices"]
    assert (notice["title"], notice["sentence"]) == ("First Bank", "3 new transactions. One of them paid a bill.")
    assert len(told) == 1


@pytest.mark.brokers
def test_a_busy_bank_link_comes_again_and_leaves_no_trace(world: Bench, store: Transport, database_url: str) -> None:
    broker = world.broker()
    starts: list[int] = []

    def busy(item_id: str, trigger: str, correlation: str) -> None:
        starts.append(1)
        if len(starts) < 4:
            raise Later("Another run is under way.", 0.01)

    actor(broker, busy)
    world.work(broker)
    job_id = hint(world, item(database_url))
    until(lambda: world.state(job_id) == "done")
    found = View(world.client, world.keys).job(job_id)
    assert found is not None
    assert [entry["outcome"] for entry in found["timeline"]] == ["done"]
    assert len(starts) == 4


def test_the_lines_an_operator_looks_for(world: Bench, database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "syncdesk")
    broker = world.broker()
    starts: list[int] = []

    def once(item_id: str, trigger: str, correlation: str) -> None:
        starts.append(1)
        if len(starts) == 1:
            raise ValueError("4711")

    actor(broker, once)
    job_id = hint(world, item(database_url))
    world.work(broker)  # after the hint, whose line would else race with the worker's
    until(lambda: world.state(job_id) == "done")
    said = [record.getMessage() for record in caplog.records if record.name.startswith("syncdesk.")]
    words = [line for line in said if "transaction sync job" in line.lower()]
    assert words == [
        "📋 Queued transaction sync job",
        "🔄 Processing transaction sync job",
        "❌ Transaction sync job failed",
        "🔄 Processing transaction sync job",
        "✅ Transaction sync job completed",
    ]
    assert "4711" not in caplog.text


@pytest.mark.brokers
def test_a_payload_that_nobody_can_read_is_a_failed_job_not_a_stuck_queue(
    world: Bench, store: Transport, database_url: str
) -> None:
    broker = world.broker()
    ran: list[str] = []

    def counts(item_id: str, trigger: str, correlation: str) -> None:
        ran.append(item_id)

    actor(broker, counts)
    broken, right = item(database_url), item(database_url)
    job_id = hint(world, broken)
    world.client.hset(world.keys.job(job_id), "kwargs", "{broken")
    hint(world, right)
    world.work(broker)
    found = until(lambda: failed(store, job_id))
    assert found["error"]["code"] == "TypeError"
    assert found["arguments"] == {}
    until(lambda: ran == [right])


def test_a_trigger_during_the_last_start_of_a_failed_job_is_still_unfinished(
    world: Bench, store: Transport, database_url: str
) -> None:
    item_id = item(database_url)
    run(
        database_url,
        "insert into syncdesk.sync_runs (id, item_id, user_id, job_id, trigger, correlation_id, fence, wanted,"
        " started_at) values (gen_random_uuid(), %s, %s, 'j', 't', 'c', 1, 1, now())",
        item_id,
        USER,
    )
    run(database_url, "update syncdesk.items set wanted = 2, wanted_at = clock_timestamp()")
    store.call(
        "job_failed", job_id="j", queue="transactions", actor="sync_item", lane="high", trigger="t", arguments={},
        target=item_id, user_id=USER, institution="B", correlation="c", fingerprint="f", rule_version=1,
        error={"code": "X", "kind": "bug", "title": "t", "sentence": "s"}, attempts=[],
        queued_at="2026-01-01T00:00:00Z", keep=50,
    )  # fmt: skip
    assert run(database_url, "select wanted, done from syncdesk.items") == [(2, 1)]
    assert [row["id"] for row in store.call("unfinished")["items"]] == [item_id]


def test_a_bank_that_needs_its_person_is_told_once(world: Bench, store: Transport, database_url: str) -> None:
    broker = world.broker()

    def fails(**_: Any) -> None:
        raise login_required()

    actor(broker, fails)
    item_id = item(database_url)
    run(database_url, "update syncdesk.items set state = 'needs_you'")  # as the run did, with its own notice
    world.work(broker)
    job_id = hint(world, item_id)
    until(lambda: failed(store, job_id))
    assert run(database_url, "select kind from syncdesk.outbox") == []


@pytest.mark.brokers
def test_a_pool_whose_threads_all_hang_is_told_from_one_at_work(world: Bench, database_url: str) -> None:
    broker = world.broker(threads=2)
    over = threading.Event()
    actor(broker, lambda item_id, trigger, correlation: over.wait(30))
    world.work(broker)
    heart = Heart(broker, "sync", 10_000, lambda why: None, lambda: False)
    try:
        for _ in range(2):
            hint(world, item(database_url))
        until(lambda: len(broker.held) == 2)
        assert stalled(world, heart) == 0  # busy, as it should be
        first, second = broker.held.values()
        first.began -= HUNG_S + 1
        assert stalled(world, heart) == 0  # one long job
        second.began -= HUNG_S + 1
        assert stalled(world, heart) > HUNG_S
    finally:
        over.set()
    until(lambda: not broker.held)
    assert stalled(world, heart) < HUNG_S


def stalled(world: Bench, heart: Heart) -> float:
    heart._beat()
    (row,) = View(world.client, world.keys).workers()
    return float(row["stalled_s"])
