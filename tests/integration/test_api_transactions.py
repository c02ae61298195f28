"""Transactions over the admin API: listed, annotated, as of a moment, a guessed link undone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support import api as support
from tests.support.api import Api
from tests.support.scripted_plaid import ScriptedPlaid, page, transaction
from tests.support.syncing import World, deps


@pytest.fixture
def api(database_url: str, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Api]:
    with support.running(tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url) as made:
        yield made


@pytest.fixture
def rows(api: Api, scripted_bank: ScriptedPlaid, database_url: str) -> dict[str, str]:
    """Ids by Plaid's ids: a pending row that became another without saying so, and a plain one."""
    world = World(deps(api.parts.store, scripted_bank.url), database_url).link()
    scripted_bank.answer(
        "/transactions/sync",
        page([transaction("p1", 9, pending=True), transaction("t2", 5)], cursor="c1"),
        page([transaction("t1", 9, name="Shop p1")], removed=["p1"], cursor="c2"),
    )
    world.run("link")
    world.sync()
    world.deps.plaid.close()
    with psycopg.connect(database_url) as connection:
        found = connection.execute("select transaction_id, id from syncdesk.transactions").fetchall()
    return {identity: str(number) for identity, number in found}


def get(api: Api, path: str, **query: Any) -> Any:
    answer = api.call("GET", path, "view", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def post(api: Api, path: str, **body: Any) -> None:
    answer = api.call("POST", path, "operate", **({"json": body} if body else {}))
    assert answer.status_code == 200, answer.text


def test_list_annotate_history_and_undo(api: Api, rows: dict[str, str]) -> None:
    listed = get(api, "transactions", limit=1)
    assert len(listed["transactions"]) == 1
    rest = get(api, "transactions", after=listed["next"])
    assert {each["transaction_id"] for each in (*listed["transactions"], *rest["transactions"])} == {"t1", "t2"}
    assert rest["next"] is None
    target = f"transactions/{rows['t1']}"
    post(api, target, note=" lunch ", category="FUN")
    post(api, target, note="")
    told = get(api, target)
    assert (told["transaction"]["note"], told["transaction"]["person_category"]) == (None, "FUN")
    assert [line["change"] for line in told["history"]] == ["added", "posted", "noted", "categorised", "noted"]
    assert told["history"][2]["new"] == {"note": "lunch"}
    assert told["state"]["person_category"] == "FUN"
    assert get(api, target, as_of="2020-01-01T00:00:00Z")["state"] is None
    assert get(api, "transactions", flag="posted_by_guess")["transactions"][0]["id"] == rows["t1"]
    post(api, f"{target}/unlink")
    assert get(api, "transactions", flag="posted_by_guess")["transactions"] == []
    audited = json.dumps(api.rows("select action, target, reason, result, detail from syncdesk.audit"))
    assert "transaction.unlink" in audited
    assert "lunch" not in audited


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "transactions/0", None, 404),
        ("GET", "transactions/abc", None, 404),
        ("GET", "transactions?after=x", None, 400),
        ("GET", "transactions?flag=odd", None, 400),
        ("POST", "transactions/0", {"note": "a"}, 404),
        ("POST", "transactions/1", {"note": "x" * 2001}, 400),
        ("POST", "transactions/0/unlink", None, 409),
    ],
)
def test_what_cannot_be_is_refused_in_words(api: Api, method: str, path: str, body: Any, status: int) -> None:
    answer = api.call(method, path, **({"json": body} if body else {}))
    assert answer.status_code == status, answer.text
