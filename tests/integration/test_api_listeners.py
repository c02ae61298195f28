"""The three listeners over real HTTP, with real Valkey and Postgres behind them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from engine.api import types
from engine.api.assemble import Parts
from engine.api.auth import Tokens, new_token, proof
from engine.api.context import Alone
from engine.api.server import Servers, bind
from engine.profile import Profile
from engine.settings import Settings


@dataclasses.dataclass
class Api:
    """A running API and clients of its listeners."""

    parts: Parts
    tokens: Tokens
    public: httpx.Client
    admin: httpx.Client
    health: httpx.Client
    endpoints: types.Endpoints

    def call(self, method: str, path: str, kind: types.TokenKind = "admin", **more: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens.of(kind)}"}
        return self.admin.request(method, path, headers=headers, **more)  # type: ignore[arg-type]


@pytest.fixture
def api(database_url: str, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Api]:
    settings = Settings(
        redis_url=redis_url,
        redis_namespace=namespace,
        database_url=database_url,
        cron_secret="cron-secret",
        plaid_webhook_secret="relay-secret",
    )
    profile = Profile("test", tmp_path)
    parts = Parts(settings, profile, f"test/{os.getpid()}")
    tokens = Tokens(new_token())
    host = Alone("test", settings, "0.0.0", "2026-01-01T00:00:00.000Z")
    sockets = bind("test", settings)
    host.endpoints = ends = sockets.endpoints()
    servers = Servers(parts.context("0.0.0", tokens, host), sockets)
    servers.start()
    assert ends.public
    assert ends.admin
    assert ends.health
    with (
        httpx.Client(base_url=ends.public, trust_env=False) as public,
        httpx.Client(base_url=ends.admin, trust_env=False) as admin,
        httpx.Client(base_url=ends.health, trust_env=False) as health,
    ):
        yield Api(parts, tokens, public, admin, health, ends)
    servers.stop()
    parts.close()


def test_hello_proves_each_token_and_signs_no_other(api: Api) -> None:
    nonce = "0123456789abcdef"
    for kind in ("view", "operate", "admin"):
        answer = api.admin.get("/api/hello", params={"nonce": nonce, "kind": kind}).json()
        assert answer["proof"] == proof(api.tokens.of(kind), nonce)  # type: ignore[arg-type]
    secrets = {api.tokens.of("view"), api.tokens.of("operate"), api.tokens.of("admin")}
    for nonce in ("view" * 4, "operate-operate-operate", "syncdesk token derivation"):
        assert api.admin.get("/api/hello", params={"nonce": nonce}).json()["proof"] not in secrets
    assert api.admin.get("/api/hello", params={"nonce": "short"}).status_code == 400


def test_reads_answer_on_an_empty_install(api: Api) -> None:
    for path, shape in [
        ("status", types.Status),
        ("overview", types.Overview),
        ("chart?span=24h", types.Chart),
        ("queues", types.Queues),
        ("jobs", types.JobPage),
        ("failures", types.FailureGroups),
        ("items", types.ItemPage),
        ("bills", types.BillPage),
        ("bills/review", types.MatchPage),
        ("workers", types.Workers),
        ("schedule", types.Schedule),
        ("notices", types.Notices),
    ]:
        answer = api.call("GET", f"/api/{path}", "view")
        assert answer.status_code == 200, (path, answer.text)
        import msgspec

        msgspec.json.decode(answer.content, type=shape)
        assert answer.headers["cache-control"] == "no-store"


def test_health_and_metrics(api: Api) -> None:
    answer = api.health.get("/health")
    assert answer.status_code == 503
    assert answer.json()["state"] == "dead"
    assert {"name": "database", "ok": True, "sentence": ""} in answer.json()["checks"]
    text = api.health.get("/metrics").text
    assert 'syncdesk_up{service="queue"} 1.0' in text
    assert 'syncdesk_queue_jobs{queue="transactions",state="waiting"} 0.0' in text
    json.dumps(text)
