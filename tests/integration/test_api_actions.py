"""What an operator does over the admin API, down to Postgres and Redis."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.api import types, types_banks, types_bills, types_jobs, types_operation, types_overview
from engine.api.actions import audited
from engine.api.client import Client
from engine.api.context import Alone
from engine.api.routing import Call
from engine.host.valkey import Valkey
from tests.support import api as support
from tests.support import servers
from tests.support.api import Api
from tests.support.wait import until

BANK = "First Lakeside Bank"


@pytest.fixture
def api(database_url: str, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Api]:
    with support.running(tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url) as made:
        yield made


def link(api: Api, number: int = 1) -> str:
    answer = api.parts.store.call(
        "item_link",
        id=str(uuid.uuid4()),
        user="me",
        plaid_item_id=f"plaid-item-{number}",
        institution_id="ins_1",
        institution_name=BANK,
        label="",
        environment="simulated",
        access_token="sealed",
        access_key_id="k1",
        webhook_url=None,
        accounts=[],
        correlation="corr-link",
    )
    return str(answer["item_id"])


def fail(api: Api, item: str, code: str = "INSTITUTION_DOWN", attempts: int = 4) -> str:
    """A job that failed for good, as the worker records it."""
    job_id = str(uuid.uuid4())
    error = {
        "kind": "plaid",
        "code": code,
        "title": f"{BANK} did not answer",
        "sentence": "Trouble at the bank, not at your side.",
        "detail": {"request_id": "req-1"},
        "traceback": "",
    }
    api.parts.store.call(
        "job_failed",
        job_id=job_id,
        queue="transactions",
        actor="sync_item",
        lane="high",
        trigger="webhook",
        arguments={"item_id": item, "trigger": "webhook", "correlation": f"corr-{job_id}"},
        target=item,
        user_id=None,
        institution=BANK,
        correlation=f"corr-{job_id}",
        fingerprint=f"fp-{code}",
        rule_version=1,
        error=error,
        attempts=[
            {
                "number": number,
                "started_at": f"2026-01-01T00:00:0{number}.000Z",
                "duration_ms": 12.5,
                "outcome": "failed",
                "error": error,
                "waited_ms": 3.0,
                "worker": "w1",
            }
            for number in range(1, attempts + 1)
        ],
        queued_at="2026-01-01T00:00:00.000Z",
        keep=50,
    )
    return job_id


def ok(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_failed_and_live_jobs_are_one_list(api: Api) -> None:
    items = [link(api, number) for number in range(3)]
    failed = [fail(api, item) for item in items]
    waiting = [ok(api.call("POST", f"items/{item}/sync", "operate"))["ids"][0] for item in items]
    assert ok(api.call("GET", "jobs"))["counts"] == {
        "waiting": 3, "delayed": 0, "running": 0, "retrying": 0, "done": 0, "failed": 3, "discarded": 0,
    }  # fmt: skip
    seen: list[str] = []
    after = ""
    for _ in range(20):
        page = msgspec.json.decode(api.call("GET", f"jobs?limit=2{after}").content, type=types_jobs.JobPage)
        assert len(page.jobs) <= 2
        seen += [job.id for job in page.jobs]
        if page.next is None:
            break
        after = f"&after={page.next}"
    assert seen == [*waiting, *reversed(failed)]
    for search in (items[0], BANK.upper(), "institution_down"):
        found = ok(api.call("GET", "jobs", params={"state": "failed", "q": search}))["jobs"]
        assert failed[0] in [job["id"] for job in found], search
    found = ok(api.call("GET", "jobs", params={"state": "waiting", "q": items[1]}))["jobs"]
    assert [job["id"] for job in found] == [waiting[1]]
    grouped = ok(api.call("GET", "jobs", params={"group": "fp-INSTITUTION_DOWN"}))["jobs"]
    assert [job["id"] for job in grouped] == list(reversed(failed))


def test_a_failed_job_tells_what_happened(api: Api) -> None:
    item = link(api)
    job_id = fail(api, item, "ITEM_LOGIN_REQUIRED")
    fail(api, item)
    groups = ok(api.call("GET", "failures"))["groups"]
    assert {group["code"]: group["action"] for group in groups} == {
        "ITEM_LOGIN_REQUIRED": "Sign in", "INSTITUTION_DOWN": "Retry",
    }  # fmt: skip
    found = msgspec.json.decode(api.call("GET", f"jobs/{job_id}").content, type=types_jobs.JobDetail)
    assert [attempt.number for attempt in found.timeline] == [1, 2, 3, 4]
    assert found.title == f"{BANK} did not answer"
    assert found.action == "Sign in"
    assert found.allowed == ["retry", "discard"]
    assert [event.kind for event in found.thread] == ["queued", "started", "finished", "notice"]
    assert found.thread[1].ms == 4000.0


def test_a_failed_job_whose_bank_went_through_since_asks_for_nothing(api: Api) -> None:
    item = link(api)
    job_id = fail(api, item, "ITEM_LOGIN_REQUIRED")

    def detail() -> types_jobs.JobDetail:
        return msgspec.json.decode(api.call("GET", f"jobs/{job_id}").content, type=types_jobs.JobDetail)

    before = detail()
    assert (before.action, before.went_through) == ("Sign in", None)
    api.rows(
        "insert into syncdesk.sync_runs (id, item_id, user_id, job_id, trigger, correlation_id, fence, state,"
        " started_at, finished_at) select gen_random_uuid(), id, user_id, 'later', 'webhook', 'c', 1, 'done',"
        " clock_timestamp(), clock_timestamp() from syncdesk.items where id = %s returning 1",
        item,
    )
    found = detail()
    assert found.went_through is not None
    assert found.went_through.job_id == "later"
    assert (found.job.state, found.action, found.allowed) == ("failed", None, ["retry", "discard"])
    assert found.sentence == f"{before.sentence} It went through since; nothing is left to do."
    ok(api.call("POST", f"jobs/{job_id}/retry", "operate"))
    assert detail().title == "Retried"
    assert detail().went_through is None


def test_retry_discard_restore(api: Api) -> None:
    item = link(api)
    job_id = fail(api, item)
    assert api.call("POST", f"jobs/{job_id}/retry", "view").status_code == 403
    ok(api.call("POST", f"jobs/{job_id}/discard", "operate"))
    assert ok(api.call("GET", f"jobs/{job_id}"))["allowed"] == ["restore", "retry"]
    assert api.call("POST", f"jobs/{job_id}/discard", "operate").status_code == 409
    ok(api.call("POST", f"jobs/{job_id}/restore", "operate"))
    made = ok(api.call("POST", f"jobs/{job_id}/retry", "operate"))
    live = ok(api.call("GET", f"jobs/{made['ids'][0]}"))["job"]
    assert (live["state"], live["trigger"], live["item_id"]) == ("waiting", "retry", item)
    assert api.call("POST", f"jobs/{job_id}/retry", "operate").status_code == 409
    assert ok(api.call("GET", f"jobs/{job_id}"))["allowed"] == []
    wanted = api.rows("select wanted > done as open from syncdesk.items where id = %s", item)
    assert wanted == [{"open": True}]
    trail = api.rows("select who, action, result from syncdesk.audit order by id")
    assert [row["action"] for row in trail] == [
        "job.discard", "job.discard", "job.restore", "job.retry", "job.retry",
    ]  # fmt: skip
    assert trail[1]["result"].startswith("Refused: ")
    assert {row["who"] for row in trail} == {"operate token"}


def test_an_action_that_meets_a_defect_is_audited_by_its_kind(api: Api) -> None:
    context = api.parts.context("0.0.0", api.tokens, Alone("test", api.parts.settings, "0.0.0", ""))
    call = Call(context=context, path={}, query=None, body=None, kind="admin", who="admin token")

    def work() -> types.Done:
        raise ValueError("4111 1111 1111 1111")

    with pytest.raises(ValueError, match="4111"):
        audited(call, "item.sync", "item:1", work)
    assert api.rows("select who, action, target, result from syncdesk.audit") == [
        {"who": "admin token", "action": "item.sync", "target": "item:1", "result": "Failed: ValueError."}
    ]


def test_a_group_that_grew_is_not_retried(api: Api) -> None:
    items = [link(api, number) for number in range(3)]
    for item in items:
        fail(api, item)
    group = ok(api.call("GET", "failures?span=1h"))["groups"][0]
    assert (group["open_jobs"], group["count"], group["banks"]) == (3, 3, 1)
    path = f"failures/{group['fingerprint']}/retry"
    assert api.call("POST", path, json={"expected": 2}).status_code == 409
    done = ok(api.call("POST", path, json={"expected": 3}))
    assert len(done["ids"]) == 3
    assert ok(api.call("GET", "jobs"))["counts"]["failed"] == 0


def test_cancel_and_run_now(api: Api) -> None:
    item = link(api)
    job_id = ok(api.call("POST", f"items/{item}/sync"))["ids"][0]
    ok(api.call("POST", f"jobs/{job_id}/cancel"))
    assert ok(api.call("GET", "jobs"))["counts"]["waiting"] == 0
    assert api.call("POST", f"jobs/{job_id}/cancel").status_code == 404
    failed = fail(api, item)
    answer = api.call("POST", f"jobs/{failed}/run")
    assert answer.status_code == 409
    assert "failed meanwhile" in answer.json()["message"]


def test_queue_limits_and_pause(api: Api) -> None:
    ok(api.call("PATCH", "queues/transactions", json={"concurrency": 7}))
    ok(api.call("PATCH", "queues/transactions", json={"per_minute": 10}))
    ok(api.call("POST", "queues/transactions/pause"))
    queue = ok(api.call("GET", "queues"))["queues"][0]
    assert (queue["concurrency"], queue["per_minute"], queue["paused"]) == (7, 10, True)
    ok(api.call("PATCH", "queues/transactions", json={"per_minute": 0}))
    ok(api.call("POST", "queues/transactions/resume"))
    queue = ok(api.call("GET", "queues"))["queues"][0]
    assert (queue["concurrency"], queue["per_minute"], queue["paused"]) == (7, None, False)
    assert api.call("POST", "queues/other/pause").status_code == 404


def test_engine_pause_leaves_what_was_paused_before(api: Api) -> None:
    ok(api.call("POST", "queues/webhooks/pause"))
    ok(api.call("POST", "engine/pause", json={"minutes": 30}))
    assert all(queue["paused"] for queue in ok(api.call("GET", "queues"))["queues"])
    status = ok(api.call("GET", "status"))
    assert status["engine"]["state"] == "paused"
    assert status["engine"]["paused_until"]
    ok(api.call("POST", "engine/resume"))
    paused = {queue["name"]: queue["paused"] for queue in ok(api.call("GET", "queues"))["queues"]}
    assert paused == {"transactions": False, "webhooks": True, "notifications": False}
    assert api.call("POST", "engine/resume").status_code == 409


def test_a_pause_ends_by_itself(api: Api) -> None:
    ok(api.call("POST", "engine/pause", json={"minutes": 1}))
    held = api.parts.store.call("settings_get", key="engine_pause")
    held["until"] = "2026-01-01T00:00:00.000Z"
    api.parts.store.call("setting_put", key="engine_pause", value=held, who="test")
    until(lambda: not any(q["paused"] for q in ok(api.call("GET", "queues"))["queues"]), what="the end of the pause")


def test_banks_pause_resume_and_sync_all(api: Api) -> None:
    items = [link(api, number) for number in range(3)]
    ok(api.call("POST", f"items/{items[0]}/pause"))
    assert api.call("POST", f"items/{items[0]}/sync").status_code == 409
    done = ok(api.call("POST", "sync", json={"all": True}))
    assert done["message"] == "2 banks will sync."
    page = msgspec.json.decode(api.call("GET", "items?limit=2").content, type=types_banks.ItemPage)
    assert page.next is not None
    rest = msgspec.json.decode(api.call("GET", f"items?limit=2&after={page.next}").content, type=types_banks.ItemPage)
    assert {item.id for item in page.items + rest.items} == set(items)
    assert all(item.title and item.sentence for item in page.items)
    ok(api.call("POST", f"items/{items[0]}/resume"))
    detail = msgspec.json.decode(api.call("GET", f"items/{items[0]}").content, type=types_banks.ItemDetail)
    assert detail.item.state == "first_data"
    assert "kept" in detail.removes


def test_bills_are_written_edited_and_archived(api: Api) -> None:
    bill = {"name": "Rent", "cadence": "monthly", "anchor_date": "2026-01-05", "amount": "1200.00", "user": "me"}
    made = ok(api.call("POST", "bills", json=bill))["ids"][0]
    ok(api.call("PUT", f"bills/{made}", json={**bill, "amount": "1250.00"}))
    detail = msgspec.json.decode(api.call("GET", f"bills/{made}").content, type=types_bills.BillDetail)
    assert detail.bill.amount == "1250.00"
    ok(api.call("POST", f"bills/{made}/archive"))
    assert ok(api.call("GET", "bills"))["bills"] == []
    assert [bill["id"] for bill in ok(api.call("GET", "bills?state=archived"))["bills"]] == [made]


def test_schedule_is_paused_changed_and_run(api: Api) -> None:
    store = api.parts.store
    store.call("schedule_define", id="backup_sync", label="Backup sync", trigger={"every_s": 900}, words="every 15 min")
    ok(api.call("POST", "schedule/backup_sync/pause"))
    ok(api.call("POST", "schedule/backup_sync/trigger", json={"trigger": {"cron": "30 2 * * mon", "zone": "UTC"}}))
    ok(api.call("POST", "schedule/backup_sync/run"))
    found = msgspec.json.decode(api.call("GET", "schedule").content, type=types_operation.Schedule)
    assert found.jobs[0].paused
    assert found.jobs[0].paused_by == "admin token"
    assert found.jobs[0].trigger == {"cron": "30 2 * * mon", "zone": "UTC"}
    assert api.rows("select run_now_at is not null as asked from syncdesk.schedule") == [{"asked": True}]
    ok(api.call("POST", "schedule/backup_sync/resume"))
    assert not ok(api.call("GET", "schedule"))["jobs"][0]["paused"]
    assert api.call("POST", "schedule/none/run").status_code == 404


def test_without_a_host_processes_are_not_started(api: Api) -> None:
    answer = api.call("POST", "workers/sync/restart")
    assert answer.status_code == 409
    assert "does not supervise" in answer.json()["message"]
    ok(api.call("POST", "workers/sync/quiet"))
    assert api.call("POST", "workers/none/quiet").status_code == 404


def test_overview_names_what_needs_the_person(api: Api) -> None:
    item = link(api)
    api.parts.store.call(
        "item_state", item=item, state="needs_you", code="ITEM_LOGIN_REQUIRED", expires=None, want=False,
        trigger="webhook", correlation="c",
    )  # fmt: skip
    fail(api, link(api, 2))
    found = msgspec.json.decode(api.call("GET", "overview").content, type=types_overview.Overview)
    assert [need.kind for need in found.needs] == ["item", "engine"]
    assert found.needs[0].title == "The bank signed you out"
    assert found.needs[1].title == f"1 failed job at {BANK}"
    assert found.queues[0].failed == 1
    assert found.activity[0].tone == "error"
    assert found.bank_data.items == 2


def test_events_arrive_and_survive_nothing_happening(api: Api) -> None:
    item = link(api)
    got: list[types.Event] = []
    ready = threading.Event()

    def listen() -> None:
        with Client(api.endpoints.admin or "", api.tokens.of("view"), kind="view") as client:
            for event in client.events():
                got.append(event)
                ready.set()
                if event.topic == "items":
                    return

    thread = threading.Thread(target=listen)
    thread.start()
    assert ready.wait(20)
    assert got[0].topic == "hello"
    until(
        lambda: (api.call("POST", f"items/{item}/pause"), any(e.topic == "items" and e.id == item for e in got))[1],
        what="the event",
    )
    thread.join(20)
    assert not thread.is_alive()


def test_a_stream_that_nobody_reads_holds_nothing_up(api: Api) -> None:
    headers = {"Authorization": f"Bearer {api.tokens.admin}"}
    with api.admin.stream("GET", "/api/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        for _ in range(600):
            api.parts.publish("jobs", "x" * 500)
        assert ok(api.call("GET", "status"))
        lines = answer.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["topic"] == "hello"


def test_events_are_read_only_while_somebody_listens(api: Api) -> None:
    def listeners() -> int:
        channel = api.parts.keys.events
        return int(dict(api.parts.client.pubsub_numsub(channel))[channel])

    assert listeners() == 0
    for _ in range(2):
        with api.admin.stream("GET", "/api/events", headers={"Authorization": f"Bearer {api.tokens.admin}"}) as answer:
            lines = answer.iter_lines()  # kept: it closes the stream with itself
            next(lines)
            until(lambda: listeners() == 1, what="the subscription")
        until(lambda: (api.parts.publish("jobs", "x"), listeners() == 0)[1], what="the end of the subscription")


def _loss(got: list[types.Event]) -> int:
    return [event.topic for event in got].index("engine")


def test_consoles_hear_that_redis_went_and_came(cluster: servers.Cluster, database_url: str, tmp_path: Path) -> None:
    got: list[types.Event] = []
    with servers.throwaway_profile() as profile:
        broker = Valkey(profile, durable=False)
        broker.start()
        with support.running(tmp_path, redis_url=broker.url, database_url=database_url) as api:

            def listen() -> None:
                with Client(api.endpoints.admin or "", api.tokens.admin) as client:
                    got.extend(client.events())

            thread = threading.Thread(target=listen)
            thread.start()
            until(lambda: got, what="the greeting")
            broker.stop()
            until(lambda: "engine" in [event.topic for event in got], what="the loss")
            assert ok(api.call("GET", "overview"))["causes"][0]["code"] == "QUEUE_LOST"
            broker.start()
            until(lambda: "hello" in [event.topic for event in got][_loss(got) :], what="the return")
        thread.join(20)
        broker.stop()
    assert not thread.is_alive()
