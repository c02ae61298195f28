"""A small admin API over real HTTP, for states that are hard to reach: 100,000 jobs, long names, trouble of all kinds.

It serves what it is given, encoded from the API's own types, so it cannot answer what the engine could not.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from engine.api import types

TOKEN = "a-token-of-the-tests"
Answer = Callable[[dict[str, str]], Any]


class Server:
    """Answers by path; ``events`` are sent to whoever listens. ``asked`` has every path with its query."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.proof_token = TOKEN
        self._changed = threading.Condition()
        self._events: list[types.Event] = []
        self._streams_end = 0
        self._closed = False
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), name="fixture-server")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Go away, as a dying engine does."""
        if self._closed:
            return
        self._closed = True
        self.drop_streams()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def tell(self, topic: str) -> None:
        """Send an event."""
        with self._changed:
            self._events.append(types.Event(topic=topic))
            self._changed.notify_all()

    def drop_streams(self) -> None:
        """End every open stream, as a dying engine does."""
        with self._changed:
            self._streams_end += 1
            self._changed.notify_all()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Nothing is logged."""

            def handle(self) -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the console went away
                    super().handle()

            def do_GET(self) -> None:
                server._answer(self)

            do_POST = do_GET  # noqa: N815
            do_PATCH = do_GET  # noqa: N815
            do_PUT = do_GET  # noqa: N815

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("content-length") or 0)
        handler.rfile.read(length)
        parts = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.asked.append(handler.path)
        if parts.path == "/api/hello":
            proof = hmac.new(self.proof_token.encode(), query["nonce"].encode(), hashlib.sha256).hexdigest()
            _send(handler, 200, types.Hello("syncdesk", "0", proof))
        elif handler.headers.get("authorization") != f"Bearer {TOKEN}":
            _send(handler, 401, types.Problem("UNAUTHORISED", "A token is needed."))
        elif parts.path == "/api/events":
            self._stream(handler)
        else:
            found = self.answers.get(parts.path)
            if found is None:
                _send(handler, 404, types.Problem("NOT_FOUND", f"There is nothing at {parts.path}."))
            else:
                answer = found(query)
                _send(handler, 409 if isinstance(answer, types.Problem) else 200, answer)

    def _stream(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        with self._changed:
            sent, end = len(self._events), self._streams_end
            handler.wfile.write(b'data: {"topic":"hello"}\n\n')
            handler.wfile.flush()
            while end == self._streams_end and not self._closed:
                for event in self._events[sent:]:
                    handler.wfile.write(b"data: " + msgspec.json.encode(event) + b"\n\n")
                handler.wfile.flush()
                sent = len(self._events)
                self._changed.wait(1)
        handler.close_connection = True


def _send(handler: BaseHTTPRequestHandler, status: int, answer: Any) -> None:
    body = msgspec.json.encode(answer)
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
