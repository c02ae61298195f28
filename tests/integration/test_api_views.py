"""The views of the first page and of one job's way: over every transport, and filled by a real sync."""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from engine.api import types_banks, types_jobs, types_overview
from engine.api.client import Client
from engine.jobs.worker import WorkerProcess
from engine.store import Transport
from tests.support import api as support
from tests.support.api import Api
from tests.support.bank import RunningBank
from tests.support.wait import until


def test_the_views_answer_over_every_transport(any_store: Transport) -> None:
    overview = any_store.call("overview", stale_s=1860)
    assert overview["items"] == 0
    assert overview["needs"] == []
    assert overview["update_ms"] is None
    assert any_store.call("activity", limit=12) == []
    assert any_store.call("job_thread", correlation="none") == []
    assert any_store.call("metrics")["wanted"] == 0
    item = str(uuid.uuid4())
    any_store.call(
        "item_link", id=item, user="me", plaid_item_id="p1", institution_id="ins_1", institution_name="Bank",
        label="", environment="simulated", access_token="s", access_key_id="k", webhook_url=None, accounts=[],
        correlation="c1",
    )  # fmt: skip
    any_store.call(
        "item_state", item=item, state="expiring", code="PENDING_DISCONNECT", expires="2027-01-01T00:00:00Z",
        want=False, trigger="webhook", correlation="c2",
    )  # fmt: skip
    overview = any_store.call("overview", stale_s=1860)
    assert (overview["items"], overview["fresh"], overview["needs_total"]) == (1, 0, 1)
    assert overview["needs"][0]["expires_at"] == "2027-01-01T00:00:00.000Z"
    assert any_store.call("metrics")["items"] == {"expiring": 1}
    any_store.call("audit_add", who="me", action="item.sync", target=f"item:{item}", result="Queued.")
    assert any_store.call("activity", limit=12)[0]["detail"] == {"action": "item.sync", "result": "Queued."}


@pytest.fixture
def api(
    database_url: str,
    redis_url: str,
    namespace: str,
    tmp_path: Path,
    bank: RunningBank,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Api]:
    monkeypatch.setenv("SYNCDESK_MASTER_KEY", "A" * 43)
    with support.running(
        tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url, plaid_url=bank.url
    ) as made:
        yield made


@contextlib.contextmanager
def working(api: Api, pool: str = "all") -> Iterator[None]:
    """A worker in this process while the block runs."""
    process = WorkerProcess(pool, api.parts.settings, api.profile, api.parts.store)
    process.declare()
    thread = threading.Thread(target=process.run)
    thread.start()
    try:
        yield
    finally:
        process.stop()
        thread.join(20)
        assert not thread.is_alive()


def test_one_thread_from_webhook_to_rows(api: Api, bank: RunningBank) -> None:
    with working(api), Client(api.endpoints.admin or "", api.tokens.admin) as client:
        # Ready at once: without an address for its webhooks, a bank that prepares its data is not asked again soon.
        item = client.act("items/link", types_banks.LinkRequest(bank.public_token(ready=True))).ids[0]

        def detail() -> types_banks.ItemDetail:
            return client.get(f"items/{item}", types_banks.ItemDetail)

        until(lambda: detail().item.last_success_at is not None and detail().item.state != "syncing")
        until(lambda: all(run.state != "running" for run in detail().runs))
        news = {
            "webhook_type": "TRANSACTIONS",
            "webhook_code": "SYNC_UPDATES_AVAILABLE",
            "item_id": detail().item.plaid_item_id,
        }
        assert api.webhook(json.dumps(news).encode()).status_code == 200
        job = until(
            lambda: next(
                (
                    job
                    for job in client.get("jobs", types_jobs.JobPage, state="done", queue="transactions").jobs
                    if job.trigger == "webhook"
                ),
                None,
            ),
            what="the job of the webhook",
        )
        found = client.get(f"jobs/{job.id}", types_jobs.JobDetail)
    kinds = [event.kind for event in found.thread]
    for first, second in [("webhook", "started"), ("started", "run_done"), ("run_started", "run_done")]:
        assert {first, second} <= set(kinds), found
        assert kinds.index(first) < kinds.index(second), kinds
    assert found.thread[0].text == "Webhook TRANSACTIONS SYNC_UPDATES_AVAILABLE, signed by a relay"
    assert all(event.ms is not None and event.ms >= 0 for event in found.thread[1:])
    assert [attempt.outcome for attempt in found.timeline] == ["done"]
    assert found.allowed == []
    overview = msgspec.json.decode(api.call("GET", "overview").content, type=types_overview.Overview)
    assert overview.bank_data.state == "up_to_date"
    assert overview.figures.update_to_database_ms is not None


def test_health_is_alive_while_consumers_report(api: Api) -> None:
    with working(api):
        until(lambda: api.health.get("/health").status_code == 200, what="health")
        assert api.health.get("/health").json()["state"] == "alive"
        text = api.health.get("/metrics").text
        assert 'syncdesk_queue_consumers{queue="transactions"} 1.0' in text
        pools = api.call("GET", "workers").json()["pools"]
        assert [pool["state"] for pool in pools] == ["running", "running"]
        answer = api.call("POST", "workers/sync/quiet")
        assert answer.status_code == 409
        assert "serve all queues" in answer.json()["message"]
    until(lambda: api.health.get("/health").status_code == 503, what="its end")


def test_a_hosted_sign_in_is_seen_through(api: Api, bank: RunningBank) -> None:
    with Client(api.endpoints.admin or "", api.tokens.admin) as client:
        begun = client.act("items/link", types_banks.LinkRequest(user="ann"), shape=types_banks.LinkStart)
        assert begun.url.startswith("http")
        state = client.get(f"items/link/{begun.session}", types_banks.LinkState)
        assert (state.state, state.ids) == ("waiting", [])


def test_a_pool_is_quiet_until_it_is_resumed(api: Api) -> None:
    with working(api, "sync"):

        def state() -> str:
            return str(api.call("GET", "workers").json()["pools"][0]["state"])

        until(lambda: state() == "running", what="the pool")
        api.call("POST", "workers/sync/quiet").raise_for_status()
        until(lambda: state() == "quiet", what="the quiet pool")
        assert api.call("GET", "workers").json()["pools"][1]["state"] == "stopped"
        assert api.call("GET", "workers").json()["orphans"] == ["Transaction sync", "Webhooks", "Notifications"]
        api.call("POST", "workers/sync/resume").raise_for_status()
        until(lambda: state() == "running", what="the pool at work")
