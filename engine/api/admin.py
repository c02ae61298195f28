"""The admin listener's table: everything the console and the command line do, each row with the token it needs."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from engine.api import (
    admin_banks,
    admin_bills,
    admin_bulk,
    admin_jobs,
    admin_operation,
    admin_transactions,
    admin_users,
    admin_webhooks,
    analytics,
    types,
    types_overview,
)
from engine.api import overview as first_page
from engine.api.admin_jobs import SpanQuery
from engine.api.auth import RANK
from engine.api.context import Context
from engine.api.events import Fan
from engine.api.routing import Call, Route
from engine.errors import StoreUnavailable, UsageError


class HelloQuery(Struct):
    """``nonce``: 16 to 128 characters of the caller's choice; ``kind``: under which token to prove."""

    nonce: str
    kind: types.TokenKind = "admin"


def hello(call: Call) -> types.Hello:
    """Prove that this engine knows the token, before the caller sends it."""
    nonce, kind = call.query.nonce, call.query.kind
    if not 16 <= len(nonce) <= 128 or kind not in RANK:
        raise UsageError("A nonce has 16 to 128 characters.")
    tokens = call.context.tokens
    return types.Hello(engine="syncdesk", version=call.context.version, proof=tokens.proof(nonce, kind))


def status(call: Call) -> types.Status:
    """State of the engine and its processes. Answers also where Postgres or Redis are away."""
    found = call.context.host.status()
    found.token_kind = call.kind or "view"
    try:
        pause = call.context.store.call("settings_get", key="engine_pause")
    except StoreUnavailable:
        found.engine.cause = found.engine.cause or "The database does not answer"
        if found.engine.state == "running":
            found.engine.state = "degraded"
        return found
    found.engine = first_page.engine(found.engine, pause, [])
    return found


def overview(call: Call) -> types_overview.Overview:
    return first_page.overview(call.context)


def chart(call: Call) -> Any:
    return call.context.store.call("job_chart", span=call.query.span)


def routes(fan: Fan) -> list[Route]:
    """The whole table."""

    async def events(request: Request, context: Context) -> Response:
        return await fan.stream(request, context)

    table: list[Route] = []

    def openapi(call: Call) -> dict[str, Any]:
        from engine.api import openapi as document

        return document.build("Syncdesk, admin listener", call.context.version, table)

    table += [
        Route(
            method="GET",
            path="/api/hello",
            summary="Greeting with a proof that the engine knows the token.",
            handler=hello,
            token=None,
            query=HelloQuery,
            answer=types.Hello,
        ),
        Route(
            method="GET", path="/api/status", summary="Engine, processes, addresses.", handler=status,
            answer=types.Status,
        ),
        Route(
            method="GET", path="/api/overview", summary="The console's first page.", handler=overview,
            answer=types_overview.Overview, errors=(503,),
        ),
        Route(
            method="GET", path="/api/chart", summary="Jobs done and failed over a span.", handler=chart,
            query=SpanQuery, answer=types_overview.Chart, errors=(503,),
        ),
        Route(
            method="GET", path="/api/events", summary="What changes, as it changes (server-sent events).", raw=events,
            answer=types.Event, media="text/event-stream", errors=(503,),
        ),
        Route(
            method="GET", path="/api/openapi.json", summary="This document.", handler=openapi, token=None,
            answer=dict[str, Any],
        ),
        *admin_jobs.routes(),
        *admin_bulk.routes(),
        *admin_banks.routes(),
        *admin_bills.routes(),
        *admin_transactions.routes(),
        *admin_webhooks.routes(),
        *admin_users.routes(),
        *admin_operation.routes(),
        *analytics.routes(),
    ]  # fmt: skip
    return table
