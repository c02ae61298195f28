"""A client of the admin API for the command line, the demo and tests. The console has its own, on Qt's event loop."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TypeVar

import httpx
import msgspec

from engine import clock, http
from engine.api import types, types_jobs
from engine.api.auth import proof
from engine.errors import Conflict, Forbidden, NotFound, NotRunningError, SyncdeskError, UsageError

T = TypeVar("T")
ENDED = ("done", "failed", "discarded")


class ApiError(SyncdeskError):
    """The engine refused or failed; ``message`` is its sentence, ``detail`` has ``code`` and ``status``."""

    code = "API"


_ERRORS: dict[int, type[SyncdeskError]] = {400: UsageError, 403: Forbidden, 404: NotFound, 409: Conflict}


class Client:
    """Calls of one engine's admin API. The engine proves that it knows the token before the token is sent.

    Args:
        admin: URL of the admin listener.
        kind: which kind of token ``token`` is.
        timeout_s: longest silence of the engine, seconds; a direct sync may take its time.
    """

    def __init__(self, admin: str, token: str, *, kind: types.TokenKind = "admin", timeout_s: float = 60.0) -> None:
        self._url, self._token, self._kind = admin, token, kind
        self._http = http.client(admin, timeout_s=timeout_s, local=True)
        self._proved = False

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def hello(self) -> types.Hello:
        """Greet the engine and check its proof.

        Raises:
            NotRunningError: nobody answers, or somebody who does not know the token.
        """
        nonce = secrets.token_hex(16)
        answer = self._send("GET", "/api/hello", params={"nonce": nonce, "kind": self._kind})
        try:
            said = msgspec.json.decode(answer.content, type=types.Hello)
        except msgspec.DecodeError as error:
            raise NotRunningError(f"What answers at {self._url} is no Syncdesk engine.") from error
        if not hmac.compare_digest(said.proof, proof(self._token, nonce)):
            raise NotRunningError(f"What answers at {self._url} does not know this token.")
        self._proved = True
        return said

    def get(self, path: str, shape: type[T], **query: Any) -> T:
        """``GET /api/<path>``, decoded as ``shape``; parameters that are None are left out.

        Raises:
            NotFound, Forbidden, UsageError, ApiError: the engine's refusal.
            NotRunningError: it does not answer.
        """
        params = {name: value for name, value in query.items() if value is not None}
        return msgspec.json.decode(self._call("GET", path, params=params), type=shape)

    def act(self, path: str, body: Any = None, *, method: str = "POST", shape: Any = types.Done) -> Any:
        """An action, decoded as ``shape`` (`types.Done`). Raises as `get`, and Conflict."""
        content = msgspec.json.encode(body) if body is not None else None
        return msgspec.json.decode(self._call(method, path, content=content), type=shape)

    def pages(self, path: str, shape: type[T], **query: Any) -> Iterator[T]:
        """Every page of a list, following ``next``."""
        after: str | None = None
        while True:
            page = self.get(path, shape, after=after, **query)
            yield page
            after = getattr(page, "next", None)
            if after is None:
                return

    def wait_job(self, job_id: str, deadline_s: float) -> types_jobs.JobDetail | None:
        """Follow a job to its end; None where it still runs after ``deadline_s``.

        Raises:
            NotFound: it ended and was trimmed before it was seen.
        """
        import threading

        pause, end = threading.Event(), clock.monotonic() + deadline_s
        while True:
            found = self.get(f"jobs/{job_id}", types_jobs.JobDetail)
            if found.job.state in ENDED:
                return found
            if clock.monotonic() > end:
                return None
            pause.wait(0.1)

    def events(self) -> Iterator[types.Event]:
        """The event stream, from now on. Ends with the engine, or where it was cut."""
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            with self._http.stream("GET", "/api/events", headers=headers, timeout=30.0) as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise _error(answer)
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        yield msgspec.json.decode(line[6:], type=types.Event)
        except httpx.HTTPError:
            return

    def _call(self, method: str, path: str, **more: Any) -> bytes:
        if not self._proved:
            self.hello()
        headers = {"Authorization": f"Bearer {self._token}"}
        if more.get("content") is not None:
            headers["Content-Type"] = "application/json"
        return self._send(method, f"/api/{path}", headers=headers, **more).content

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise NotRunningError(f"The engine does not answer at {self._url}.") from error
        if answer.status_code != 200:
            raise _error(answer)
        return answer


def _error(answer: httpx.Response) -> SyncdeskError:
    try:
        problem = msgspec.json.decode(answer.content, type=types.Problem)
    except msgspec.DecodeError:
        return ApiError(f"The engine answered with HTTP status {answer.status_code}.", status=answer.status_code)
    kind = _ERRORS.get(answer.status_code, ApiError)
    return kind(problem.message, **{**problem.detail, "code": problem.code, "status": answer.status_code})
