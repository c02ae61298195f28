"""A running API with clients of its listeners: real uvicorn on free ports over the test's Valkey and Postgres."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import psycopg
from psycopg.rows import dict_row

from engine.api import types
from engine.api.assemble import Parts
from engine.api.auth import Tokens, new_token
from engine.api.context import Alone
from engine.api.server import Servers, bind
from engine.jobs.worker import WorkerProcess
from engine.profile import Profile
from engine.queue import connection
from engine.settings import Settings

HINT_S = 5.0
"""A hint gives up after a quarter of a second. A busy machine may stand still for longer, and nobody here would put it
back."""
RELAY_SECRET = "relay-secret"
CRON_SECRET = "cron-secret"


@dataclass
class Api:
    """``call`` is a request to the admin API with a token of some kind."""

    parts: Parts
    tokens: Tokens
    profile: Profile
    endpoints: types.Endpoints
    public: httpx.Client
    admin: httpx.Client
    health: httpx.Client

    def call(self, method: str, path: str, kind: types.TokenKind = "admin", **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens.of(kind)}", **more.pop("headers", {})}
        return self.admin.request(method, f"/api/{path}", headers=headers, **more)

    def webhook(self, body: bytes, **headers: str) -> httpx.Response:
        """Send a body to the webhook receiver as a relay signs it, or with other headers."""
        signed = {"Content-Type": "application/json", "X-Syncdesk-Signature": relay_signature(body), **headers}
        return self.public.post("/api/webhooks/plaid", content=body, headers=signed)

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Look into the database."""
        with psycopg.connect(self.parts.settings.database_url or "", autocommit=True, row_factory=dict_row) as link:
            return link.execute(query, values).fetchall()


def relay_signature(body: bytes, secret: str = RELAY_SECRET, at: int | None = None) -> str:
    """``X-Syncdesk-Signature`` of a relay that knows the secret."""
    moment = str(int(time.time()) if at is None else at)
    digest = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


@contextlib.contextmanager
def running(folder: Path, *, hint_s: float = HINT_S, **changes: Any) -> Iterator[Api]:
    """Start the three listeners; ``changes`` are settings (at least redis_url, redis_namespace and database_url)."""
    given = {"cron_secret": CRON_SECRET, "plaid_webhook_secret": RELAY_SECRET, **changes}
    # A worker of these tests lives in pytest's own process, whose memory is not its own.
    settings = Settings(**{"worker_memory_mb": 65536, **given})
    profile = Profile("test", folder)
    with mock.patch.dict(connection._LIMITS, {"hint": (hint_s, hint_s)}):
        parts = Parts(settings, profile, f"test/{os.getpid()}")
    tokens = Tokens(new_token())
    host = Alone("test", settings, "0.0.0", "2026-01-01T00:00:00.000Z")
    sockets = bind("test", settings)
    host.endpoints = ends = sockets.endpoints()
    servers = Servers(parts.context("0.0.0", tokens, host), sockets)
    servers.start()
    with (
        httpx.Client(base_url=ends.public or "", trust_env=False, timeout=20) as public,
        httpx.Client(base_url=ends.admin or "", trust_env=False, timeout=20) as admin,
        httpx.Client(base_url=ends.health or "", trust_env=False, timeout=20) as health,
    ):
        try:
            yield Api(parts, tokens, profile, ends, public, admin, health)
        finally:
            servers.stop()
            parts.close()


@contextlib.contextmanager
def working(api: Api) -> Iterator[None]:
    """A worker of all pools in this process while the block runs."""
    process = WorkerProcess("all", api.parts.settings, api.profile, api.parts.store)
    process.declare()
    thread = threading.Thread(target=process.run)
    thread.start()
    try:
        yield
    finally:
        process.stop()
        thread.join(20)
        assert not thread.is_alive()
