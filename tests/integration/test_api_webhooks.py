"""The webhook receiver over real HTTP: who is believed, what is stored, and that Redis never holds it up."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from engine.api.public import CALLS_A_MINUTE, GUESSES_A_MINUTE
from tests.support import api as support
from tests.support.api import Api, relay_signature
from tests.support.wait import until

NEWS = {"webhook_type": "TRANSACTIONS", "webhook_code": "SYNC_UPDATES_AVAILABLE", "item_id": "plaid-item-1"}


@contextlib.contextmanager
def hanging_server() -> Iterator[int]:
    """A port that accepts every connection, reads, and never answers."""
    held: list[socket.socket] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(listener.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join(5)
            for connection in held:
                connection.close()


@pytest.fixture
def api(database_url: str, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Api]:
    with support.running(tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url) as made:
        yield made


def link(api: Api, plaid_item_id: str = "plaid-item-1") -> str:
    """An item, as linking stores it."""
    answer = api.parts.store.call(
        "item_link",
        id=str(uuid.uuid4()),
        user="me",
        plaid_item_id=plaid_item_id,
        institution_id="ins_1",
        institution_name="First Lakeside Bank",
        label="",
        environment="simulated",
        access_token="sealed",
        access_key_id="k1",
        webhook_url=None,
        accounts=[],
        correlation="corr-link",
    )
    return str(answer["item_id"])


def body(**changes: Any) -> bytes:
    return json.dumps({**NEWS, **changes}).encode()


def test_news_is_stored_wished_and_hinted(api: Api) -> None:
    item = link(api)
    before = api.rows("select wanted from syncdesk.items where id = %s", item)[0]["wanted"]
    answer = api.webhook(body())
    assert answer.status_code == 200, answer.text
    row = api.rows("select state, verified_by, item_id::text, webhook_code from syncdesk.inbox")[0]
    assert row == {
        "state": "processed",
        "verified_by": "hmac",
        "item_id": item,
        "webhook_code": "SYNC_UPDATES_AVAILABLE",
    }
    assert api.rows("select wanted from syncdesk.items where id = %s", item)[0]["wanted"] == before + 1
    jobs = until(lambda: api.call("GET", "jobs?state=waiting").json()["jobs"], what="the hint")
    assert [(job["item_id"], job["lane"], job["trigger"]) for job in jobs] == [(item, "high", "webhook")]


def test_other_codes_go_through_the_webhook_queue(api: Api) -> None:
    link(api)
    assert api.webhook(body(webhook_type="ITEM", webhook_code="LOGIN_REPAIRED")).status_code == 200
    assert api.webhook(body(webhook_type="NOVEL", webhook_code="THING")).status_code == 200
    jobs = until(
        lambda: (
            (page := api.call("GET", "jobs?state=waiting&queue=webhooks").json()["jobs"]) and len(page) == 2 and page
        )
    )
    assert {job["actor"] for job in jobs} == {"process_webhook"}


def test_forged_webhooks_are_refused_and_told(api: Api) -> None:
    link(api)
    good = body()
    key = ec.generate_private_key(ec.SECP256R1())
    none = jwt.encode({"iat": int(time.time())}, None, algorithm="none", headers={"kid": "k"})  # type: ignore[arg-type]
    hs256 = jwt.encode({"iat": int(time.time())}, "x" * 32, algorithm="HS256", headers={"kid": "k"})
    no_kid = jwt.encode({"iat": int(time.time())}, key, algorithm="ES256")
    forged: list[dict[str, str]] = [
        {"X-Syncdesk-Signature": ""},
        {"X-Syncdesk-Signature": relay_signature(good, "another secret")},
        {"X-Syncdesk-Signature": relay_signature(good + b" ")},
        {"X-Syncdesk-Signature": relay_signature(good, at=int(time.time()) - 301)},
        {"X-Syncdesk-Signature": relay_signature(good, at=int(time.time()) + 600)},
        {"X-Syncdesk-Signature": "t=1,v1=0"},
        {"Plaid-Verification": none},
        {"Plaid-Verification": hs256},
        {"Plaid-Verification": no_kid},
        {"Plaid-Verification": "a.b.c"},
        {"Plaid-Verification": "x" * 5000},
    ]
    for headers in forged:
        answer = api.webhook(good, **headers)
        assert answer.status_code == 401, (headers, answer.text)
        assert "signature was refused" in answer.json()["message"]
    rows = api.rows("select state, reason from syncdesk.inbox")
    assert len(rows) == len(forged)
    assert {row["state"] for row in rows} == {"refused"}
    assert all(row["reason"] for row in rows)
    assert api.rows("select count(*) as n from syncdesk.items where wanted > 1")[0]["n"] == 0


def test_a_repeated_relay_delivery_is_refused(api: Api) -> None:
    link(api)
    headers = {"X-Syncdesk-Signature": relay_signature(body())}
    assert api.webhook(body(), **headers).status_code == 200
    assert api.webhook(body(), **headers).status_code == 401


def test_an_unknown_key_while_plaid_is_away_is_503(
    database_url: str, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: refused at once
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with support.running(
            tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url, plaid_url=url
        ) as api:
            key = ec.generate_private_key(ec.SECP256R1())
            signed = jwt.encode({"iat": int(time.time())}, key, algorithm="ES256", headers={"kid": "unseen"})
            answer = api.webhook(body(), **{"Plaid-Verification": signed})
            assert answer.status_code == 503
            assert answer.json()["code"] == "WEBHOOK_KEY_UNAVAILABLE"


def test_invented_keys_hold_up_nobody_else_while_plaid_hangs(
    database_url: str, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    with (
        hanging_server() as port,
        support.running(
            tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url,
            plaid_url=f"http://127.0.0.1:{port}",
        ) as api,
    ):  # fmt: skip
        link(api)
        key = ec.generate_private_key(ec.SECP256R1())
        answers: list[int] = []

        def forge(number: int) -> None:
            signed = jwt.encode({"iat": int(time.time())}, key, algorithm="ES256", headers={"kid": f"made-up-{number}"})
            with httpx.Client(base_url=api.endpoints.public or "", trust_env=False, timeout=30) as client:
                headers = {"Content-Type": "application/json", "Plaid-Verification": signed}
                answers.append(client.post("/api/webhooks/plaid", content=body(), headers=headers).status_code)

        forgers = [threading.Thread(target=forge, args=(number,)) for number in range(40)]
        for forger in forgers:
            forger.start()
        for number in range(20):
            assert api.webhook(body(number=number)).status_code == 200
        for forger in forgers:
            forger.join(60)
        assert answers == [503] * 40
        assert api.rows("select wanted from syncdesk.items")[0]["wanted"] == 21


def test_size_type_and_form_are_limited(api: Api) -> None:
    big = b" " * 262_145
    assert api.webhook(big).status_code == 413
    assert api.webhook(b"x", **{"Content-Type": "text/xml"}).status_code == 415

    def chunks() -> Iterator[bytes]:
        for _ in range(70):
            yield b" " * 4096

    answer = api.public.post("/api/webhooks/plaid", content=chunks(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    for odd in (b"", b"{", b"[1]", b"null", b"\xff\xfe", b'{"webhook_type": 1}', b'{"item_id": "a\\u0000b"}'):
        assert api.webhook(odd).status_code == 200  # signed by who knows the secret: kept, not understood
    assert api.rows("select count(*) as n from syncdesk.inbox where state <> 'refused'")[0]["n"] == 7


def test_a_flood_of_forged_webhooks_is_counted_not_kept(api: Api) -> None:
    for _ in range(90):
        assert api.webhook(body(), **{"X-Syncdesk-Signature": "no"}).status_code == 401
    assert 1 <= api.rows("select count(*) as n from syncdesk.inbox")[0]["n"] <= 120


def test_redis_that_hangs_never_holds_a_webhook_up(database_url: str, tmp_path: Path) -> None:
    with (
        hanging_server() as port,
        support.running(
            tmp_path, hint_s=0.25, redis_url=f"redis://127.0.0.1:{port}/0", database_url=database_url
        ) as api,
    ):
        link(api)
        api.public.timeout = httpx.Timeout(5)  # a hint that was waited for would cost this within a few
        for number in range(40):
            assert api.webhook(body(number=number)).status_code == 200
        assert api.rows("select wanted from syncdesk.items")[0]["wanted"] == 41
        found = api.health.get("/health")
        assert found.status_code == 503
        overview = api.call("GET", "overview").json()
        assert overview["causes"][0]["code"] == "QUEUE_LOST"
        assert api.call("GET", "jobs?state=failed").status_code == 200
        assert api.call("GET", "jobs?state=waiting").status_code == 503


def test_a_database_that_is_away_is_503(redis_url: str, namespace: str, tmp_path: Path) -> None:
    with support.running(
        tmp_path,
        redis_url=redis_url,
        redis_namespace=namespace,
        database_url="postgresql://nobody:nothing@127.0.0.1:9/none",
    ) as api:
        answer = api.webhook(body())
        assert answer.status_code == 503
        assert answer.json()["code"] == "DATABASE_UNAVAILABLE"
        overview = api.call("GET", "overview").json()
        assert overview["causes"][0]["code"] == "DATABASE_LOST"
        assert overview["engine"]["state"] == "degraded"
        assert api.call("GET", "items").status_code == 503
        status = api.call("GET", "status")
        assert status.status_code == 200
        assert status.json()["engine"]["state"] == "degraded"


def test_headers_that_do_not_end_are_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    host, _, port = (api.endpoints.public or "").removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as greedy:
        greedy.sendall(b"POST /api/webhooks/plaid HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(OSError):
            for _ in range(40):
                greedy.sendall(b"X-Pad: " + b"a" * 4000 + b"\r\n")
        assert closed(greedy)
    with socket.create_connection((host, int(port)), timeout=30) as slow:
        slow.sendall(b"POST /api/webhooks/plaid HTTP/1.1\r\nHost: x\r\nX-")
        assert closed(slow)  # within the limit on headers; the socket's own time limit is longer


def closed(connection: socket.socket) -> bool:
    """Whether the other side ended the connection (a reset counts); a time limit raises."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_cron_wants_its_secret(api: Api, database_url: str, redis_url: str, namespace: str, tmp_path: Path) -> None:
    path = "/api/cron/sync-transactions"
    assert api.public.get(path).json() == {"ok": True}
    assert api.public.post(path).status_code == 401
    for wrong in (
        "Bearer no",
        "cron-secret",
        "Bearer  cron-secret",
        "bearer CRON-SECRET",
        f"Bearer {api.tokens.admin}",
        "Bearer é",
    ):
        answer = api.public.post(path, headers=[(b"authorization", wrong.encode())])
        assert answer.status_code == 401, wrong
    item = link(api)
    api.parts.store.call("items_list", state=None, q=None, after=None, limit=1)
    answer = api.public.post(path, headers={"Authorization": "Bearer cron-secret"})
    assert answer.status_code == 200, answer.text
    assert api.rows("select action from syncdesk.audit") == [{"action": "items.sync_stale"}]
    assert item
    with support.running(
        tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url, cron_secret=None
    ) as unset:
        assert unset.public.get(path).status_code == 200
        assert unset.public.post(path, headers={"Authorization": "Bearer None"}).status_code == 503


