"""The first page: is it running, is it up to date, what needs me, and one cause with its cure for all that is wrong."""

from __future__ import annotations

from typing import Any

from engine import clock
from engine.api import phrases, types, types_jobs, types_overview
from engine.api.context import Context
from engine.api.pausing import paused_until
from engine.api.views import queues
from engine.errors import BrokerUnavailable, StoreUnavailable
from engine.logs import logger
from engine.plaid.words import words, words_for_state

FRESH_S = 15.0
"""A worker without a sign of life for longer is not counted on."""


UNANNOUNCED = 3
"""Runs of a day that found news without a webhook, from which on it is no accident."""
NOTHING: dict[str, Any] = {
    "items": 0, "fresh": 0, "paused": 0, "first_data": 0, "trouble": 0, "oldest_s": None, "needs": [], "groups": [],
    "queues": {}, "suggestions": 0, "update_ms": None, "last_webhook_at": None, "refused_1h": 0,
    "schedule": {"jobs": 0, "next_run_at": None, "next_backup_at": None}, "install_trouble": None,
    "engine_pause": None, "server_version": "?", "unannounced": {"items": 0, "runs": 0, "last_at": None},
}  # fmt: skip
"""What is known while the database does not answer."""


def overview(context: Context) -> types_overview.Overview:
    """Everything of the first page in one answer; also while Redis or Postgres are away, with that as a cause."""
    begun = clock.monotonic()
    store_ms: float | None = None
    activity: list[dict[str, Any]] = []
    facts = NOTHING
    try:
        facts = context.store.call("overview", stale_s=context.settings.backup_every_s * 2 + 60)
        store_ms = clock.ms_since(begun)
        activity = context.store.call("activity", limit=12)
    except StoreUnavailable as error:
        logger("api").warning("The overview lacks what the database knows", code=error.code)
    status = context.host.status()
    queue_ms, workers = _workers(context)
    stopped = database_stopped(context)
    rows = queues(context, facts["queues"], reachable=workers is not None)
    found = causes(facts, status, rows, workers)
    if store_ms is None:
        found.insert(0, _DATABASE_LOST)
    elif stopped is not None:
        found.insert(0, stopped)
    bank_data = _bank_data(facts)
    if store_ms is None:
        bank_data.state = "trouble"
    return types_overview.Overview(
        engine=engine(status.engine, facts["engine_pause"], found),
        bank_data=bank_data,
        causes=found,
        needs=_needs(facts),
        suggestions=facts["suggestions"],
        figures=_figures(rows, facts),
        queues=rows,
        services=_services(context, facts, rows, workers, store_ms, queue_ms, stopped),
        activity=[phrases.activity(row) for row in activity],
    )


_DATABASE_LOST = types_overview.Cause(
    "DATABASE_LOST",
    "error",
    "The database does not answer",
    "Plaid sends its webhooks again and waiting jobs are kept; everything goes on by itself when it is back.",
)
_DATABASE_STOPPED = {
    "DATABASE_READ_ONLY": types_overview.Cause(
        "DATABASE_READ_ONLY",
        "error",
        "The database takes no writes",
        "It is a standby, or somebody stopped them, often because its disk is nearly full. Jobs wait and use up no "
        "tries; they go on by themselves as soon as it takes writes again.",
    ),
    "DATABASE_FULL": types_overview.Cause(
        "DATABASE_FULL",
        "error",
        "The database's disk is full",
        "Free some space there. Jobs wait and use up no tries; they go on by themselves once there is room.",
    ),
}


def database_stopped(context: Context) -> types_overview.Cause | None:
    """Why work waits for a database that can still be read; None while it does not."""
    try:
        return _DATABASE_STOPPED.get(context.view.gate() or "")
    except BrokerUnavailable:
        return None


def engine(info: types.EngineInfo, pause: dict[str, Any] | None, found: list[types_overview.Cause]) -> types.EngineInfo:
    """The host's word on the engine, overlaid with what it does not know: a pause, and causes of trouble."""
    if info.state == "running":
        if pause is not None:
            info.state, info.paused_until = "paused", paused_until(pause)
        elif trouble := [cause for cause in found if cause.tone in {"warn", "error"}]:
            info.state, info.cause = "degraded", trouble[0].title
    return info


