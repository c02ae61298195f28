"""Callers that are slow, greedy or many: each loses its connection, and nobody else notices."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.api import connections
from tests.support import api as support
from tests.support.api import Api
from tests.support.wait import until

HEALTHY = b"GET /api/cron/sync-transactions HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def api(database_url: str, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Api]:
    with support.running(tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url) as made:
        yield made


@contextlib.contextmanager
def caller(api: Api) -> Iterator[socket.socket]:
    host, _, port = (api.endpoints.public or "").removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as made:
        yield made


def answered(connection: socket.socket) -> bool:
    connection.sendall(HEALTHY)
    received = b""
    while not received.endswith(b'{"ok":true}'):
        part = connection.recv(4096)
        if not part:
            return False
        received += part
    return True


def ends(connection: socket.socket, more: bytes) -> bool:
    """Whether the other side ends the connection while we go on sending; its time limits are far shorter than ours."""

    def over() -> bool:
        try:
            connection.sendall(more)
        except ConnectionError:
            return True
        return False

    until(over, 30)
    return True


def test_requests_sent_far_ahead_are_not_kept(api: Api) -> None:
    with caller(api) as greedy:
        greedy.sendall(HEALTHY * connections.AHEAD * 20)
        received = b""
        with contextlib.suppress(ConnectionError):
            while part := greedy.recv(65536):
                received += part
    assert received.count(b"200 OK") <= connections.AHEAD + 1
    with caller(api) as modest:
        modest.sendall(HEALTHY * connections.AHEAD)
        received = b""
        while received.count(b'{"ok":true}') < connections.AHEAD:
            received += modest.recv(65536)


def test_a_body_that_nobody_asked_for_ends_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BODY_S", 0.5)
    with caller(api) as slow:
        slow.sendall(HEALTHY.replace(b"\r\n\r\n", b"\r\nContent-Length: 1000000\r\n\r\n"))
        assert ends(slow, b"a")


def test_answers_that_nobody_reads_are_given_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_S", 0.5)
    with caller(api) as deaf:
        # Kept small, or a system with much memory takes in hundreds of answers before one is left unread.
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        # What is sent fills the caller's own buffers first, then ours; from then on we read no more of it.
        assert ends(deaf, b"GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
    assert api.public.get("/api/cron/sync-transactions").status_code == 200


def test_sleepers_make_room_for_who_comes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS", 6)
    with contextlib.ExitStack() as open_ones:
        sleepers = [open_ones.enter_context(caller(api)) for _ in range(6)]
        assert all(answered(sleeper) for sleeper in sleepers)
        for _ in range(3):
            newcomer = open_ones.enter_context(caller(api))
            assert answered(newcomer)
        for oldest in sleepers[:3]:
            with contextlib.suppress(ConnectionError):
                assert oldest.recv(1) == b""
        assert answered(sleepers[-1])


def test_what_is_no_http_writes_no_line(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), caller(api) as odd:
        odd.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert b"400 Bad Request" in odd.recv(4096)
    assert not caplog.records


def test_no_answer_leads_where_the_host_header_says(api: Api) -> None:
    answer = api.public.post("/api/webhooks/plaid/", headers={"Host": "elsewhere.example"})
    assert answer.status_code == 404
    assert "location" not in answer.headers
