"""The pools of workers: what they report themselves, and what the host knows of their processes."""

from __future__ import annotations

from typing import Any, Literal

from engine.api import types, types_jobs, types_operation
from engine.api.context import Context
from engine.api.phrases import QUEUE_LABELS
from engine.errors import BrokerUnavailable

LABELS = {"sync": "Transaction sync", "events": "Webhooks and notifications"}
QUEUES = {"sync": ["transactions"], "events": ["webhooks", "notifications"]}
FRESH_S = 15.0

PoolState = Literal["running", "quiet", "stopped", "starting", "unknown"]


def workers(context: Context) -> types_operation.Workers:
    """Pools, other parts, and queues that nobody consumes. Where Redis is away, pools are unknown, not dead."""
    processes = context.host.status().processes
    try:
        reported: list[dict[str, Any]] | None = context.view.workers()
        queues = {row["name"]: row for row in context.view.queues()}
    except BrokerUnavailable:
        reported, queues = None, {}
    pools = [_pool(context, name, reported, queues, processes) for name in LABELS]
    mine = {f"worker-{name}" for name in LABELS}
    return types_operation.Workers(
        pools=pools,
        parts=[process for process in processes if process.role not in mine],
        orphans=[QUEUE_LABELS[name] for name, row in queues.items() if row["consumers"] == 0],
    )


def _pool(
    context: Context,
    name: str,
    reported: list[dict[str, Any]] | None,
    queues: dict[str, dict[str, Any]],
    processes: list[types.ProcessInfo],
) -> types_operation.Pool:
    supervised = [process for process in processes if process.role == f"worker-{name}"]
    members = [row for row in reported or [] if row["pool"] in {name, "all"}]
    fresh = [row for row in members if row["heartbeat_age_s"] < FRESH_S and row["state"] != "stopped"]
    settings = context.settings
    default = {
        "transactions": settings.sync_concurrency,
        "webhooks": settings.webhook_concurrency,
        "notifications": settings.notification_concurrency,
    }
    return types_operation.Pool(
        name=name,  # type: ignore[arg-type]
        label=LABELS[name],
        queues=QUEUES[name],
        state=_state(reported is not None, fresh, supervised),
        threads=sum(row["threads"] for row in fresh),
        busy=sum(row["busy"] for row in fresh),
        concurrency={queue: (queues.get(queue) or {}).get("concurrency") or default[queue] for queue in QUEUES[name]},
        processes=_processes(supervised, members),
        running=[
            types_jobs.RunningJob(
                job_id=job["job_id"],
                label=job["label"],
                actor=job["actor"],
                thread=job["thread"],
                running_ms=job["running_ms"],
                limit_ms=None,
                still_ms=job["still_ms"],
                steps=job.get("steps", 0),
                last_step=job.get("last_step", ""),
                stuck=job["stuck"],
            )
            for row in fresh
            for job in row["jobs"]
        ],
    )


def _state(known: bool, fresh: list[dict[str, Any]], supervised: list[types.ProcessInfo]) -> PoolState:
    if not known:
        return "unknown"
    if fresh:
        return "quiet" if all(row["state"] == "quiet" for row in fresh) else "running"
    return "starting" if any(process.state == "starting" for process in supervised) else "stopped"


def _processes(supervised: list[types.ProcessInfo], members: list[dict[str, Any]]) -> list[types.ProcessInfo]:
    """The host's processes with the figures that they report; replicas elsewhere besides."""
    by_pid = {row["pid"]: row for row in members}
    for process in supervised:
        row = by_pid.pop(process.pid, None) if process.pid is not None else None
        if row is not None:
            process.memory_mb, process.memory_limit_mb = row["memory_mb"], row["memory_limit_mb"]
            process.heartbeat_age_s = row["heartbeat_age_s"]
            if row["state"] == "quiet":
                process.state = "quiet"
    others = [
        types.ProcessInfo(
            role=f"worker-{row['pool']}",
            pid=row["pid"],
            state="quiet" if row["state"] == "quiet" else "running",
            started_at=row["started_at"],
            memory_mb=row["memory_mb"],
            memory_limit_mb=row["memory_limit_mb"],
            heartbeat_age_s=row["heartbeat_age_s"],
            note=f"on {row['host']}",
        )
        for row in by_pid.values()
        if row["heartbeat_age_s"] < FRESH_S
    ]
    return supervised + others
