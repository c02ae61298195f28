"""Failed jobs on real Postgres and Valkey: attempts, groups, what retries and discards them, what records them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from engine.errors import Conflict, NotFound, StoreUnavailable
from engine.jobs.actors import Parts, declare
from engine.queue import Control, FailedJobs, Hints, scripts
from engine.queue.consumer import RECORD_AGAIN_MS
from engine.store import Transport
from tests.support import queue_steps, syncing
from tests.support.failing import World
from tests.support.jobs import USER, actor, failed, hint, item, login_required, run
from tests.support.queue import Bench, bench, settings
from tests.support.scripted_plaid import ScriptedPlaid, error, page, transaction
from tests.support.wait import until


@pytest.fixture
def world(redis_url: str, namespace: str, store: Transport, database_url: str) -> Iterator[Bench]:
    run(database_url, "insert into syncdesk.users (id, name) values (%s, 'Ana')", USER)
    with bench(redis_url, namespace, store) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


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


def test_a_retry_in_the_moment_of_the_failure_is_a_job_of_its_own(
    world: Bench, store: Transport, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.queue.failed._LOOKS", 1000)  # a test that stands still is no queue that does
    item_id = item(database_url)
    queue_steps.put(world, "j", key=f"transactions:{item_id}")
    [job] = queue_steps.take(world)
    queue_steps.settle(world, job, "final", error='{"code":"BROKEN"}')
    World(store, database_url).fail(item_id, "j")  # recorded, and not yet out of the queue
    told: list[str] = []
    jobs = FailedJobs(store, Hints(world.client, world.keys))
    asking = threading.Thread(target=lambda: told.extend(jobs.retry("j").ids))
    asking.start()
    until(lambda: world.fields("j").get("again_trigger") == "retry")
    queue_steps.settle(world, job, "failed")
    asking.join()
    assert told == ["next-j"]
    assert (world.state("j"), world.state("next-j")) == (None, "waiting")
    assert store.call("job_failed_get", job_id="j")["retried_as"] == "next-j"


def test_only_a_run_that_went_through_closes_the_failures_of_before(
    world: Bench, store: Transport, database_url: str, scripted_bank: ScriptedPlaid
) -> None:
    bank = syncing.World(syncing.deps(store, scripted_bank.url), database_url).link()
    broker = world.broker(given=settings(max_attempts=1))
    declare(broker, Parts(store=store, sync=lambda: bank.deps), {"transactions"})
    world.work(broker)

    def sync(paused_at: str = "null") -> str:
        bank.want("manual")
        bank.execute(f"update syncdesk.items set paused_at = {paused_at}")
        return Hints(world.client, world.keys).sync(bank.item, bank.user, "Bank", "high", "manual", "c")

    def opened() -> list[tuple[Any, ...]]:
        until(lambda: not broker.held)
        world.flush_stats()
        return run(database_url, "select open from syncdesk.failure_group_items")

    scripted_bank.answer("/transactions/sync", error("INTERNAL_SERVER_ERROR", "API_ERROR"))
    job_id = sync()
    until(lambda: failed(store, job_id))
    assert opened() == [(True,)]
    scripted_bank.answer("/transactions/sync", error("INSTITUTION_DOWN", "INSTITUTION_ERROR"))
    troubled = sync()
    until(lambda: world.state(troubled) == "done")
    assert opened() == [(True,)]
    paused = sync("now()")
    until(lambda: world.state(paused) == "done")
    assert opened() == [(True,)]
    bank.execute("update syncdesk.items set paused_at = null")
    scripted_bank.answer("/transactions/sync", page([transaction("t1")]))
    well = sync()
    until(lambda: world.state(well) == "done")
    assert opened() == [(False,)]
    ends = run(database_url, "select outcome, class, jobs from syncdesk.job_outcomes order by 1, 2")
    assert ends == [("done", "", 1), ("done", "held", 1), ("done", "plaid", 1), ("failed", "plaid", 1)]
    bank.deps.plaid.close()


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


def test_what_a_later_run_brought_through_is_told_by_the_failed_job(
    any_store: Transport, any_database_url: str
) -> None:
    world = World(any_store, any_database_url)

    def ended(target: str, state: str, started: str, job: str | None) -> None:
        world.run(
            "insert into syncdesk.sync_runs (id, item_id, user_id, job_id, trigger, correlation_id, fence, state,"
            " started_at, finished_at) values (gen_random_uuid(), %s::uuid, gen_random_uuid(), %s, 'schedule', 'c', 1,"
            " %s, clock_timestamp() + %s::interval, clock_timestamp() + %s::interval)",
            target, job, state, started, started,
        )  # fmt: skip

    def told(job_id: str) -> Any:
        return any_store.call("job_went_through", job_id=job_id)

    mine, other = world.items(2)
    job_id = world.fail(mine)
    ended(other, "done", "1 minute", "of another bank")
    ended(mine, "done", "-1 minute", "of before")
    ended(mine, "failed", "1 minute", "failed too")
    assert told(job_id) is None
    ended(mine, "done", "3 minutes", "the second")
    ended(mine, "done", "2 minutes", "the first")
    assert told(job_id)["job_id"] == "the first"
    (row,) = world.run("select syncdesk.iso(finished_at) from syncdesk.sync_runs where job_id = 'the first'")
    assert told(job_id)["at"] == row[0]
    assert [job["id"] for job in any_store.call("jobs_failed_list")["jobs"]] == [job_id]  # listed as before

    notice = any_store.call("outbox_add", kind="test", correlation="c", payload={})["id"]
    notice_job = world.fail(str(notice), queue="notifications", user_id=None)
    ((hook,),) = world.run(
        "insert into syncdesk.inbox (body, body_sha256, correlation_id, state) values ('{}', 'x', 'c', 'failed')"
        " returning id"
    )
    hook_job = world.fail(str(hook), queue="webhooks", user_id=None, arguments={"inbox_id": hook})
    assert told(notice_job) is told(hook_job) is None
    world.run("update syncdesk.outbox set sent_at = clock_timestamp() where id = %s", notice)
    end = "update syncdesk.inbox set state = 'processed', reason = %s, processed_at = clock_timestamp() where id = %s"
    world.run(end, "cancelled", hook)
    assert told(hook_job) is None
    world.run(end, None, hook)
    assert told(notice_job)["job_id"] is None
    assert told(hook_job)["at"]
    assert told("no such job") is None
