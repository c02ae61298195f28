"""Typed calls of the admin API on Qt's own network classes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from PySide6.QtCore import QByteArray, QObject, QTimer, QUrl, Signal
from PySide6.QtNetwork import QNetworkAccessManager, QNetworkProxy, QNetworkReply, QNetworkRequest

from engine.api import types

TIMEOUT_MS = 15_000
HELLO_TIMEOUT_MS = 4_000


@dataclass(frozen=True)
class Failure:
    """A call that did not work: ``status`` is 0 where no engine answered."""

    status: int
    code: str
    message: str

    @property
    def no_answer(self) -> bool:
        return self.status == 0


Done = Callable[[Any], None]
Failed = Callable[[Failure], None]


def path(*parts: str, **query: str | int | None) -> str:
    """``/api/`` with the parts and the parameters that are set, all quoted."""
    address = "/api/" + "/".join(quote(part, safe="") for part in parts)
    given = {name: value for name, value in query.items() if value not in {None, ""}}
    return f"{address}?{urlencode(given)}" if given else address


class Client(QObject):
    """Calls of one engine: its address and the token it proved to know."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._manager = QNetworkAccessManager(self)
        self._manager.setProxy(QNetworkProxy(QNetworkProxy.ProxyType.NoProxy))
        self._base = ""
        self._token = ""
        self._open: dict[QNetworkReply, tuple[Any, Done, Failed]] = {}

    @property
    def base(self) -> str:
        """Address of the engine's admin listener; empty while none is known."""
        return self._base

    def attach(self, base: str, token: str) -> None:
        """Talk to this engine from now on; answers of another one that are still out are dropped."""
        self.abort()
        self._base, self._token = base.rstrip("/"), token

    def hello(self, base: str, token: str, kind: str, done: Callable[[types.Hello], None], failed: Failed) -> None:
        """Have an engine prove that it knows the token, which is not sent. A wrong proof is a failure."""
        nonce = secrets.token_hex(16)
        wanted = hmac.new(token.encode(), nonce.encode(), hashlib.sha256).hexdigest()

        def check(answer: types.Hello) -> None:
            if hmac.compare_digest(answer.proof, wanted):
                done(answer)
            else:
                failed(Failure(403, "NOT_OURS", "What answers there is not the engine that this token belongs to."))

        query = urlencode({"nonce": nonce, "kind": kind})
        request = self._request(f"{base.rstrip('/')}/api/hello?{query}", HELLO_TIMEOUT_MS)
        self._send(request, "GET", b"", types.Hello, check, failed)

    def get(self, address: str, shape: Any, done: Done, failed: Failed) -> QNetworkReply:
        """Fetch ``address`` (made by `path`) and decode it as ``shape``."""
        return self._send(self._request(self._base + address), "GET", b"", shape, done, failed)

    def act(
        self, method: str, address: str, body: Mapping[str, Any] | msgspec.Struct | None, done: Done, failed: Failed,
        shape: Any = types.Done,
    ) -> QNetworkReply:  # fmt: skip
        """Do something: POST, PUT or PATCH with a JSON body."""
        request = self._request(self._base + address)
        request.setHeader(QNetworkRequest.KnownHeaders.ContentTypeHeader, "application/json")
        return self._send(request, method, msgspec.json.encode(body if body is not None else {}), shape, done, failed)

    def stream(self) -> QNetworkReply:
        """Open the event stream; the caller reads it and ends it."""
        request = self._request(self._base + "/api/events", 0)
        request.setRawHeader(b"Accept", b"text/event-stream")
        return self._manager.get(request)

    def abort(self) -> None:
        """Drop every call that is out; neither of its callbacks runs."""
        for reply in list(self._open):
            self.drop(reply)

    def waits_for(self, reply: QNetworkReply) -> bool:
        """Whether this call's answer is still to come."""
        return reply in self._open

    def drop(self, reply: QNetworkReply) -> None:
        """Drop one call; neither of its callbacks runs."""
        if self._open.pop(reply, None) is not None:
            reply.abort()
            reply.deleteLater()

    def _request(self, address: str, timeout_ms: int = TIMEOUT_MS) -> QNetworkRequest:
        request = QNetworkRequest(QUrl(address))
        request.setAttribute(
            QNetworkRequest.Attribute.RedirectPolicyAttribute, QNetworkRequest.RedirectPolicy.ManualRedirectPolicy
        )
        request.setAttribute(QNetworkRequest.Attribute.CookieLoadControlAttribute, QNetworkRequest.LoadControl.Manual)
        request.setAttribute(QNetworkRequest.Attribute.CookieSaveControlAttribute, QNetworkRequest.LoadControl.Manual)
        if self._base and address.startswith(self._base + "/api/") and "/api/hello?" not in address:
            request.setRawHeader(b"Authorization", f"Bearer {self._token}".encode())
        if timeout_ms:
            request.setTransferTimeout(timeout_ms)
        return request

    def _send(
        self, request: QNetworkRequest, method: str, body: bytes, shape: Any, done: Done, failed: Failed
    ) -> QNetworkReply:
        verb = QByteArray(method.encode())
        reply = self._manager.sendCustomRequest(request, verb, QByteArray(body))
        self._open[reply] = (shape, done, failed)
        # A closure that held the reply would outlive it, and crash where the manager ends before the reply's deletion.
        reply.finished.connect(self._finish)
        return reply

    def _finish(self) -> None:
        reply = self.sender()
        call = self._open.pop(reply, None) if isinstance(reply, QNetworkReply) else None
        if call is None or not isinstance(reply, QNetworkReply):
            return
        shape, done, failed = call
        status = int(reply.attribute(QNetworkRequest.Attribute.HttpStatusCodeAttribute) or 0)
        body = bytes(reply.readAll().data())
        error = reply.error()
        reply.deleteLater()
        if status == 0:
            failed(Failure(0, "NO_ANSWER", "The engine does not answer."))
        elif 200 <= status < 300 and error == QNetworkReply.NetworkError.NoError:
            self._decode(body, shape, done, failed)
        else:
            failed(_problem(status, body))

    def _decode(self, body: bytes, shape: Any, done: Done, failed: Failed) -> None:
        try:
            answer = msgspec.json.decode(body, type=shape)
        except msgspec.DecodeError as error:
            failed(Failure(502, "WRONG_ANSWER", f"The engine's answer was not understood: {error}."))
            return
        done(answer)


