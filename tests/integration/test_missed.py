"""Webhooks that the database could not take are taken as soon as it can, once each, and hinted."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from engine.api import missed
from engine.api.missed import Missed
from engine.errors import StoreUnavailable
from engine.host.postgres import Postgres
from engine.plaid.webhooks import Verified
from tests.integration.test_api_webhooks import body, link
from tests.support import api as support
from tests.support import stopped
from tests.support.api import Api
from tests.support.scripted_plaid import ScriptedPlaid
from tests.support.wait import until

KEY, KID = ec.generate_private_key(ec.SECP256R1()), "plaid-key"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with stopped.server() as made:
        yield made


@pytest.fixture
def api(
    server: Postgres, redis_url: str, namespace: str, tmp_path: Path, scripted_bank: ScriptedPlaid
) -> Iterator[Api]:
    jwk = json.loads(ECAlgorithm.to_jwk(KEY.public_key()))
    jwk |= {"alg": "ES256", "kid": KID, "use": "sig", "created_at": 1_700_000_000, "expired_at": None}
    scripted_bank.answer("/webhook_verification_key/get", {"key": jwk, "request_id": "r"})
    names = {
        "redis_url": redis_url,
        "redis_namespace": namespace,
        "database_url": server.url,
        "plaid_url": scripted_bank.url,
    }
    with support.running(tmp_path, **names) as made:
        yield made


def send(api: Api, news: bytes) -> int:
    claims = {"iat": int(time.time()), "request_body_sha256": hashlib.sha256(news).hexdigest()}
    token = jwt.encode(claims, KEY, algorithm="ES256", headers={"kid": KID})
    headers = {"Content-Type": "application/json", "Plaid-Verification": token}
    return api.public.post("/api/webhooks/plaid", content=news, headers=headers).status_code


def test_what_came_while_the_database_took_none_is_stored_when_it_does(api: Api, server: Postgres) -> None:
    item = link(api)
    before = api.rows("select wanted from syncdesk.items where id = %s", item)[0]["wanted"]
    try:
        stopped.read_only(server.url, True)
        assert send(api, body()) == 503
        assert send(api, body()) == 503  # Plaid sends it again
        assert api.webhook(body(new_transactions=1)).status_code == 503  # a relay's is not kept
    finally:
        stopped.read_only(server.url, False)
    until(lambda: api.rows("select from syncdesk.inbox"), what="the webhook in the inbox")
    found = api.rows("select verified_by, state, item_id::text from syncdesk.inbox")
    assert found == [{"verified_by": "jwt", "state": "processed", "item_id": item}]
    assert api.rows("select wanted from syncdesk.items where id = %s", item)[0]["wanted"] == before + 1
    jobs = until(lambda: api.call("GET", "jobs?state=waiting").json()["jobs"], what="the hint")
    assert [(job["item_id"], job["lane"], job["trigger"]) for job in jobs] == [(item, "high", "webhook")]


def test_as_many_are_kept_as_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missed, "MOST", 3)
    monkeypatch.setattr(missed, "AGAIN_S", 0.01)
    away, tried, stored = [True], [b""], []

    def store(verified: Any, news: bytes) -> None:
        tried.append(news)
        if away:
            raise StoreUnavailable("Away.")
        stored.append(news)

    kept = Missed(store)
    for news in (b"1", b"2", b"3", b"2", b"4", b"5" * 5000):
        kept.keep(Verified("jwt", f"token {news!r}", hashlib.sha256(news).hexdigest()), news)
    until(lambda: tried[-1] == b"3", what="a try of the oldest that is left")
    away.clear()
    until(lambda: len(stored) == 3)
    kept.keep(Verified("jwt", "token", "later"), b"later")  # its thread had ended
    until(lambda: len(stored) == 4)
    assert stored == [b"3", b"2", b"4", b"later"]
    kept.close()
