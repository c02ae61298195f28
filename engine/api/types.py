"""The words of the admin API: what the engine answers and what a console may send.

The console imports this module and nothing else of the API, so it must stay free of
everything but msgspec. Times are ISO 8601 strings in UTC, durations are numbers whose
name ends in ``_ms`` or ``_s``, money is decimal text, and lists are pages by keyset:
``next`` goes back as ``after`` for the following page and is null on the last one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

JobState = Literal["waiting", "delayed", "running", "retrying", "failed", "discarded", "done"]
ItemState = Literal[
    "healthy", "syncing", "first_data", "bank_trouble", "needs_you", "expiring", "paused", "error", "removed"
]
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


class Cause(Struct):
    """One thing that is wrong, in a person's words, with the action that cures it."""

    code: str
    tone: Literal["warn", "error", "info"]
    title: str
    sentence: str
    action: str | None = None
    target: str | None = None


class Need(Struct):
    """A row of "needs you": what, whom, one sentence, one button."""

    kind: Literal["item", "bill", "engine"]
    id: str
    state: ItemState | Literal["review"]
    title: str
    subject: str
    sentence: str
    action: str


class Service(Struct):
    name: Literal["queue", "database", "plaid", "webhooks", "workers", "schedule"]
    label: str
    detail: str
    state: Literal["ok", "warn", "error", "unknown"]
    figure: str = ""
    sentence: str = ""


class Activity(Struct):
    at: str
    icon: str
    tone: Literal["ok", "active", "warn", "error", "idle"]
    text: str
    target: str | None = None


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


class Figures(Struct):
    running: int
    waiting: int
    oldest_wait_ms: float | None
    oldest_wait_queue: str | None
    failed_24h: int
    failed_share_24h: float
    update_to_database_ms: float | None


class BankData(Struct):
    state: Literal["up_to_date", "behind", "none", "trouble"]
    items: int
    fresh: int
    oldest_s: float | None
    next_run_at: str | None


class Overview(Struct):
    engine: EngineInfo
    bank_data: BankData
    causes: list[Cause]
    needs: list[Need]
    suggestions: int
    figures: Figures
    queues: list[QueueStatus]
    services: list[Service]
    activity: list[Activity]
    away: str | None = None


class ChartSlot(Struct):
    at: str
    done: int
    failed: int
    known: bool = True


class Chart(Struct):
    span: Span
    slot_s: int
    slots: list[ChartSlot]


class Attempt(Struct):
    """One numbered start of a job; ``error`` is the scrubbed failure, null while it runs or where it went through."""

    number: int
    started_at: str
    duration_ms: float | None
    outcome: Literal["running", "done", "failed", "lost"]
    error: ErrorInfo | None = None
    waited_ms: float | None = None
    worker: str | None = None


class ErrorInfo(Struct):
    """An error as it may be shown and stored: no secret, no amount, no name of a merchant."""

    kind: str
    code: str
    title: str
    sentence: str
    detail: dict[str, Any] = field(default_factory=dict)
    traceback: str = ""


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


class JobDetail(Struct):
    job: Job
    timeline: list[Attempt]
    thread: list[ThreadEvent]
    arguments: dict[str, Any]
    title: str
    sentence: str
    action: str | None
    allowed: list[str]


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


class Item(Struct):
    id: str
    plaid_item_id: str
    user_id: str
    user: str
    institution_id: str | None
    institution: str
    label: str
    state: ItemState
    state_code: str | None
    title: str
    sentence: str
    action: str | None
    accounts: int
    transactions: int
    last_success_at: str | None
    newest_data_at: str | None
    next_sync_at: str | None
    lag_s: float | None
    progress: int | None = None


class ItemPage(Struct):
    items: list[Item]
    counts: dict[str, int]
    next: str | None = None


class Run(Struct):
    id: str
    trigger: str
    started_at: str
    duration_ms: float | None
    state: Literal["running", "done", "failed", "abandoned"]
    pages: int
    added: int
    modified: int
    removed: int
    skipped: int
    tagged: int
    error_code: str | None = None
    correlation_id: str = ""


class Account(Struct):
    """Two clocks: ``last_success_at`` is ours (null where it is closed), ``newest_data_at`` the bank's.

    ``silent_since``: without news for longer than is usual for it. ``replaced_by``: the account that took its place.
    """

    id: str
    name: str
    mask: str | None
    type: str
    currency: str | None
    balance: str | None
    newest_data_at: str | None
    last_success_at: str | None = None
    silent_since: str | None = None
    closed_at: str | None = None
    replaced_by: str | None = None


