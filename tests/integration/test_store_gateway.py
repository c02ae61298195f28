"""A Supabase project's REST API behind gateways and networks that answer in its place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from engine.errors import StoreRefused, StoreUnavailable
from engine.store.rest import Rest

#: Shaped like a key; no project has it.
KEY = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.c2ln"


class Gateway(ThreadingHTTPServer):
    """Gives every request the same answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: tuple[int, str, bytes] = (200, "application/json", b"null")


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, kind, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Quiet."""


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    server = Gateway()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(gateway: Gateway) -> Iterator[Rest]:
    made = Rest(f"http://127.0.0.1:{gateway.server_port}", KEY)
    yield made
    made.close()


@pytest.mark.parametrize(
    "answer",
    [
        (502, "text/html", b"<html>Bad gateway</html>"),
        (502, "application/json", b'{"message": "An invalid response was received from the upstream server"}'),
        (503, "application/json", b'{"message": "failure to get a peer from the ring-balancer"}'),
        (503, "application/json", b'{"code": "PGRST000", "message": "Could not connect with the database"}'),
        (503, "application/json", b'{"code": "PGRST002", "message": "Could not query the schema cache"}'),
        (504, "application/json", b'{"code": "PGRST003", "message": "Timed out acquiring connection from pool"}'),
        (429, "application/json", b'{"message": "API rate limit exceeded"}'),
        (200, "text/html", b"<html>Sign in to the network of this hotel</html>"),
    ],
)
def test_what_passes_is_tried_again(gateway: Gateway, store: Rest, answer: tuple[int, str, bytes]) -> None:
    gateway.answer = answer
    with pytest.raises(StoreUnavailable) as caught:
        store.call("schema")
    assert caught.value.retryable
    gateway.answer = (200, "application/json; charset=utf-8", b'{"migrations": []}')
    assert store.call("schema") == {"migrations": []}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            (401, "application/json", b'{"message": "Invalid authentication credentials"}'),
            "refuses Syncdesk's user or key",
        ),
        ((404, "application/json", b'{"message": "no Route matched with those values"}'), "HTTP 404"),
        ((400, "text/html", b"<html>Bad request</html>"), "HTTP 400"),
    ],
)
def test_what_stays_is_refused(gateway: Gateway, store: Rest, answer: tuple[int, str, bytes], words: str) -> None:
    gateway.answer = answer
    with pytest.raises(StoreRefused, match=words) as caught:
        store.call("schema")
    assert not caught.value.retryable
