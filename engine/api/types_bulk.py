"""The words of bulk actions, in the manner of `engine.api.types`; as free of imports, since the console reads it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from engine.api.types import Count, ErrorInfo, QueueName

Verb = Literal["retry", "discard", "move"]
Lane = Literal["high", "medium", "low"]
BulkState = Literal["held", "canary", "running", "stopped", "done", "undone"]
EntryState = Literal["waiting", "released", "done", "skipped", "failed"]


class JobFilter(Struct, omit_defaults=True):
    """Which jobs: all that fit everything that is given. ``group`` is a cause's fingerprint, ``code`` an error's code,
    ``since`` and ``until`` bound the failure in time, ``q`` searches as the list of jobs does. Nothing given: all."""

    queue: QueueName | None = None
    lane: Lane | None = None
    group: str | None = None
    code: str | None = None
    item: str | None = None
    institution: str | None = None
    user: str | None = None
    since: str | None = None
    until: str | None = None
    q: str | None = None
    ids: list[str] = field(default_factory=list)


class BulkAsk(Struct):
    verb: Verb
    filter: JobFilter = field(default_factory=JobFilter)


class BulkStart(Struct):
    """``expected``: the number that the person saw. Null takes the setting for ``hold_s`` (how long it can be undone)
    and ``per_second``, and for ``canary``: one of each cause first, from ten jobs on. ``lane``: where they move."""

    verb: Verb
    expected: Count
    filter: JobFilter = field(default_factory=JobFilter)
    hold_s: float | None = None
    per_second: Count | None = None
    canary: bool | None = None
    lane: Lane | None = None


class BulkCause(Struct):
    fingerprint: str
    code: str
    title: str
    count: int


class LeftOut(Struct):
    reason: str
    count: int


class BulkPreview(Struct):
    """What a bulk action would be about now. ``total`` goes back as ``expected``; ``left_out`` is part of it."""

    total: int
    causes: list[BulkCause] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


class Bulk(Struct):
    """``held_ms``: how long it can still be undone; ``released``: begun, their end is not known yet."""

    id: str
    verb: Verb
    filter: JobFilter
    state: BulkState
    canary: bool
    per_second: int
    total: int
    released: int
    done: int
    skipped: int
    failed: int
    who: str
    note: str
    created_at: str
    release_at: str
    held_ms: int
    correlation_id: str = ""
    lane: Lane | None = None
    finished_at: str | None = None


class BulkReason(Struct):
    state: Literal["skipped", "failed"]
    reason: str
    count: int


class BulkDetail(Struct):
    bulk: Bulk
    reasons: list[BulkReason] = field(default_factory=list)


class BulkPage(Struct):
    bulks: list[Bulk]
    next: str | None = None


class BulkEntry(Struct):
    """One job of a bulk action; ``job_id`` is null where its record was trimmed."""

    n: int
    queue: QueueName
    target: str
    job_id: str | None
    institution: str | None
    state: EntryState
    reason: str
    new_job: str | None


class BulkEntryPage(Struct):
    entries: list[BulkEntry]
    next: str | None = None


class Mute(Struct):
    muted: bool = True


class FailureSample(Struct):
    job_id: str
    target: str
    at: str
    error: ErrorInfo


class FailureSamples(Struct):
    """The newest few errors of a cause, kept also where the jobs' own records were trimmed."""

    fingerprint: str
    rule_version: int
    samples: list[FailureSample]
