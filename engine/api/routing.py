"""Routes as a table: one row gives the path, who may call it, what goes in and what comes out.

The Starlette application and the OpenAPI document (`engine.api.openapi`) are both made from
the rows, so neither can tell what the other does not do.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import anyio
import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from engine.api import auth, problems
from engine.api.context import Context
from engine.api.rates import Rate
from engine.api.threads import Threads
from engine.api.types import TokenKind
from engine.errors import Forbidden, UsageError

READ_BODY_S = 10.0
"""Longest time a caller may take to send its body."""
DRAINED = 4
"""How many times the limit of a body is read and thrown away before the connection is cut."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request as a handler sees it: already authorised, validated and decoded."""

    context: Context
    path: Mapping[str, str]
    query: Any
    body: Any
    kind: TokenKind | None
    who: str


Handler = Callable[[Call], Any]
RawHandler = Callable[[Request, Context], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One row of a listener's table.

    ``handler`` runs in a thread and returns what msgspec encodes as ``answer`` (a tuple: one of them); ``raw`` serves
    what does not fit (streams, webhooks) on the event loop and does its own checks.
    ``per_minute`` bounds the calls, of those who may call it at all where it wants a token.
    ``secret`` names what a route asks for other than a token. ``errors`` are statuses beyond
    those that every route may answer.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    summary: str
    answer: Any
    token: TokenKind | None = "view"  # noqa: S105 - the kind of a token, no token
    handler: Handler | None = None
    raw: RawHandler | None = None
    body: Any = None
    body_required: bool = True
    query: Any = None
    errors: tuple[int, ...] = ()
    media: str = "application/json"
    secret: str | None = None
    limit: int = 65_536
    per_minute: int | None = None

    @property
    def name(self) -> str:
        """The operation's id: method and path as one word."""
        words = [word.strip("{}").replace(".", "_").replace("-", "_") for word in self.path.split("/") if word]
        return "_".join([self.method.lower(), *words])


def json_response(answer: Any, status: int = 200) -> Response:
    """Encode an answer; never cached, since it shows a state that changes."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(msgspec.json.encode(answer), status, headers, "application/json")


async def read_body(request: Request, limit: int) -> bytes:
    """The raw body, bounded in size and time.

    Raises:
        problems.TooLarge: it is, or says that it is, longer than ``limit`` bytes.
        problems.TooSlow: it did not arrive in time.
    """
    declared = request.headers.get("content-length", "")
    # A little too much is read to its end, so that the caller gets to see the answer; more is cut off.
    most = limit * DRAINED
    if declared.isdigit() and int(declared) > most:
        raise problems.TooLarge(f"The body may have {limit} bytes at most.")
    parts: list[bytes] = []
    size = 0
    try:
        with anyio.fail_after(READ_BODY_S):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    break
                if size <= limit:
                    parts.append(part)
    except TimeoutError as error:
        raise problems.TooSlow("The body did not arrive in time.") from error
    except ClientDisconnect as error:
        raise UsageError("The connection was closed before the body was complete.") from error
    if size > limit:
        raise problems.TooLarge(f"The body may have {limit} bytes at most.")
    return b"".join(parts)


def is_json(request: Request) -> bool:
    """Whether the request says that its body is JSON."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower() == "application/json"


def application(context: Context, routes: Sequence[Route], name: str, threads: int = 16) -> Starlette:
    """The Starlette application of a table. Handlers share ``threads`` threads, called after ``name``."""
    pool = Threads(threads, name)
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, []).append(route)
    served = []
    for path, rows in by_path.items():
        methods: dict[str, Endpoint] = {row.method: _endpoint(context, row, pool) for row in rows}
        served.append(StarletteRoute(path, functools.partial(_choose, methods), methods=list(methods)))
    made = Starlette(
        routes=served,
        exception_handlers={
            404: problems.no_such_path,
            405: problems.wrong_method,
            Exception: problems.unexpected,
        },
    )
    # A redirect would lead wherever the Host header says.
    made.router.redirect_slashes = False
    return made


Endpoint = Callable[[Request], Awaitable[Response]]


async def _choose(methods: Mapping[str, Endpoint], request: Request) -> Response:
    # Starlette adds HEAD beside GET.
    return await methods["GET" if request.method == "HEAD" else request.method](request)


def _endpoint(context: Context, route: Route, threads: Threads) -> Endpoint:
    rate = Rate(route.per_minute) if route.per_minute is not None else None

    async def endpoint(request: Request) -> Response:
        try:
            kind = None
            if route.token is not None:
                kind = context.tokens.kind(request.headers.get("authorization"))
                _authorise(kind, route.token)
            if rate is not None and not rate.take():
                raise problems.TooOften("Too many calls; try again later.", retry_after_s=rate.wait_s())
            if route.raw is not None:
                return await route.raw(request, context)
            call = Call(
                context=context,
                path=_path(request),
                query=_query(request, route.query),
                body=await _body(request, route),
                kind=kind,
                who=f"{kind} token" if kind else "nobody",
            )
            if route.handler is None:
                raise RuntimeError(f"{route.name} has no handler")
            answer = await asyncio.get_running_loop().run_in_executor(threads, route.handler, call)
            return answer if isinstance(answer, Response) else json_response(answer)
        except Exception as error:  # noqa: BLE001 - one seam gives every failure its status and its sentence
            return problems.response(error, route.name)

    return endpoint


def _authorise(kind: TokenKind | None, needed: TokenKind) -> None:
    if kind is None:
        raise problems.Unauthorised("A token is needed: send it as Authorization: Bearer.")
    if not auth.allowed(kind, needed):
        raise Forbidden(f"This needs a token of kind {needed}; yours is of kind {kind}.", needed=needed, kind=kind)


def _path(request: Request) -> dict[str, str]:
    values = {name: str(value) for name, value in request.path_params.items()}
    for name, value in values.items():
        if len(value) > 200 or not value.isprintable():
            raise UsageError(f"The {name} in the path cannot be right.")
    return values


def _query(request: Request, shape: Any) -> Any:
    if shape is None:
        return None
    given = dict(request.query_params)
    unknown = sorted(set(given) - {item.name for item in msgspec.structs.fields(shape)})
    if unknown:
        raise UsageError(f"Unknown parameter: {unknown[0][:60]}.")
    if any("\x00" in value for value in given.values()):
        raise UsageError("A parameter holds a character that cannot be searched for.")
    try:
        return msgspec.convert(given, shape, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"A parameter is wrong: {error}.") from error


async def _body(request: Request, route: Route) -> Any:
    if route.body is None:
        return None
    raw = await read_body(request, route.limit)
    if not raw and not route.body_required:
        return route.body()
    if not is_json(request):
        raise problems.WrongType("Send the body as application/json.")
    try:
        text = raw.decode()
        if "\\u0000" in text or "\x00" in text:
            raise UsageError("The body holds a NUL character, which cannot be stored.")
        return msgspec.json.decode(text, type=route.body)
    except UnicodeDecodeError as error:
        raise UsageError("The body is not UTF-8.") from error
    except msgspec.DecodeError as error:
        raise UsageError(f"The body is wrong: {error}.") from error