def _problem(status: int, body: bytes) -> Failure:
    try:
        problem = msgspec.json.decode(body, type=types.Problem)
    except msgspec.DecodeError:
        return Failure(status, "HTTP", f"The engine answered with HTTP {status}.")
    return Failure(status, problem.code, problem.message)


class Query(QObject):
    """One thing that is shown and fetched again and again: one call at a time, the newest wish wins."""

    arrived = Signal(object)
    failed = Signal(object)

    def __init__(self, client: Client, shape: Any, address: str = "", parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._client, self._shape, self._address = client, shape, address
        self._reply: QNetworkReply | None = None
        self._again = False
        self.data: Any = None

    @property
    def address(self) -> str:
        """What is fetched."""
        return self._address

    @property
    def busy(self) -> bool:
        """Whether an answer is awaited."""
        return self._reply is not None

    def ask(self, address: str) -> None:
        """Fetch something else from now on, at once; what was known of the former is forgotten."""
        if address != self._address:
            self.forget()
            self._address = address
        self.refresh()

    def forget(self) -> None:
        """Drop the call that is out and the data."""
        if self._reply is not None:
            self._client.drop(self._reply)
            self._reply = None
        self._again = False
        self.data = None

    def refresh(self) -> None:
        """Fetch it; while a call is out, once more after it."""
        if not self._address or not self._client.base:
            return
        if self._reply is not None and self._client.waits_for(self._reply):
            self._again = True
            return
        self._again = False
        self._reply = self._client.get(self._address, self._shape, self._done, self._fail)

    def _done(self, answer: Any) -> None:
        self._reply = None
        self.data = answer
        self.arrived.emit(answer)
        self._more()

    def _fail(self, failure: Failure) -> None:
        self._reply = None
        self.failed.emit(failure)
        if not failure.no_answer:
            self._more()

    def _more(self) -> None:
        if self._again:
            self._again = False
            QTimer.singleShot(0, self, self.refresh)
