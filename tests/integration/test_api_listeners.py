"""The three listeners over real HTTP: who gets in, what each route answers, and that the document says so."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import msgspec
import pytest

from engine.api import beside, types, types_banks, types_bills, types_jobs, types_operation, types_overview
from engine.api.auth import RANK, proof
from engine.api.listener import bind
from engine.api.server import bind as bind_all
from engine.errors import StartError
from engine.jobs.worker import WorkerProcess
from engine.profile import Profile
from engine.settings import Settings
from engine.store.direct import Direct
from tests.support import api as support
from tests.support.api import Api
from tests.support.wait import until

ID = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
def api(database_url: str, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Api]:
    with support.running(tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url) as made:
        yield made


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def operations(api: Api) -> Iterator[tuple[str, str, dict[str, Any]]]:
    document = api.admin.get("/api/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def request_for(method: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
    """A request that is valid in form; what it names does not exist."""
    given: dict[str, Any] = {"url": re.sub(r"{\w+}", ID, path)}
    bodies: dict[str, Any] = {
        "/api/sync": {"item_id": ID},
        "/api/items/link": {"public_token": "public-none"},
        "/api/bills": {"name": "Rent", "cadence": "monthly", "anchor_date": "2026-01-01"},
        "/api/bills/{id}": {"name": "Rent", "cadence": "monthly", "anchor_date": "2026-01-01"},
        "/api/matches": {"bill_id": ID, "transaction_id": "t", "period": "2026-01-01"},
        "/api/failures/{fingerprint}/retry": {"expected": 1},
        "/api/schedule/{id}/trigger": {"trigger": {"every_s": 900}},
    }
    if "requestBody" in operation and method != "GET":
        given["json"] = bodies.get(path, {})
    if path == "/api/hello":
        given["params"] = {"nonce": "0123456789abcdef"}
    return given


def test_hello_proves_each_token_and_signs_no_other(api: Api) -> None:
    nonce = "0123456789abcdef"
    for kind in RANK:
        answer = api.admin.get("/api/hello", params={"nonce": nonce, "kind": kind}).json()
        assert answer["proof"] == proof(api.tokens.of(kind), nonce)
    secrets = {api.tokens.of(kind) for kind in RANK}
    for nonce in ("view" * 4, "operate-operate-operate", "syncdesk token derivation"):
        assert api.admin.get("/api/hello", params={"nonce": nonce}).json()["proof"] not in secrets
    assert api.admin.get("/api/hello", params={"nonce": "short"}).status_code == 400


def test_each_route_wants_its_token_and_answers_what_it_documents(api: Api) -> None:
    seen = 0
    for method, path, operation in operations(api):
        if path == "/api/events":
            continue
        needed = operation.get("x-token")
        given = request_for(method, path, operation)
        for kind in (None, "garbage", *RANK):
            token = api.tokens.of(kind) if kind in RANK else kind  # type: ignore[arg-type]
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = api.admin.request(method, headers=headers, **given)
            where = (method, path, kind, answer.status_code, answer.text)
            assert str(answer.status_code) in operation["responses"], where
            if needed is None:
                assert answer.status_code == 200, where
            elif kind not in RANK:
                assert answer.status_code == 401, where
                assert answer.headers["www-authenticate"] == "Bearer"
            elif RANK[kind] < RANK[needed]:  # type: ignore[index]
                assert answer.status_code == 403, where
            else:
                assert answer.status_code not in {401, 403, 500}, where
            if answer.status_code != 200:
                problem = msgspec.json.decode(answer.content, type=types.Problem)
                assert problem.message.endswith("."), where
            seen += 1
    assert seen > 200


def test_events_want_a_token(api: Api) -> None:
    assert api.admin.get("/api/events").status_code == 401


def test_the_documents_are_valid(api: Api) -> None:
    for client in (api.admin, api.public):
        document = client.get("/api/openapi.json").json()
        assert document["openapi"].startswith("3.1")
        for schema in document["components"]["schemas"].values():
            jsonschema.Draft202012Validator.check_schema(schema)
        named = set(document["components"]["schemas"])
        referred = set(re.findall(r"#/components/schemas/([^\"]+)", json.dumps(document)))
        assert referred <= named
        ids = [op["operationId"] for methods in document["paths"].values() for op in methods.values()]
        assert len(ids) == len(set(ids))
        for path, methods in document["paths"].items():
            for operation in methods.values():
                declared = {entry["name"] for entry in operation.get("parameters", []) if entry["in"] == "path"}
                assert declared == set(re.findall(r"{(\w+)}", path))


def test_reads_have_their_documented_shape_on_an_empty_install(api: Api) -> None:
    shapes: dict[str, Any] = {
        "status": types.Status,
        "overview": types_overview.Overview,
        "chart?span=24h": types_overview.Chart,
        "queues": types_jobs.Queues,
        "jobs": types_jobs.JobPage,
        "failures": types_jobs.FailureGroups,
        "items": types_banks.ItemPage,
        "bills": types_bills.BillPage,
        "bills/review": types_bills.MatchPage,
        "workers": types_operation.Workers,
        "schedule": types_operation.Schedule,
        "notices": types_operation.Notices,
        "audit": types_operation.AuditPage,
    }
    for path, shape in shapes.items():
        answer = api.call("GET", path, "view")
        assert answer.status_code == 200, (path, answer.text)
        msgspec.json.decode(answer.content, type=shape)
        assert answer.headers["cache-control"] == "no-store"
    overview = msgspec.json.decode(api.call("GET", "overview").content, type=types_overview.Overview)
    assert overview.bank_data.state == "none"
    assert overview.engine.state == "degraded"
    assert [cause.code for cause in overview.causes] == ["NO_WORKERS"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "null"},
    ],
)
def test_web_pages_and_other_names_are_refused(api: Api, headers: dict[str, str]) -> None:
    token = {"Authorization": f"Bearer {api.tokens.admin}"}
    for path in ("/api/status", "/api/hello?nonce=0123456789abcdef", "/api/openapi.json", "/nothing"):
        assert api.admin.get(path, headers=token | headers).status_code == 403
    port = (api.endpoints.admin or "").rpartition(":")[2]
    assert api.admin.get("/api/status", headers=token | {"Host": f"localhost:{port}"}).status_code == 200


def test_no_input_makes_the_engine_fail(api: Api) -> None:
    json_type = {"Content-Type": "application/json"}
    for method, path, body, headers in [
        ("POST", "sync", b"{", json_type),
        ("POST", "sync", b"\xff\xfe", json_type),
        ("POST", "sync", b"[]", json_type),
        ("POST", "sync", b'{"item_id": "x", "all": true}', json_type),
        ("POST", "sync", b'{"item_id": "not-a-uuid"}', json_type),
        ("POST", "sync", b"", json_type),
        ("POST", "sync", b"{}", {"Content-Type": "text/plain"}),
        ("POST", "bills", b'{"name": "a\\u0000b", "cadence": "monthly", "anchor_date": "2026-01-01"}', json_type),
        ("POST", "bills", b'{"name": "a", "cadence": "often", "anchor_date": "2026-01-01"}', json_type),
        ("POST", "bills", b'{"name": "a", "cadence": "monthly", "anchor_date": "soon"}', json_type),
        ("POST", "matches", b'{"bill_id": "x", "transaction_id": "t", "period": "2026-99-99"}', json_type),
        ("PATCH", "queues/transactions", b'{"concurrency": 0}', json_type),
        ("PATCH", "queues/transactions", b'{"concurrency": 99999999999999999999}', json_type),
        ("POST", "schedule/x/trigger", b'{"trigger": {"cron": "* * *"}}', json_type),
        ("POST", "schedule/x/trigger", b'{"trigger": {"cron": "a b c d e", "zone": "../../etc/passwd"}}', json_type),
        ("POST", "engine/pause", b'{"minutes": -1}', json_type),
    ]:
        headers_ = {**headers, "Authorization": f"Bearer {api.tokens.admin}"}
        answer = api.admin.request(method, f"/api/{path}", content=body, headers=headers_)
        assert 400 <= answer.status_code < 500, (method, path, body, answer.status_code, answer.text)
    for path in [
        "jobs?state=nonsense", "jobs?limit=0", "jobs?limit=x", "jobs?after=rubbish", "jobs?state=failed&after=failed|x",
        "jobs?queue=none", "jobs?other=1", "jobs/%00", "jobs/" + "x" * 500, "items?after=zz", "items?q=%00", "items/x",
        "audit?after=²", "failures?after=x", "failures?after=f|9|",
        "items?state=none", "bills?after=x", "bills/review?after=%ff", "notices?after=-1",
        "notices?after=" + "9" * 40,
        "chart?span=1y", "nothing", "bills/" + ID, "items/link/none", "items/link/" + ID,
    ]:  # fmt: skip
        answer = api.call("GET", path)
        assert 400 <= answer.status_code < 500, (path, answer.status_code, answer.text)
    assert api.call("DELETE", "status").status_code == 405
    assert api.call("POST", "sync", content=b"x" * 70_000, headers=json_type).status_code == 413


def test_health_and_metrics(api: Api) -> None:
    answer = api.health.get("/health")
    assert answer.status_code == 503
    found = msgspec.json.decode(answer.content, type=types_operation.Health)
    assert found.state == "dead"
    assert {check.name: check.ok for check in found.checks} == {
        "queue": True, "transactions": False, "webhooks": False, "notifications": False, "database": True,
    }  # fmt: skip
    text = api.health.get("/metrics").text
    assert 'syncdesk_up{service="queue"} 1.0' in text
    assert 'syncdesk_up{service="database"} 1.0' in text
    assert 'syncdesk_queue_jobs{queue="transactions",state="waiting"} 0.0' in text


def test_a_consumer_that_stands_still_is_not_alive(api: Api) -> None:
    client, keys = api.parts.client, api.parts.keys
    row = {
        "pool": "all", "host": "h", "pid": 1, "queues": "transactions,webhooks,notifications", "threads": 5,
        "state": "running", "started_at": "2026-01-01T00:00:00Z", "memory_mb": 1, "memory_limit_mb": 2, "jobs": "[]",
    }  # fmt: skip
    for stalled_s, status in ((0.5, 200), (60.0, 503)):
        now_ms = int(client.time()[0]) * 1000
        client.zadd(keys.workers, {"w": now_ms})
        client.hset(keys.worker("w"), mapping={**row, "stalled_s": stalled_s, "beat": now_ms})
        assert api.health.get("/health").status_code == status
    checks = {check["name"]: check["sentence"] for check in api.health.get("/health").json()["checks"]}
    assert checks["webhooks"] == "Its consumer reports but takes no jobs."


def test_a_worker_answers_for_itself(database_url: str, redis_url: str, namespace: str, tmp_path: Path) -> None:
    settings = Settings(
        redis_url=redis_url, redis_namespace=namespace, database_url=database_url, worker_memory_mb=65536
    )
    store = Direct(database_url)
    process = WorkerProcess("events", settings, None, store)
    process.declare()
    thread = threading.Thread(target=process.run)
    port = free_port()
    end = beside.serve_health(Profile("test", tmp_path), dataclasses.replace(settings, worker_health_port=port))
    url = f"http://127.0.0.1:{port}/health"
    try:
        with httpx.Client(trust_env=False, timeout=20) as client:
            assert client.get(url).status_code == 503
            thread.start()
            found = until(lambda: (answer := client.get(url)).status_code == 200 and answer.json(), what="its health")
            assert [check["name"] for check in found["checks"]] == ["queue", "webhooks", "notifications", "database"]
    finally:
        process.stop()
        thread.join(20)
        end()
        store.close()
    assert not thread.is_alive()


def test_the_admin_listener_stays_on_this_machine_without_tls(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="only with TLS"):
        bind_all("test", Settings(admin_bind="0.0.0.0"))


def test_answers_leave_at_once() -> None:
    with bind("public", "127.0.0.1", 0) as sock:
        # asyncio switches Nagle's delay off only for sockets that are TCP by name.
        assert sock.proto == socket.IPPROTO_TCP


def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"The public listener cannot use 127.0.0.1:{port}: another program"):
            bind("public", "127.0.0.1", port)
