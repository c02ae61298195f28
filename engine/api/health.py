"""The health listener: is work being done, and its figures for Prometheus. No token, no names, no ids of people."""

from __future__ import annotations

import socket

from starlette.responses import Response

from engine.api import types_operation
from engine.api.context import Context
from engine.api.overview import database_stopped
from engine.api.phrases import QUEUE_LABELS, count
from engine.api.routing import Call, Route
from engine.errors import BrokerUnavailable, SyncdeskError

FRESH_S = 15.0
STALLED_S = 15.0
"""A consumer with free threads looks for jobs every second, also in a queue that is paused."""


def health(call: Call) -> Response:
    """200 while consumers advance (also with trouble: ``degraded``), 503 while they do not."""
    from engine.api.routing import json_response

    found = check(call.context)
    return json_response(found, 200 if found.state in {"alive", "degraded"} else 503)


def check(context: Context) -> types_operation.Health:
    """Look at broker, database and consumers. Alive means that every queue has a consumer that reports."""
    starting = context.host.status().engine.state in {"starting", "stopping"}
    checks = _consumers(context)
    consuming = all(entry.ok for entry in checks)
    try:
        context.store.call("settings_get", key="health")
    except SyncdeskError as error:
        checks.append(types_operation.Check("database", False, error.message))
    else:
        stopped = database_stopped(context)
        checks.append(types_operation.Check("database", stopped is None, f"{stopped.title}." if stopped else ""))
    if consuming:
        return types_operation.Health("alive" if checks[-1].ok else "degraded", context.version, checks)
    return types_operation.Health("starting" if starting else "dead", context.version, checks)


def _consumers(context: Context) -> list[types_operation.Check]:
    wanted = list(QUEUE_LABELS)
    try:
        workers = [row for row in context.view.workers() if row["heartbeat_age_s"] < FRESH_S]
    except BrokerUnavailable as error:
        unknown = "Unknown while the queue does not answer."
        return [
            types_operation.Check("queue", False, error.message),
            *(types_operation.Check(queue, False, unknown) for queue in wanted),
        ]
    if context.own_pid is not None:
        here = socket.gethostname()
        workers = [row for row in workers if row["pid"] == context.own_pid and row["host"] == here]
        wanted = [queue for queue in QUEUE_LABELS if queue in workers[0]["queues"]] if workers else ["worker"]
    advancing = [row for row in workers if row["stalled_s"] < STALLED_S]
    reported, served = ({queue for row in rows for queue in row["queues"]} for rows in (workers, advancing))
    found = [types_operation.Check("queue", True)]
    for queue in wanted:
        words = "Its consumer reports but takes no jobs." if queue in reported else "No consumer reports."
        found.append(types_operation.Check(queue, queue in served, "" if queue in served else words))
    return found


def metrics(call: Call) -> Response:
    """Prometheus' text format (`engine.api.metrics`)."""
    from engine.api.metrics import text

    body, media = text(call.context)
    return Response(body, media_type=media)


def summary(found: types_operation.Health) -> str:
    """One line for people."""
    wrong = [entry.name for entry in found.checks if not entry.ok]
    return found.state if not wrong else f"{found.state}: {count(len(wrong), 'check')} failed ({', '.join(wrong)})"


def routes() -> list[Route]:
    """The health listener's table."""
    return [
        Route(
            method="GET",
            path="/health",
            summary="Whether consumers advance.",
            handler=health,
            token=None,
            answer=types_operation.Health,
            errors=(503,),
        ),
        Route(
            method="GET",
            path="/metrics",
            summary="Figures for Prometheus.",
            handler=metrics,
            token=None,
            answer=str,
            media="text/plain",
        ),
    ]
