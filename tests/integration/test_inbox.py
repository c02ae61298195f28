"""The inbox as the operator sees it: what came, replaying it, and news that no webhook announced."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.sync import inbox
from tests.support import api as support
from tests.support.api import Api, working
from tests.support.scripted_plaid import ScriptedPlaid, page
from tests.support.syncing import World, deps
from tests.support.wait import until

REPAIRED = {"webhook_type": "ITEM", "webhook_code": "LOGIN_REPAIRED", "item_id": "plaid-1"}
NEWS = {"webhook_type": "TRANSACTIONS", "webhook_code": "SYNC_UPDATES_AVAILABLE", "item_id": "plaid-1"}


@pytest.fixture
def api(
    database_url: str, redis_url: str, namespace: str, tmp_path: Path, scripted_bank: ScriptedPlaid
) -> Iterator[Api]:
    with support.running(
        tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url, plaid_url=scripted_bank.url
    ) as made:
        yield made


@pytest.fixture
def world(api: Api, database_url: str, scripted_bank: ScriptedPlaid) -> Iterator[World]:
    made = World(deps(api.parts.store, scripted_bank.url), database_url).link(plaid_item_id="plaid-1")
    yield made
    made.deps.plaid.close()


def send(api: Api, body: dict[str, Any], **more: Any) -> None:
    assert api.webhook(json.dumps({**body, **more}).encode()).status_code == 200


def listed(api: Api, **params: Any) -> list[dict[str, Any]]:
    answer = api.call("GET", "webhooks", params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["webhooks"]
    return found


def replay(api: Api, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = api.call("POST", "webhooks/replay", json=body)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_list_tells_what_came_and_is_paged(api: Api, world: World) -> None:
    send(api, NEWS)
    send(api, {"webhook_type": "NOVEL", "webhook_code": "THING", "item_id": "plaid-1"})
    body = json.dumps({**NEWS, "n": 1}).encode()
    signature = support.relay_signature(body)
    assert [api.webhook(body, **{"X-Syncdesk-Signature": signature}).status_code for _ in range(2)] == [200, 401]
    assert api.webhook(body, **{"X-Syncdesk-Signature": "no"}).status_code == 401
    everything = listed(api)
    assert [row["state"] for row in everything[-2:]] == ["received", "processed"]
    assert {row["state"] for row in everything} == {"received", "processed", "duplicate", "refused"}
    duplicate = next(row for row in everything if row["state"] == "duplicate")
    assert duplicate["repeats"] == next(row["id"] for row in everything if row["code"] == NEWS["webhook_code"] and
                                        row["state"] == "processed" and int(row["id"]) < int(duplicate["id"])
                                        and row["id"] != everything[-1]["id"])  # fmt: skip
    assert all(row["reason"] for row in everything if row["state"] == "refused")
    assert [row["institution"] for row in listed(api, state="processed")] == ["First Lakeside Bank"] * 2
    assert [row["code"] for row in listed(api, q="thing")] == ["THING"]
    assert len(listed(api, q="plaid-1", item=world.item)) == 4
    assert listed(api, until="2020-01-01T00:00:00Z") == []
    assert len(listed(api, since="2020-01-01T00:00:00Z")) == len(everything)
    paged, after = [], None
    while True:
        answer = api.call("GET", "webhooks", params={"limit": 2, **({"after": after} if after else {})}).json()
        paged += answer["webhooks"]
        after = answer["next"]
        if after is None:
            break
    assert paged == everything
    shown = api.call("GET", f"webhooks/{duplicate['repeats']}").json()
    assert json.loads(shown["body"])["n"] == 1
    assert [row["id"] for row in shown["repeated_by"]] == [duplicate["id"]]
    for odd in ("x", "-1", "9" * 30, "0"):
        assert api.call("GET", f"webhooks/{odd}").status_code == 404
    assert api.call("GET", "webhooks", params={"since": "yesterday"}).status_code == 400


def test_a_replay_says_that_it_is_one_and_touches_no_counter(api: Api, world: World) -> None:
    send(api, REPAIRED)
    (first,) = listed(api)
    inbox.process(world.deps, int(first["id"]))
    # So long ago that what is said of it stays the same during this test, unless the replay counts.
    world.execute("update syncdesk.inbox set received_at = received_at - interval '3 days'")
    before = api.call("GET", "overview").json()
    world.execute("update syncdesk.items set state = 'needs_you', state_code = 'ITEM_LOGIN_REQUIRED'")
    seen = world.row()["webhook_seen_at"]
    done = api.call("POST", f"webhooks/{first['id']}/replay").json()
    again, _ = listed(api)
    assert (again["id"], again["verified_by"], again["repeats"]) == (done["ids"][0], "replay", first["id"])
    assert again["correlation_id"] == done["correlation_id"] != first["correlation_id"]
    jobs = until(lambda: api.call("GET", "jobs?state=waiting&queue=webhooks").json()["jobs"])
    assert len(jobs) == 2
    assert inbox.process(world.deps, int(again["id"])).state == "processed"
    assert world.row()["state"] == "healthy", "the stored body had its effect once more"
    assert world.row()["webhook_seen_at"] == seen
    after = api.call("GET", "overview").json()
    for service in ("webhooks", "plaid"):
        found = [[row for row in side["services"] if row["name"] == service] for side in (before, after)]
        assert found[0] == found[1]
    assert world.rows("select action from syncdesk.audit where action like 'webhook%%'") == [
        {"action": "webhook.replay"}
    ]


def test_all_that_failed_in_a_span_is_replayed_once(api: Api, world: World) -> None:
    for number in range(4):
        send(api, REPAIRED, n=number)
    send(api, NEWS)
    world.execute("update syncdesk.inbox set state = 'failed', reason = 'X' where webhook_type = 'ITEM'")
    world.execute("update syncdesk.inbox set received_at = now() - interval '2 days' where body like '%%\"n\": 0%%'")
    since = world.rows("select to_char(now() - interval '1 day', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as at")[0]["at"]
    done = replay(api, since=since)
    assert done["message"] == "3 webhooks replayed."
    assert replay(api, since=since)["message"] == "0 webhooks replayed."
    assert replay(api, states=["failed"])["message"] == "1 webhook replayed."
    assert [row["state"] for row in listed(api, q="LOGIN_REPAIRED")].count("received") == 4


def test_what_nobody_vouched_for_is_never_replayed(api: Api, world: World) -> None:
    body = json.dumps(NEWS).encode()
    assert api.webhook(body, **{"X-Syncdesk-Signature": "no"}).status_code == 401
    (refused,) = listed(api, state="refused")
    assert "nobody vouched" in replay(api, 400, ids=[refused["id"]])["message"]
    assert "nobody vouched" in api.call("POST", f"webhooks/{refused['id']}/replay").json()["message"]
    assert replay(api, since="2020-01-01T00:00:00Z")["message"] == "0 webhooks replayed."
    assert "no such webhook" in replay(api, 400, ids=["4711"])["message"]
    assert replay(api, 400)["message"]
    assert replay(api, 400, ids=["1"], states=["failed"])["message"]
    assert replay(api, 400, ids=[])["message"]
    assert len(listed(api)) == 1
    for kind in ("view",):
        assert api.call("POST", "webhooks/replay", kind, json={"states": ["failed"]}).status_code == 403  # type: ignore[arg-type]


def test_a_replay_runs_through_the_queue_to_its_end(api: Api, world: World, scripted_bank: ScriptedPlaid) -> None:
    scripted_bank.handlers["/transactions/sync"] = lambda _: page([], cursor="c1")
    send(api, REPAIRED)
    with working(api):
        until(lambda: [row["state"] for row in listed(api)] == ["processed"], 30)
        replay(api, ids=[listed(api)[0]["id"]])
        until(lambda: [row["state"] for row in listed(api)] == ["processed", "processed"], 30)


def test_news_that_no_webhook_announced(api: Api, world: World) -> None:
    def found(trigger: str, minutes_ago: int) -> None:
        world.execute(
            "insert into syncdesk.sync_runs (id, item_id, user_id, trigger, correlation_id, fence, state, from_cursor, "
            "added, started_at, finished_at) values (%s, %s, %s, %s, 'c', 1, 'done', 'c0', 1, "
            "now() - %s * interval '1 minute', now() - %s * interval '1 minute')",
            str(uuid.uuid4()), world.item, world.user, trigger, minutes_ago, minutes_ago,
        )  # fmt: skip

    def missing() -> list[str]:
        causes = api.call("GET", "overview").json()["causes"]
        return [cause["sentence"] for cause in causes if cause["code"] == "WEBHOOKS_MISSING"]

    for minutes in (500, 400, 300):
        found("schedule", minutes)
    assert missing() == [], "webhooks of this bank were never seen: nothing is missed"
    send(api, NEWS)
    world.execute("update syncdesk.inbox set received_at = now() - interval '10 hours'")
    (sentence,) = missing()
    assert "3 syncs of 1 bank found news" in sentence
    send(api, NEWS, n=1)
    world.execute(
        "update syncdesk.inbox set received_at = now() - interval '395 minutes' where body like '%%\"n\": 1%%'"
    )
    assert missing() == [], "one of them was announced, if late"
    found("webhook", 200)
    found("schedule", 2)
    assert missing() == [], "a webhook may still come"
