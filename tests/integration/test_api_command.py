"""``syncdeskctl`` against a running engine, found by its discovery file as a person's shell finds it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.api import types, types_banks, types_jobs
from engine.api.client import Client
from engine.errors import Conflict, Forbidden, NotFound, NotRunningError, UsageError
from engine.host import discovery
from scheduler.command import main
from tests.support import api as support
from tests.support.api import Api, working
from tests.support.scripted_plaid import ScriptedPlaid, page, transaction


@pytest.fixture
def plaid() -> Iterator[ScriptedPlaid]:
    made = ScriptedPlaid()
    yield made
    made.close()


@pytest.fixture
def api(
    database_url: str,
    redis_url: str,
    namespace: str,
    tmp_path: Path,
    plaid: ScriptedPlaid,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Api]:
    monkeypatch.setenv("SYNCDESK_PROFILE", str(tmp_path))
    monkeypatch.setenv("SYNCDESK_MASTER_KEY", "A" * 43)
    with support.running(
        tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url, plaid_url=plaid.url
    ) as made:
        discovery.write(made.profile, made.endpoints, made.tokens.admin, "0.0.0")
        yield made


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    """One command with ``--json``: its exit code and its document."""
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def scripted_bank(plaid: ScriptedPlaid) -> None:
    item = {"item_id": "plaid-item-1", "institution_id": "ins_1", "institution_name": "First Lakeside Bank"}
    plaid.answer("/item/public_token/exchange", {"access_token": "access-1", "item_id": "plaid-item-1"})
    plaid.answer("/accounts/get", {"accounts": [], "item": item})
    plaid.answer("/item/get", {"item": item})


def test_the_client_checks_who_answers(api: Api) -> None:
    admin = api.endpoints.admin or ""
    with Client(admin, "another token") as client, pytest.raises(NotRunningError, match="does not know this token"):
        client.get("status", types.Status)
    with Client("http://127.0.0.1:9", "token") as client, pytest.raises(NotRunningError, match="does not answer"):
        client.hello()
    with Client(admin, api.tokens.of("view"), kind="view") as client:
        assert client.get("status", types.Status).token_kind == "view"
        with pytest.raises(Forbidden):
            client.act("engine/stop")
        with pytest.raises(NotFound):
            client.get("jobs/none", types_jobs.JobDetail)
        with pytest.raises(UsageError):
            client.get("jobs", types_jobs.JobPage, limit=0)
    with Client(admin, api.tokens.admin) as client, pytest.raises(Conflict):
        client.act("engine/stop")


def test_link_list_sync_remove(api: Api, plaid: ScriptedPlaid, capsys: pytest.CaptureFixture[str]) -> None:
    scripted_bank(plaid)
    code, linked = run(capsys, "items", "link", "--public-token", "public-1", "--user", "ann")
    assert code == 0, linked
    item = linked["ids"][0]
    code, listed = run(capsys, "items", "list")
    assert [(row["id"], row["institution"], row["user"]) for row in listed["items"]] == [
        (item, "First Lakeside Bank", "ann")
    ]
    code, synced = run(capsys, "sync", "--item", item)
    assert code == 0
    code, jobs = run(capsys, "jobs", "list", "--state", "waiting")
    assert [job["id"] for job in jobs["jobs"]] == synced["ids"]
    plaid.answer("/item/remove", {"request_id": "r"})
    code, removed = run(capsys, "items", "remove", item)
    assert (code, removed["ok"]) == (0, True)
    assert run(capsys, "items", "list")[1]["items"] == []


def test_link_many_from_standard_input(
    api: Api, plaid: ScriptedPlaid, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_bank(plaid)
    monkeypatch.setattr("sys.stdin", io.StringIO("public-1,ann\n\npublic-2 , bob\n"))
    code, found = run(capsys, "items", "link", "--public-token", "-")
    assert [row["line"] for row in found["items"]] == [1, 3]
    assert found["items"][0]["ok"]
    assert code in {0, 1}
    assert "public-1" not in json.dumps(found)


def test_refusals_have_their_exit_codes(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    missing = "00000000-0000-4000-8000-000000000001"
    code, found = run(capsys, "sync", "--item", missing)
    assert (code, found["code"]) == (1, "NOT_FOUND")
    assert main(["sync"]) == 2
    code, found = run(capsys, "jobs", "retry", missing)
    assert (code, found["results"][0]["ok"]) == (1, False)
    assert main(["jobs", "retry"]) == 2
    discovery.clear(api.profile, os.getpid())
    assert main(["queue", "status"]) == 1


def test_who_did_what_is_listed(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "audit") == (0, {"entries": [], "next": None})
    assert run(capsys, "queue", "pause", "webhooks")[0] == 0
    assert run(capsys, "queue", "limit", "webhooks", "--concurrency", "999999")[0] == 2
    code, found = run(capsys, "audit")
    assert code == 0
    entries = [(entry["who"], entry["action"], entry["target"]) for entry in found["entries"]]
    assert entries[-1] == ("admin token", "queue.pause", "queue:webhooks")
    assert main(["audit"]) == 0
    assert "queue:webhooks" in capsys.readouterr().out
    assert main(["audit", "--limit", "0"]) == 2


def test_queue_status_pause_resume_and_test(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capsys, "queue", "pause", "webhooks")[0] == 0
    code, found = run(capsys, "queue", "status")
    assert {queue["name"]: queue["paused"] for queue in found["queues"]} == {
        "transactions": False, "webhooks": True, "notifications": False,
    }  # fmt: skip
    assert run(capsys, "queue", "resume", "webhooks")[0] == 0
    code, done = run(capsys, "queue", "limit", "webhooks", "--concurrency", "3", "--per-minute", "10")
    assert (code, done["message"]) == (0, "Webhooks: 3 at a time, 10 a minute.")
    assert main(["queue", "limit", "webhooks"]) == 2
    assert "--per-minute" in capsys.readouterr().err
    assert main(["queue", "status"]) == 0
    assert "A minute" in capsys.readouterr().out
    monkeypatch.setattr("engine.cli.queue.TEST_S", 0.2)
    code, found = run(capsys, "queue", "test")
    assert (code, found["ok"], found["state"]) == (1, False, "unfinished")
    monkeypatch.setattr("engine.cli.queue.TEST_S", 60.0)
    with working(api):
        code, found = run(capsys, "queue", "test")
    assert (code, found["ok"]) == (0, True), found
    assert "Notification delivered" in [event["text"] for event in found["thread"]]


def test_a_direct_sync_ends_before_the_answer(
    database_url: str, redis_url: str, namespace: str, tmp_path: Path, plaid: ScriptedPlaid,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("SYNCDESK_MASTER_KEY", "A" * 43)
    scripted_bank(plaid)
    plaid.answer("/transactions/sync", page([transaction("t1"), transaction("t2")], cursor="c1"))
    with support.running(
        tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url, plaid_url=plaid.url,
        manual_sync="direct",
    ) as api, Client(api.endpoints.admin or "", api.tokens.admin) as client:  # fmt: skip
        item = client.act("items/link", types_banks.LinkRequest("public-1")).ids[0]
        done = client.act(f"items/{item}/sync")
        assert done.message == "Synced: 2 new of 2 changes."
        assert client.get(f"items/{item}", types_banks.ItemDetail).item.transactions == 2


def test_rows_that_were_set_aside_are_listed_and_tried_again(
    api: Api, plaid: ScriptedPlaid, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted_bank(plaid)
    item = run(capsys, "items", "link", "--public-token", "public-1")[1]["ids"][0]
    assert run(capsys, "items", "set-aside", item) == (0, {"rows": []})
    good = {"transaction_id": "t1", "account_id": "a1", "amount": "5", "date": "2026-11-20", "name": "Shop"}
    api.rows(
        "with run as (insert into syncdesk.sync_runs (id, item_id, user_id, trigger, correlation_id, fence, state)"
        " select gen_random_uuid(), id, user_id, 'link', 'c', 1, 'done' from syncdesk.items where id = %s returning *)"
        " insert into syncdesk.skipped_rows (item_id, user_id, run_id, transaction_id, reason, body)"
        " select item_id, user_id, id, b ->> 'transaction_id', r, b from run,"
        " (values ('sqlstate 23514 house_rule', %s::jsonb), ('sqlstate 22003', %s::jsonb)) v (r, b) returning id",
        item,
        json.dumps(good),
        json.dumps(good | {"transaction_id": "t2", "amount": "much"}),
    )
    rows = run(capsys, "items", "set-aside", item)[1]["rows"]
    assert [(row["transaction_id"], row["sentence"]) for row in rows] == [
        ("t2", "A number is too large."),
        ("t1", "It breaks a rule of the database (house_rule)."),
    ]
    with Client(api.endpoints.admin or "", api.tokens.admin) as client:
        shown = client.get(f"items/{item}", types_banks.ItemDetail).set_aside
        assert shown is not None
        assert (shown.total, [row.id for row in shown.rows]) == (2, [row["id"] for row in rows])
        page = client.get(f"items/{item}/set-aside", types_banks.SetAsidePage, limit=1)
        assert [row.transaction_id for row in page.rows] == ["t2"]
        page = client.get(f"items/{item}/set-aside", types_banks.SetAsidePage, limit=1, after=page.next)
        assert ([row.transaction_id for row in page.rows], page.next) == (["t1"], None)
    code, done = run(capsys, "items", "set-aside", item, "--retry", rows[1]["id"])
    assert (code, done["message"]) == (0, "1 row is in now.")
    code, done = run(capsys, "items", "set-aside", item, "--retry")
    assert (code, done["message"]) == (0, "0 rows are in now; 1 row refused again.")
    (left,) = run(capsys, "items", "set-aside", item)[1]["rows"]
    assert (left["tries"], left["sentence"]) == (1, "A value is not of its kind.")
    assert [row["transaction_id"] for row in api.rows("select * from syncdesk.transactions")] == ["t1"]
