"""HTTP before the bank: Plaid's endpoints, the pages of hosted Link, and the control surface.

Plain ASGI without a framework: a page of 500 transactions must cost little more than its encoding.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from engine import clock
from engine.errors import SyncdeskError
from engine.sandbox import hosted, shapes
from engine.sandbox.bank import Bank, unix_ms
from engine.sandbox.control import Control
from engine.sandbox.deliveries import Courier, Pace
from engine.sandbox.endpoints import Desk
from engine.sandbox.faults import Fault
from engine.sandbox.life import Life
from engine.sandbox.linking import Links
from engine.sandbox.model import decode, encode
from engine.sandbox.refusals import Refusal
from engine.sandbox.requestlog import Entry, RequestLog

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY = 32 * 1024 * 1024
CONTROL = "/sandbox/_control/"
TRANSPORT = "syncdesk.transport"
_JSON = [(b"content-type", b"application/json")]


class App:
    """The ASGI application."""

    def __init__(self, bank: Bank, pace: Pace | None = None) -> None:
        self.bank = bank
        self._pace = pace or Pace()
        self._links = Links(bank)
        self._desk = Desk(bank, self._links)
        self._log = RequestLog()
        self._life = Life(bank)
        self._control = Control(bank, self._life, self._log)
        self._clockwork: asyncio.Task[None] | None = None
        self._courier: Courier | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._courier = Courier(self.bank.keys, self._pace, lambda: self.bank.options.speed)
                self.bank.deliver = self._courier.submit
                self._clockwork = asyncio.get_running_loop().create_task(self._run())
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._clockwork is not None:
                    self._clockwork.cancel()
                    await asyncio.gather(self._clockwork, return_exceptions=True)
                if self._courier is not None:
                    await self._courier.close()
                self.bank.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _run(self) -> None:
        """Do what is due, looking again at least ten times a second: a request may have planned something sooner."""
        while True:
            wait = self.bank.tick()
            await asyncio.sleep(0.1 if wait is None else min(wait, 0.1))

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith(CONTROL):
            await self._controlled(scope, path.removeprefix(CONTROL), receive, send)
        elif path.startswith("/hosted/"):
            await self._hosted(scope, path, receive, send)
        else:
            started, entry = clock.monotonic(), self._log.begin(path, unix_ms())
            try:
                await self._plaid(scope, entry, receive, send)
            finally:
                entry.own_ms = clock.ms_since(started)
                entry.answered_ms = unix_ms()
                self._log.end(entry)

    # -- Plaid's endpoints

    async def _plaid(self, scope: Scope, entry: Entry, receive: Receive, send: Send) -> None:
        raw = await _body(receive)
        entry.request_id = secrets.token_hex(8)[:15]
        if self._control.latency_s:
            await asyncio.sleep(self._control.latency_s)
        fault: Fault | None = None
        try:
            request, client_id = self._checked(scope, entry, raw)
            fault = self._fault(entry, request)
            if fault is not None:
                entry.fault = fault.kind
                if fault.kind == "error":
                    raise Refusal(fault.error_code, fault.message, kind=fault.error_type, status=fault.status)
            answer = self._desk.routes[entry.path](request, client_id)
            entry.status, content = 200, _with_request_id(answer, entry.request_id)
        except Refusal as refusal:
            entry.status, entry.error_code = refusal.status, refusal.plaid_code
            content = encode(refusal.body(entry.request_id))
        if fault is None or fault.kind == "error":
            await _answer(send, entry.status, content)
        else:
            await _spoil(scope, send, fault, entry, content)

    def _checked(self, scope: Scope, entry: Entry, raw: bytes) -> tuple[dict[str, Any], str]:
        """The request's body without the keys, and whose it is.

        Raises:
            Refusal: as Plaid would.
        """
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        shape = shapes.REQUESTS.get(entry.path)
        if shape is None or scope["method"] != "POST":
            raise Refusal("NOT_FOUND")
        kind = headers.get("content-type", "application/json")
        if not kind.startswith("application/json"):
            raise Refusal("INVALID_HEADERS")
        try:
            body = decode(raw)
        except ValueError:
            raise Refusal("INVALID_BODY") from None
        if not isinstance(body, dict):
            raise Refusal("INVALID_BODY", "body must be a JSON object")
        client_id = ""
        if shape.auth == "keys":
            client_id, secret = shapes.credentials(body, headers)
            options = self.bank.options
            if options.client_id not in (None, client_id) or options.secret not in (None, secret):
                raise Refusal("INVALID_API_KEYS")
        shape.shape("", body)
        return body, client_id

    def _fault(self, entry: Entry, request: dict[str, Any]) -> Fault | None:
        institution: str | None = request.get("institution_id")
        token = request.get("access_token")
        item = self.bank.peek(token) if isinstance(token, str) else None
        if item is not None:
            entry.item_id, institution = item.item_id, item.institution.institution_id
        return self.bank.faults.hit(entry.path, entry.item_id, institution)

    # -- the bank's own

    async def _hosted(self, scope: Scope, path: str, receive: Receive, send: Send) -> None:
        _, _, token, *rest = path.split("/")
        if scope["method"] == "POST" and rest and rest[0] in ("finish", "exit"):
            status, headers, content = hosted.submit(self._links, token, rest[0], await _body(receive))
        else:
            status, headers, content = hosted.page(self._links, token)
        extra = [("referrer-policy", "no-referrer"), ("cache-control", "no-store")]
        await _answer(send, status, content, [(k.encode(), v.encode()) for k, v in [*headers, *extra]])

    async def _controlled(self, scope: Scope, name: str, receive: Receive, send: Send) -> None:
        status = 200
        try:
            if any(header == b"origin" for header, _ in scope["headers"]):
                # No page in a browser may drive the bank, whatever it can reach on this machine.
                status, answer = 403, {"message": "The control surface is not for browsers."}
            elif scope["method"] == "GET" and name in self._control.reads:
                query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
                answer = self._control.reads[name](query)
            elif scope["method"] == "POST" and name in self._control.writes:
                raw = await _body(receive)
                body = decode(raw) if raw else {}
                if not isinstance(body, dict):
                    raise ValueError("the body must be an object")
                answer = self._control.writes[name](body)
            else:
                status, answer = 404, {"message": f"There is no {scope['method']} {CONTROL}{name}."}
        except SyncdeskError as error:
            status, answer = 400, {"message": error.message}
        except (ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
            status, answer = 400, {"message": f"{type(error).__name__}: {error}"}
        await _answer(send, status, encode(answer))


def _with_request_id(answer: dict[str, Any] | bytes, request_id: str) -> bytes:
    if isinstance(answer, bytes):
        return b'%s,"request_id":"%s"}' % (answer[:-1], request_id.encode())
    return encode({**answer, "request_id": request_id})


async def _body(receive: Receive) -> bytes:
    parts, length = [], 0
    while True:
        message = await receive()
        part: bytes = message.get("body", b"")
        length += len(part)
        if length <= MAX_BODY:
            parts.append(part)
        if not message.get("more_body") or message["type"] == "http.disconnect":
            return b"".join(parts)


async def _answer(send: Send, status: int, content: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    length = (b"content-length", str(len(content)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*(headers or _JSON), length]})
    await send({"type": "http.response.body", "body": content})


async def _spoil(scope: Scope, send: Send, fault: Fault, entry: Entry, content: bytes) -> None:
    """Answer as a network or a proxy in trouble would."""
    if fault.kind == "delay":
        await asyncio.sleep(fault.delay_s)
        await _answer(send, entry.status, content)
    elif fault.kind == "html":
        entry.status = fault.status or 502
        page = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
        await _answer(send, entry.status, page, [(b"content-type", b"text/html")])
    elif fault.kind == "empty":
        entry.status = fault.status or 200
        await _answer(send, entry.status, b"")
    elif fault.kind == "reset":
        entry.status = 0
        scope[TRANSPORT].abort()
    else:
        headers = [*_JSON, (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": entry.status, "headers": headers})
        if fault.kind == "truncated":
            await send({"type": "http.response.body", "body": content[: len(content) // 2], "more_body": True})
            scope[TRANSPORT].close()
            return
        step = max(1, len(content) // 20)
        for start in range(0, len(content), step):
            await send({"type": "http.response.body", "body": content[start : start + step], "more_body": True})
            await asyncio.sleep(fault.delay_s)
        await send({"type": "http.response.body", "body": b""})