def _workers(context: Context) -> tuple[float | None, list[dict[str, Any]] | None]:
    begun = clock.monotonic()
    try:
        found = context.view.workers()
    except BrokerUnavailable:
        return None, None
    return clock.ms_since(begun), [row for row in found if row["heartbeat_age_s"] < FRESH_S]


def causes(
    facts: dict[str, Any],
    status: types.Status,
    rows: list[types_jobs.QueueStatus],
    workers: list[dict[str, Any]] | None,
) -> list[types_overview.Cause]:
    """What is wrong now, worst first."""
    found: list[types_overview.Cause] = []
    if workers is None:
        found.append(
            types_overview.Cause(
                "QUEUE_LOST",
                "error",
                "The queue does not answer",
                "Webhooks are still taken and nothing is lost; jobs go on by themselves when it is back.",
            )
        )
    for process in status.processes:
        if process.state == "given_up":
            sentence = process.note or f"The part {process.role} ended again and again and was left stopped."
            found.append(
                types_overview.Cause(
                    "CRASH_LOOP", "error", "A part keeps ending", sentence, "Open workers", process.role
                )
            )
    if facts["install_trouble"]:
        said = words(facts["install_trouble"]["code"], None)
        found.append(
            types_overview.Cause(facts["install_trouble"]["code"], "error", said.title, said.sentence, said.action)
        )
    idle = [row.label for row in rows if row.consumers == 0]
    if workers is not None and idle:
        sentence = f"Nobody works on {', '.join(idle)}; jobs wait until a worker runs again."
        found.append(types_overview.Cause("NO_WORKERS", "error", "No workers", sentence, "Open workers", "workers"))
    found += [_failing(row) for row in rows if row.high_failure_rate]
    if facts["unannounced"]["runs"] >= UNANNOUNCED:
        runs, banks = facts["unannounced"]["runs"], phrases.count(facts["unannounced"]["items"], "bank")
        sentence = (
            f"In the last day {runs} syncs of {banks} found news that no "
            "webhook announced. The backup runs fetch everything; check the address that Plaid sends webhooks to."
        )
        found.append(types_overview.Cause("WEBHOOKS_MISSING", "warn", "Webhooks are missing", sentence))
    if facts["refused_1h"] >= 20:
        sentence = f"{facts['refused_1h']} in the last hour carried no signature that holds."
        found.append(types_overview.Cause("WEBHOOKS_REFUSED", "warn", "Webhooks are refused", sentence))
    return found


def _failing(row: types_jobs.QueueStatus) -> types_overview.Cause:
    sentence = f"Many jobs of {row.label} failed in the last quarter of an hour."
    return types_overview.Cause("HIGH_FAILURE_RATE", "warn", "Many failures", sentence, "See the causes", row.name)


def _bank_data(facts: dict[str, Any]) -> types_overview.BankData:
    expected = facts["items"] - facts["paused"] - facts["first_data"]
    if facts["items"] == 0:
        state = "none"
    elif facts["fresh"] == 0 and facts["trouble"] > 0:
        state = "trouble"
    else:
        state = "up_to_date" if facts["fresh"] >= expected else "behind"
    return types_overview.BankData(
        state=state,  # type: ignore[arg-type]
        items=facts["items"],
        fresh=facts["fresh"],
        oldest_s=facts["oldest_s"],
        next_run_at=facts["schedule"]["next_backup_at"],
    )


def _needs(facts: dict[str, Any]) -> list[types_overview.Need]:
    found = []
    for row in facts["needs"]:
        said = words_for_state(row["state"], row["code"], row["institution"] or None)
        subject = row["institution"] or row["label"] or "A bank"
        found.append(
            types_overview.Need(
                "item", row["id"], row["state"], said.title, subject, said.sentence, said.action or "Open"
            )
        )
    groups = facts["groups"]
    if groups:
        total = sum(group["open_jobs"] for group in groups)
        first = groups[0]
        where = ""
        if first["institution"]:
            some = "" if first["open_jobs"] == total else f", {first['open_jobs']} of them"
            where = f"{some} at {first['institution']}"
        error = first["error"] or {}
        found.append(
            types_overview.Need(
                "engine",
                first["fingerprint"],
                "error",
                f"{phrases.count(total, 'failed job')}{where}",
                first["institution"] or "",
                error.get("sentence") or error.get("title") or first["code"],
                "See the causes",
            )
        )
    return found


