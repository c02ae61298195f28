"""The words of the admin API: what the engine answers and what a console may send.

This module has what several rooms share, the modules ``types_…`` beside it have what is one's own. The console imports
these and nothing else of the API, so they must stay free of everything but msgspec. Times are ISO 8601 strings in UTC,
durations are numbers whose name ends in ``_ms`` or ``_s``, money is decimal text, and lists are pages by keyset:
``next`` goes back as ``after`` for the following page and is null on the last one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

EngineState = Literal["starting", "running", "paused", "degraded", "stopping", "stopped"]
QueueName = Literal["transactions", "webhooks", "notifications"]
Span = Literal["1h", "24h", "7d"]
TokenKind = Literal["view", "operate", "admin"]
Count = Annotated[int, Meta(ge=0, le=2_147_483_647)]
"""A number of things, no larger than the database's integer."""


class Hello(Struct):
    """Unauthenticated greeting: ``proof`` is hex HMAC-SHA256 of the caller's nonce under the token."""

    engine: str
    version: str
    proof: str


class Problem(Struct):
    """Every refusal and failure of both listeners, RFC 9457 in spirit: a code for programs, a sentence for people."""

    code: str
    message: str
    detail: dict[str, Any] = field(default_factory=dict)


class Done(Struct):
    """Answer of an action: a sentence for the person, and what was made or touched."""

    message: str
    ids: list[str] = field(default_factory=list)
    correlation_id: str | None = None


class ProcessInfo(Struct):
    role: str
    pid: int | None
    state: Literal["starting", "running", "quiet", "stopping", "stopped", "crashed", "given_up"]
    started_at: str | None = None
    memory_mb: float | None = None
    memory_limit_mb: float | None = None
    restarts: int = 0
    note: str | None = None
    heartbeat_age_s: float | None = None


class EngineInfo(Struct):
    state: EngineState
    version: str
    profile: str
    pid: int
    started_at: str
    step: str | None = None
    cause: str | None = None
    paused_until: str | None = None
    environment: Literal["simulated", "sandbox", "production"] = "simulated"
    plaid_url: str | None = None


class Endpoints(Struct):
    public: str | None
    admin: str | None
    health: str | None


class Status(Struct):
    """``syncdeskctl status --json`` and ``GET /api/status``."""

    engine: EngineInfo
    processes: list[ProcessInfo]
    endpoints: Endpoints
    token_kind: TokenKind = "view"  # noqa: S105 - the kind of a token, no token


class ErrorInfo(Struct):
    """An error as it may be shown and stored: no secret, no amount, no name of a merchant."""

    kind: str
    code: str
    title: str
    sentence: str
    detail: dict[str, Any] = field(default_factory=dict)
    traceback: str = ""


class Event(Struct):
    """One line of ``GET /api/events``: what kind of thing changed; clients fetch what they show.

    Topics: engine, queues, jobs, bulks, items, runs, bills, workers, schedule, notices, hello.
    """

    topic: str
    id: str | None = None
    at: str = ""