def test_the_cron_secret_cannot_be_guessed_fast(api: Api) -> None:
    path = "/api/cron/sync-transactions"
    guesses = [api.public.post(path, headers={"Authorization": f"Bearer {n}"}) for n in range(GUESSES_A_MINUTE + 60)]
    assert {answer.status_code for answer in guesses} == {401, 429}
    # Not simply the last one: one a second is allowed all the while.
    refused = next(answer for answer in guesses if answer.status_code == 429)
    assert refused.json()["code"] == "TOO_OFTEN"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    right = [api.public.post(path, headers={"Authorization": "Bearer cron-secret"}) for _ in range(20)]
    assert 429 in {answer.status_code for answer in right}, "else a right guess would tell itself"
    assert api.public.get(path).status_code == 200


def test_strangers_do_not_use_up_the_operators_calls(api: Api) -> None:
    path, operate = "/api/queue/status", {"Authorization": f"Bearer {api.tokens.of('operate')}"}
    for _ in range(CALLS_A_MINUTE + 10):
        assert api.public.get(path).status_code == 401
    assert api.public.get(path, headers=operate).status_code == 200


def test_manual_sync_and_queue_status_want_a_token(api: Api) -> None:
    item = link(api)
    path = "/api/plaid/sync-transactions"
    assert api.public.post(path, json={"all": True}).status_code == 401
    view = {"Authorization": f"Bearer {api.tokens.of('view')}"}
    operate = {"Authorization": f"Bearer {api.tokens.of('operate')}"}
    assert api.public.post(path, json={"all": True}, headers=view).status_code == 403
    answer = api.public.post(path, json={"item_id": item}, headers=operate)
    assert answer.status_code == 200, answer.text
    job = api.call("GET", f"jobs/{answer.json()['ids'][0]}").json()
    assert job["job"]["item_id"] == item
    assert job["job"]["correlation_id"]
    assert job["allowed"] == ["cancel"]
    assert api.public.get("/api/queue/status").status_code == 401
    status = api.public.get("/api/queue/status", headers=view).json()
    assert {queue["name"]: queue["waiting"] for queue in status["queues"]} == {
        "transactions": 1, "webhooks": 0, "notifications": 0,
    }  # fmt: skip