def _figures(rows: list[types_jobs.QueueStatus], facts: dict[str, Any]) -> types_overview.Figures:
    failed, done = sum(row.failed_24h for row in rows), sum(row.done_24h for row in rows)
    oldest = max(
        (row for row in rows if row.oldest_wait_ms is not None), key=lambda row: row.oldest_wait_ms or 0, default=None
    )
    return types_overview.Figures(
        running=sum(row.running for row in rows),
        waiting=sum(row.waiting for row in rows),
        oldest_wait_ms=oldest.oldest_wait_ms if oldest else None,
        oldest_wait_queue=oldest.label if oldest else None,
        failed_24h=failed,
        failed_share_24h=round(failed / (failed + done), 4) if failed + done else 0.0,
        update_to_database_ms=facts["update_ms"],
    )


def _services(
    context: Context,
    facts: dict[str, Any],
    rows: list[types_jobs.QueueStatus],
    workers: list[dict[str, Any]] | None,
    store_ms: float | None,
    queue_ms: float | None,
    stopped: types_overview.Cause | None,
) -> list[types_overview.Service]:
    settings = context.settings
    given = settings.origin
    trouble = facts["install_trouble"]
    threads = sum(worker["threads"] for worker in workers or [])
    busy = sum(worker["busy"] for worker in workers or [])
    idle = [row for row in rows if row.consumers == 0]
    plan = facts["schedule"]
    return [
        types_overview.Service(
            "queue",
            "Queue",
            "your own" if "redis_url" in given else "Valkey, built in",
            "ok" if queue_ms is not None else "error",
            f"{queue_ms:.1f} ms" if queue_ms is not None else "",
            "" if queue_ms is not None else "It does not answer.",
        ),
        types_overview.Service(
            "database",
            "Database",
            ("Postgres" if store_ms is None else f"Postgres {facts['server_version'].split()[0]}")
            + (", your own" if {"database_url", "supabase_url"} & set(given) else ", built in"),
            "error" if store_ms is None or stopped else "ok",
            "" if store_ms is None else f"{store_ms:.1f} ms",
            "It does not answer." if store_ms is None else (f"{stopped.title}." if stopped else ""),
        ),
        types_overview.Service(
            "plaid",
            "Plaid",
            settings.plaid_env if not settings.plaid_url else f"{settings.plaid_env}, {settings.plaid_url}",
            "error" if trouble else "ok",
            sentence=words(trouble["code"], None).title if trouble else "",
        ),
        types_overview.Service(
            "webhooks",
            "Webhooks",
            "signed" if facts["last_webhook_at"] else "none yet",
            "warn" if facts["refused_1h"] >= 20 else ("ok" if facts["last_webhook_at"] else "unknown"),
            _ago(facts["last_webhook_at"]),
        ),
        types_overview.Service(
            "workers",
            "Workers",
            f"{phrases.count(len({worker['pool'] for worker in workers or []}), 'pool')}, "
            f"{phrases.count(threads, 'thread')}",
            "unknown" if workers is None else ("error" if idle else "ok"),
            f"{busy} busy" if workers is not None else "",
        ),
        types_overview.Service(
            "schedule",
            "Schedule",
            phrases.count(plan["jobs"], "job"),
            "ok" if plan["next_run_at"] else "unknown",
            _until(plan["next_run_at"]),
        ),
    ]


def _ago(text: str | None) -> str:
    if text is None:
        return ""
    seconds = (clock.now() - clock.parse(text)).total_seconds()
    return "now" if seconds < 1 else f"{phrases.span(seconds)} ago"


def _until(text: str | None) -> str:
    if text is None:
        return ""
    seconds = (clock.parse(text) - clock.now()).total_seconds()
    return "due now" if seconds < 1 else f"next in {phrases.span(seconds)}"