class SetAside(Struct):
    """A row that the database or its reader refused. ``reason`` is for programs, ``sentence`` for people."""

    id: str
    transaction_id: str | None
    reason: str
    sentence: str
    at: str
    tries: int = 0
    tried_at: str | None = None


class SetAsidePage(Struct):
    rows: list[SetAside]
    total: int
    next: str | None = None


class TryAgain(Struct):
    """``ids`` of rows that were set aside; null: all of the bank."""

    ids: list[str] | None = None


class ItemDetail(Struct):
    item: Item
    accounts: list[Account]
    runs: list[Run]
    removes: str
    set_aside: SetAsidePage | None = None


class Bill(Struct):
    id: str
    user_id: str
    name: str
    amount: str | None
    amount_min: str | None
    amount_max: str | None
    currency: str
    category: str | None
    cadence: str
    state: Literal["paid", "due", "overdue", "upcoming", "ended"]
    due: str | None
    next_due: str | None
    paid_on: str | None
    paid_amount: str | None
    days_late: int | None
    archived: bool = False


class Evidence(Struct):
    """One line of why a payment fits a bill, or why not."""

    feature: Literal["amount", "name", "category", "date", "account", "currency", "rejected", "taken"]
    fits: bool
    text: str
    weight: float = 0.0


class Match(Struct):
    id: str
    bill_id: str
    bill: str
    transaction_id: str
    period: str
    state: Literal["auto", "suggested", "confirmed", "rejected", "assigned"]
    score: float
    description: str
    institution: str
    date: str
    amount: str
    currency: str
    evidence: list[Evidence]
    others: list[Candidate] = field(default_factory=list)
    version: str = ""


class Candidate(Struct):
    """Another payment that was weighed for the same bill period, and what spoke against it."""

    transaction_id: str
    description: str
    date: str
    amount: str
    currency: str
    evidence: list[Evidence]


class BillPage(Struct):
    bills: list[Bill]
    counts: dict[str, int]
    next: str | None = None


class MatchPage(Struct):
    matches: list[Match]
    counts: dict[str, int]
    next: str | None = None


class BillDetail(Struct):
    """``nearest``: payments around the due date that did not match, with why; ``written``: what the person typed."""

    bill: Bill
    history: list[Match]
    nearest: list[Candidate]
    written: BillWrite | None = None


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


class Queues(Struct):
    queues: list[QueueStatus]


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


class LinkState(Struct):
    """``GET /api/items/link/{session}``: where a hosted link session stands."""

    session: str
    state: Literal["waiting", "done", "gave_up", "expired"]
    message: str
    ids: list[str] = field(default_factory=list)


class LinkStart(Struct):
    """``POST /api/items/link`` without a token: the page to open and the session to follow."""

    session: str
    url: str


class Event(Struct):
    """One line of ``GET /api/events``: what kind of thing changed; clients fetch what they show.

    Topics: engine, queues, jobs, bulks, items, runs, bills, workers, schedule, notices, hello.
    """

    topic: str
    id: str | None = None
    at: str = ""


class QueueChange(Struct):
    """Null leaves a limit as it is; ``per_minute`` 0 takes the rate limit away."""

    concurrency: int | None = None
    per_minute: int | None = None


class SyncRequest(Struct):
    item_id: str | None = None
    all: bool = False


class LinkRequest(Struct):
    public_token: str | None = None
    user: str | None = None
    item_id: str | None = None


class GroupRetry(Struct):
    expected: Count


class EnginePause(Struct):
    minutes: int | None = None


class TriggerChange(Struct):
    trigger: dict[str, Any]


class BillWrite(Struct):
    name: str
    cadence: str
    anchor_date: str
    currency: str = "USD"
    amount: str | None = None
    amount_min: str | None = None
    amount_max: str | None = None
    category: str | None = None
    tolerance: str = "0.10"
    aliases: list[str] = field(default_factory=list)
    business_day_shift: Literal["none", "next", "previous"] = "none"
    account_id: str | None = None
    start_date: str | None = None
    end_date: str | None = None
    user: str | None = None


class MatchAssign(Struct):
    bill_id: str
    transaction_id: str
    period: str
