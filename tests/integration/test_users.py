"""Users and the weight of their jobs: by the API and the shell, live in the queue, and again after a wipe."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from engine.errors import NotFound
from engine.host import discovery
from engine.queue import Reconciler
from engine.store import Transport
from scheduler.command import main
from tests.support import api as support
from tests.support.api import Api


@pytest.fixture
def api(
    database_url: str, redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Api]:
    monkeypatch.setenv("SYNCDESK_PROFILE", str(tmp_path))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("insert into syncdesk.users (name) select 'u' || n from generate_series(1, 5) n")
    with support.running(tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url) as made:
        discovery.write(made.profile, made.endpoints, made.tokens.admin, "0.0.0")
        yield made


def weights(api: Api) -> tuple[dict[str, str], Any]:
    client, keys = api.parts.client, api.parts.keys
    found: Any = client.hgetall(keys.weights)
    return dict(found), client.hget(keys.limits, "weighted")


def test_a_weight_works_at_once_and_after_a_wipe(api: Api, store: Transport) -> None:
    page = api.call("GET", "users", params={"limit": 2}).json()
    assert [(user["name"], user["weight"], user["banks"]) for user in page["users"]] == [("u1", 1, 0), ("u2", 1, 0)]
    rest = api.call("GET", "users", params={"limit": 3, "after": page["next"]}).json()
    assert ([user["name"] for user in rest["users"]], rest["next"]) == (["u3", "u4", "u5"], None)
    user = page["users"][0]["id"]
    done = api.call("PATCH", f"users/{user}", json={"weight": 3})
    assert (done.status_code, done.json()["message"]) == (200, "u1: 3 jobs a turn.")
    assert weights(api) == ({user: "3"}, "1")
    api.parts.client.delete(api.parts.keys.weights, api.parts.keys.limits)
    Reconciler(store, api.parts.client, api.parts.keys).run_once()
    assert weights(api) == ({user: "3"}, "1")
    api.call("PATCH", f"users/{user}", json={"weight": 1})
    assert weights(api) == ({}, "")


@pytest.mark.parametrize("weight", [0, 101, -1])
def test_a_weight_out_of_range_is_refused(api: Api, weight: int) -> None:
    user = api.call("GET", "users").json()["users"][0]["id"]
    answer = api.call("PATCH", f"users/{user}", json={"weight": weight})
    assert (answer.status_code, answer.json()["message"]) == (400, "A weight is 1 to 100.")


def test_a_user_that_is_none_is_not_found(api: Api) -> None:
    for name in (str(uuid.uuid4()), "nobody"):
        assert api.call("PATCH", f"users/{name}", json={"weight": 2}).status_code == 404


def test_from_a_shell(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["users", "weight", "u3", "4"]) == 0
    assert "u3: 4 jobs a turn." in capsys.readouterr().out
    assert main(["users", "list", "--json"]) == 0
    assert {user["name"]: user["weight"] for user in json.loads(capsys.readouterr().out)["users"]}["u3"] == 4
    assert main(["users", "list"]) == 0
    assert "Weight" in capsys.readouterr().out
    assert main(["users", "weight", "nobody", "2"]) == 1
    assert "There is no user" in capsys.readouterr().err


def test_by_every_way_to_the_database(any_store: Transport, any_database_url: str) -> None:
    with psycopg.connect(any_database_url, autocommit=True) as connection:
        row = connection.execute("insert into syncdesk.users (name) values ('Ana') returning id").fetchone()
    assert row is not None
    assert any_store.call("user_weigh", user=str(row[0]), weight=5) == {"name": "Ana", "weights": {str(row[0]): 5}}
    with pytest.raises(NotFound):
        any_store.call("user_weigh", user=str(uuid.uuid4()), weight=5)
    (user,) = any_store.call("users_list")["users"]
    assert (user["name"], user["weight"]) == ("Ana", 5)
