"""Bulk actions over HTTP and from a shell, driven by the thread that the API's process has for them."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.api import types_bulk
from engine.host import discovery
from scheduler.command import main
from tests.support import api as support
from tests.support.api import Api
from tests.support.failing import USER, World
from tests.support.wait import until


@pytest.fixture
def api(
    database_url: str, redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Api]:
    monkeypatch.setenv("SYNCDESK_PROFILE", str(tmp_path))
    with support.running(tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url) as made:
        discovery.write(made.profile, made.endpoints, made.tokens.admin, "0.0.0")
        yield made


@pytest.fixture
def world(api: Api, database_url: str) -> World:
    return World(api.parts.store, database_url)


@contextlib.contextmanager
def driving(api: Api) -> Iterator[None]:
    """The process' own thread for bulk actions while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=api.parts.bulk.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def driven(api: Api) -> Iterator[None]:
    """It runs from the beginning."""
    with driving(api):
        yield


def ask(api: Api, method: str, path: str, kind: Any = "operate", **body: Any) -> Any:
    answer = api.call(method, path, kind, **({"json": body} if method == "POST" else {}))
    assert answer.status_code == 200, answer.text
    return answer.json()


def detail(api: Api, bulk_id: str) -> types_bulk.BulkDetail:
    return msgspec.convert(ask(api, "GET", f"bulks/{bulk_id}", "view"), types_bulk.BulkDetail)


def waiting(api: Api) -> dict[str, str]:
    return {job["item_id"]: job["lane"] for job in api.parts.view.jobs("waiting", "transactions", None, 500)["jobs"]}


def test_a_group_is_retried_over_http(api: Api, world: World, driven: None) -> None:
    items = world.failed(12)
    seen = ask(api, "POST", "bulks/preview", "view", verb="retry", filter={"group": "cause"})
    assert (seen["total"], seen["left_out"]) == (12, [])
    start = {"verb": "retry", "filter": {"group": "cause"}, "hold_s": 0}
    assert api.call("POST", "bulks", "view", json=start | {"expected": 12}).status_code == 403
    refused = api.call("POST", "bulks", "operate", json=start | {"expected": 11})
    assert refused.status_code == 409
    assert refused.json()["message"] == "12 jobs match now, more than the 11 that you saw; nothing was done."
    made = ask(api, "POST", "bulks", **start, expected=12)
    assert made["message"] == "12 jobs run again now."
    (bulk_id,) = made["ids"]
    until(lambda: waiting(api) == {items[0]: "medium"})  # one first: twelve are enough for a canary
    world.went_through(items[0])
    until(lambda: waiting(api) == dict.fromkeys(items, "medium"))
    world.went_through(*items)
    until(lambda: detail(api, bulk_id).bulk.state == "done")
    found = detail(api, bulk_id).bulk
    assert (found.who, found.filter, found.done) == ("operate token", types_bulk.JobFilter(group="cause"), 12)
    assert found.finished_at is not None
    (job_id,) = world.run("select retried_as from syncdesk.failed_jobs where item_id = %s::uuid", items[3])[0]
    assert api.parts.view.job(job_id) is not None
    said = world.run("select action, who from syncdesk.audit order by id")
    assert said == [("bulk.retry", "operate token")] * 2 + [("bulk.done", "operate token")]


def test_stop_resume_undo_and_the_list(api: Api, world: World) -> None:
    world.failed(3)
    ids = [ask(api, "POST", "bulks", verb="discard", expected=3)["ids"][0] for _ in range(3)]
    assert ask(api, "POST", f"bulks/{ids[0]}/undo")["message"] == "Undone: 3 jobs left as they were."
    assert ask(api, "POST", f"bulks/{ids[1]}/stop")["message"] == "Stopped: 3 jobs left as they were."
    assert ask(api, "POST", f"bulks/{ids[1]}/resume")["message"] == "It goes on with 3 jobs."
    assert api.call("POST", f"bulks/{ids[1]}/resume").status_code == 409
    assert api.call("POST", "bulks/none/stop").status_code == 404
    first = ask(api, "GET", "bulks?limit=2", "view")
    rest = ask(api, "GET", f"bulks?limit=2&after={first['next'].replace('+', '%2B')}", "view")
    assert [bulk["id"] for bulk in first["bulks"] + rest["bulks"]] == ids[::-1]
    assert [bulk["state"] for bulk in rest["bulks"]] == ["undone"]
    assert rest["next"] is None
    api.parts.bulk.step()
    entries = ask(api, "GET", f"bulks/{ids[1]}/entries?state=done", "view")["entries"]
    assert [entry["n"] for entry in entries] == [1, 2, 3]
    for wrong in (
        {"verb": "retry", "expected": 3, "hold_s": -1}, {"verb": "retry", "expected": 3, "per_second": 5000},
        {"verb": "move", "expected": 3}, {"verb": "retry", "expected": 3, "lane": "low"},
        {"verb": "retry", "expected": 3, "filter": {"since": "yesterday"}}, {"verb": "eat", "expected": 3},
        {"verb": "move", "expected": 3, "lane": "low", "filter": {"group": "g"}},
    ):  # fmt: skip
        assert api.call("POST", "bulks", json=wrong).status_code == 400, wrong


