"""Queues, jobs and the groups of their failures, in the manner of `engine.api.types`."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from engine.api.types import Count, ErrorInfo, QueueName

JobState = Literal["waiting", "delayed", "running", "retrying", "failed", "discarded", "done"]


class QueueStatus(Struct):
    name: QueueName
    label: str
    paused: bool
    waiting: int
    delayed: int
    running: int
    retrying: int
    failed: int
    done_24h: int
    failed_24h: int
    oldest_wait_ms: float | None
    concurrency: int
    per_minute: int | None
    consumers: int
    last_hour: list[int] = field(default_factory=list)
    high_failure_rate: bool = False
    muted: int = 0


class Attempt(Struct):
    """One numbered start of a job; ``error`` is the scrubbed failure, null while it runs or where it went through."""

    number: int
    started_at: str
    duration_ms: float | None
    outcome: Literal["running", "done", "failed", "lost"]
    error: ErrorInfo | None = None
    waited_ms: float | None = None
    worker: str | None = None


class Job(Struct):
    id: str
    queue: QueueName
    actor: str
    state: JobState
    lane: Literal["high", "medium", "low"]
    trigger: str
    user_id: str | None
    item_id: str | None
    institution: str | None
    label: str
    correlation_id: str
    queued_at: str
    started_at: str | None = None
    finished_at: str | None = None
    due_at: str | None = None
    attempts: int = 0
    max_attempts: int = 4
    position: int | None = None
    worker: str | None = None
    error_code: str | None = None
    error_title: str | None = None
    group: str | None = None
    version: str = ""
    stuck_s: float | None = None
    """Seconds since a running job's last step, where that is longer than `SYNCDESK_STUCK_S`."""


class ThreadEvent(Struct):
    """One hop of a job's thread from webhook to rows and bill tags, with the milliseconds since the one before."""

    at: str
    kind: str
    text: str
    ms: float | None = None
    target: str | None = None


class WentThrough(Struct):
    """When what a failed job was for went through later, and the job that did it where one is known."""

    at: str
    job_id: str | None = None


class JobDetail(Struct):
    """``went_through``: of a job that stays listed as failed until a person retries or discards it."""

    job: Job
    timeline: list[Attempt]
    thread: list[ThreadEvent]
    arguments: dict[str, Any]
    title: str
    sentence: str
    action: str | None
    allowed: list[str]
    went_through: WentThrough | None = None


class JobPage(Struct):
    jobs: list[Job]
    counts: dict[str, int]
    next: str | None = None


class FailureGroup(Struct):
    """``open_jobs``: what a retry reaches; ``failed``: jobs that are still kept. A muted group is in no badge and
    alarms nobody until ``count`` passes ``muted_until``; ``rule_version``: the rule that grouped it."""

    fingerprint: str
    rule_version: int
    code: str
    title: str
    sentence: str
    action: str
    count: int
    open_jobs: int
    banks: int
    first_seen: str
    last_seen: str
    hours: list[int]
    failed: int = 0
    muted: bool = False
    muted_until: int | None = None


class FailureGroups(Struct):
    groups: list[FailureGroup]
    next: str | None = None


class RunningJob(Struct):
    job_id: str
    label: str
    actor: str
    thread: int
    running_ms: float
    limit_ms: float | None
    still_ms: float = 0.0
    steps: int = 0
    last_step: str = ""
    stuck: bool = False


class Queues(Struct):
    queues: list[QueueStatus]


class QueueChange(Struct):
    """Null leaves a limit as it is; ``per_minute`` 0 takes the rate limit away."""

    concurrency: int | None = None
    per_minute: int | None = None


class GroupRetry(Struct):
    expected: Count
