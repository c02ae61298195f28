"""Workers, schedule, notices and health, in the manner of `engine.api.types`."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from engine.api.types import ProcessInfo
from engine.api.types_jobs import RunningJob


class Pool(Struct):
    name: Literal["sync", "events"]
    label: str
    queues: list[str]
    state: Literal["running", "quiet", "stopped", "starting", "unknown"]
    threads: int
    busy: int
    concurrency: dict[str, int]
    processes: list[ProcessInfo]
    running: list[RunningJob]


class Workers(Struct):
    pools: list[Pool]
    parts: list[ProcessInfo]
    orphans: list[str] = field(default_factory=list)


class ScheduledRun(Struct):
    at: str
    duration_ms: float | None
    outcome: Literal["done", "failed", "missed", "running"]
    text: str


class ScheduledJob(Struct):
    id: str
    label: str
    words: str
    trigger: dict[str, Any]
    paused: bool
    paused_by: str | None
    next_run_at: str | None
    next_five: list[str]
    last: ScheduledRun | None
    history: list[ScheduledRun]


class Schedule(Struct):
    jobs: list[ScheduledJob]
    active: bool
    holder: str | None


class Notice(Struct):
    id: str
    at: str
    kind: str
    tone: Literal["ok", "warn", "error", "info"]
    title: str
    sentence: str
    target: str | None
    read: bool


class Notices(Struct):
    notices: list[Notice]
    next: str | None = None


class AuditEntry(Struct):
    """One action of a person or program, also a refused one; ``who`` is the kind of token that it came with."""

    id: int
    at: str
    who: str
    action: str
    target: str
    reason: str
    result: str
    correlation_id: str
    detail: dict[str, Any]


class AuditPage(Struct):
    entries: list[AuditEntry]
    next: str | None = None


class Alive(Struct):
    """Health checks that tell nothing more."""

    ok: bool


class Check(Struct):
    name: str
    ok: bool
    sentence: str = ""


class Health(Struct):
    """``GET /health``: ``alive`` means that consumers advance. ``degraded`` still works, with trouble."""

    state: Literal["alive", "degraded", "starting", "dead"]
    version: str
    checks: list[Check]


class EnginePause(Struct):
    minutes: int | None = None


class TriggerChange(Struct):
    trigger: dict[str, Any]