def test_jobs_that_wait_move_to_another_lane(api: Api, world: World) -> None:
    items, others = world.items(4, "Lake Bank"), world.items(2, "Hill Bank")
    for found, bank in [*((item, "Lake Bank") for item in items), *((item, "Hill Bank") for item in others)]:
        world.run("update syncdesk.items set wanted = 1 where id = %s::uuid", found)
        api.parts.hints.sync(found, USER, bank, "high", "webhook", "c")
    asked = {"verb": "move", "filter": {"institution": "Lake Bank"}}
    assert ask(api, "POST", "bulks/preview", "view", **asked)["total"] == 4
    ended, left = api.parts.view.jobs("waiting", "transactions", None, 9)["jobs"][0], items[1:]
    made = ask(api, "POST", "bulks", **asked, expected=4, lane="low", hold_s=0)
    assert api.parts.control.cancel(ended["id"])
    with driving(api):
        until(lambda: detail(api, made["ids"][0]).bulk.state == "done")
    found = detail(api, made["ids"][0])
    assert (found.bulk.done, found.bulk.skipped) == (3, 1)
    assert [(reason.reason, reason.count) for reason in found.reasons] == [("It is no longer queued", 1)]
    assert waiting(api) == dict.fromkeys(left, "low") | dict.fromkeys(others, "high")
    lanes = world.run("select distinct wanted_lane from syncdesk.items where id = any (%s::uuid[])", left)
    assert lanes == [("low",)]
    order = [job["item_id"] for job in api.parts.view.jobs("waiting", "transactions", None, 9)["jobs"]]
    assert set(order[:2]) == set(others)


def test_samples_of_a_cause_outlive_its_jobs(api: Api, world: World) -> None:
    items = world.failed(7, keep=1)
    found = ask(api, "GET", "failures/cause/samples", "view")
    assert [sample["target"] for sample in found["samples"]] == items[:1:-1]
    assert found["samples"][0]["error"]["code"] == "BROKEN"
    assert found["rule_version"] == 2
    assert api.call("GET", "failures/none/samples").status_code == 404


def test_a_cause_is_muted_over_http(api: Api, world: World) -> None:
    world.failed(2)
    assert ask(api, "POST", "failures/cause/mute")["message"] == "Muted until it passes 4 failures."
    assert ask(api, "GET", "failures")["groups"][0]["muted"]
    assert ask(api, "GET", "overview", "view")["needs"] == []
    assert ask(api, "POST", "failures/cause/mute", muted=False)["message"] == "No longer muted."
    assert not ask(api, "GET", "failures")["groups"][0]["muted"]
    (need,) = ask(api, "GET", "overview", "view")["needs"]
    assert need["title"] == "2 failed jobs at First Bank"
    assert api.call("POST", "failures/none/mute").status_code == 404


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_same_from_a_shell(api: Api, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.failed(5)
    assert main(["jobs", "retry", "--filter", "code=BROKEN"]) == 2
    assert "5 jobs match. Say --yes" in capsys.readouterr().err
    assert main(["jobs", "retry", "--filter", "colour=red", "--yes"]) == 2
    assert main(["jobs", "retry", "--filter", "queue=nothing", "--yes"]) == 2
    assert main(["jobs", "discard", "--all", "--filter", "code=BROKEN", "--yes"]) == 2
    assert main(["jobs", "retry", "--all", "--expect", "4"]) == 1
    assert "more than the 4" in capsys.readouterr().err
    code, made = run(capsys, "jobs", "discard", "--filter", "code=BROKEN", "--filter", "queue=transactions", "--yes")
    assert (code, made["total"]) == (0, 5)
    assert run(capsys, "jobs", "bulk", "undo", made["bulk"])[1]["ok"]
    code, made = run(capsys, "jobs", "retry", "--group", "cause", "--expect", "5", "--now", "--per-second", "2")
    assert code == 0
    assert run(capsys, "jobs", "bulk", "stop", made["bulk"])[0] == 0
    assert run(capsys, "jobs", "bulk", "resume", made["bulk"])[0] == 0
    code, shown = run(capsys, "jobs", "bulk", "show", made["bulk"])
    assert (shown["bulk"]["total"], shown["bulk"]["per_second"]) == (5, 2)
    assert main(["jobs", "bulk", "show", made["bulk"]]) == 0
    assert "Retry of 5 jobs: running\n0 done, 0 skipped, 0 failed, 5 left" in capsys.readouterr().out
    code, listed = run(capsys, "jobs", "bulk", "list")
    assert [bulk["state"] for bulk in listed["bulks"]] == ["running", "undone"]
    assert main(["jobs", "bulk", "list"]) == 0
    assert "retry    running" in capsys.readouterr().out
    assert run(capsys, "jobs", "retry", "--filter", "code=NOTHING", "--yes") == (0, {"ok": True, "ids": [], "total": 0})
    assert run(capsys, "jobs", "move", "--all", "--lane", "low", "--yes")[1]["total"] == 0


def test_live_jobs_are_cancelled_and_run_first_from_a_shell(
    api: Api, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [
        api.parts.hints.sync(item, USER, "Lake Bank", "low", "webhook", "c") for item in world.items(3, "Lake Bank")
    ]
    assert run(capsys, "jobs", "run", jobs[2])[0] == 0
    first = api.parts.view.jobs("waiting", "transactions", None, 9)["jobs"][0]
    assert (first["id"], first["lane"]) == (jobs[2], "high")
    code, answer = run(capsys, "jobs", "cancel", jobs[0], "nothing", jobs[1])
    assert code == 1
    assert [found["ok"] for found in answer["results"]] == [True, False, True]
    assert set(waiting(api)) == {first["item_id"]}
