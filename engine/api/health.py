"""The health listener: is work being done, and its figures for Prometheus. No token, no names, no ids of people."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from engine.api import types
from engine.api.context import Context
from engine.api.overview import database_stopped
from engine.api.phrases import QUEUE_LABELS, count
from engine.api.routing import Call, Route
from engine.errors import BrokerUnavailable, SyncdeskError

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

FRESH_S = 15.0
STALLED_S = 15.0
"""A consumer with free threads looks for jobs every second, also in a queue that is paused."""


def health(call: Call) -> Response:
    """200 while consumers advance (also with trouble: ``degraded``), 503 while they do not."""
    from engine.api.routing import json_response

    found = check(call.context)
    return json_response(found, 200 if found.state in {"alive", "degraded"} else 503)


def check(context: Context) -> types.Health:
    """Look at broker, database and consumers. Alive means that every queue has a consumer that reports."""
    starting = context.host.status().engine.state in {"starting", "stopping"}
    checks = _consumers(context)
    consuming = all(entry.ok for entry in checks)
    try:
        context.store.call("settings_get", key="health")
    except SyncdeskError as error:
        checks.append(types.Check("database", False, error.message))
    else:
        stopped = database_stopped(context)
        checks.append(types.Check("database", stopped is None, f"{stopped.title}." if stopped else ""))
    if consuming:
        return types.Health("alive" if checks[-1].ok else "degraded", context.version, checks)
    return types.Health("starting" if starting else "dead", context.version, checks)


def _consumers(context: Context) -> list[types.Check]:
    wanted = list(QUEUE_LABELS)
    try:
        workers = [row for row in context.view.workers() if row["heartbeat_age_s"] < FRESH_S]
    except BrokerUnavailable as error:
        unknown = "Unknown while the queue does not answer."
        return [types.Check("queue", False, error.message), *(types.Check(queue, False, unknown) for queue in wanted)]
    if context.own_pid is not None:
        here = socket.gethostname()
        workers = [row for row in workers if row["pid"] == context.own_pid and row["host"] == here]
        wanted = [queue for queue in QUEUE_LABELS if queue in workers[0]["queues"]] if workers else ["worker"]
    advancing = [row for row in workers if row["stalled_s"] < STALLED_S]
    reported, served = ({queue for row in rows for queue in row["queues"]} for rows in (workers, advancing))
    found = [types.Check("queue", True)]
    for queue in wanted:
        words = "Its consumer reports but takes no jobs." if queue in reported else "No consumer reports."
        found.append(types.Check(queue, queue in served, "" if queue in served else words))
    return found


def metrics(call: Call) -> Response:
    """Prometheus' text format. What cannot be read now is missing, and ``syncdesk_up`` says so."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_collector(call.context))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _collector(context: Context) -> Collector:
    from collections.abc import Iterable

    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector

    class Figures(Collector):
        """Reads everything anew on each scrape."""

        def collect(self) -> Iterable[Metric]:
            up = GaugeMetricFamily("syncdesk_up", "Whether a service answers", labels=["service"])
            found: list[Metric] = [up]
            for service, read in (("queue", _queue_figures), ("database", _store_figures)):
                try:
                    found += read(context)
                    up.add_metric([service], 1)
                except SyncdeskError:
                    up.add_metric([service], 0)
            return found

    return Figures()


def _queue_figures(context: Context) -> list[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    jobs = GaugeMetricFamily("syncdesk_queue_jobs", "Live jobs", labels=["queue", "state"])
    oldest = GaugeMetricFamily("syncdesk_queue_oldest_wait_seconds", "Age of the longest waiting job", labels=["queue"])
    paused = GaugeMetricFamily("syncdesk_queue_paused", "Whether the queue is paused", labels=["queue"])
    consumers = GaugeMetricFamily("syncdesk_queue_consumers", "Worker processes on the queue", labels=["queue"])
    for row in context.view.queues():
        name = row["name"]
        for state in ("waiting", "delayed", "running", "retrying"):
            jobs.add_metric([name, state], row[state])
        oldest.add_metric([name], (row["oldest_wait_ms"] or 0) / 1000)
        paused.add_metric([name], int(row["paused"]))
        consumers.add_metric([name], row["consumers"])
    memory = GaugeMetricFamily("syncdesk_worker_memory_bytes", "Resident memory", labels=["worker", "pool"])
    busy = GaugeMetricFamily("syncdesk_worker_threads_busy", "Threads at a job", labels=["worker", "pool"])
    threads = GaugeMetricFamily("syncdesk_worker_threads", "Threads", labels=["worker", "pool"])
    beat = GaugeMetricFamily("syncdesk_worker_heartbeat_age_seconds", "Since its last sign", labels=["worker", "pool"])
    for row in context.view.workers():
        labels = [row["id"], row["pool"]]
        memory.add_metric(labels, row["memory_mb"] * 1024 * 1024)
        busy.add_metric(labels, row["busy"])
        threads.add_metric(labels, row["threads"])
        beat.add_metric(labels, row["heartbeat_age_s"])
    return [jobs, oldest, paused, consumers, memory, busy, threads, beat]


def _store_figures(context: Context) -> list[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    facts: dict[str, Any] = context.store.call("metrics")
    ended = CounterMetricFamily("syncdesk_jobs", "Jobs by outcome", labels=["queue", "outcome"])
    run = CounterMetricFamily("syncdesk_job_run_seconds", "Time spent running jobs", labels=["queue"])
    wait = CounterMetricFamily("syncdesk_job_wait_seconds", "Time that jobs waited", labels=["queue"])
    for row in facts["ended"]:
        for outcome in ("done", "failed", "retried"):
            ended.add_metric([row["queue"], outcome], row[outcome])
        run.add_metric([row["queue"]], row["run_ms"] / 1000)
        wait.add_metric([row["queue"]], row["wait_ms"] / 1000)
    kept = GaugeMetricFamily("syncdesk_failed_jobs", "Failed jobs that are kept", labels=["queue"])
    for queue in QUEUE_LABELS:
        kept.add_metric([queue], facts["failed"].get(queue, 0))
    items = GaugeMetricFamily("syncdesk_items", "Bank links", labels=["state"])
    for state, number in facts["items"].items():
        items.add_metric([state], number)
    lag = GaugeMetricFamily("syncdesk_sync_lag_seconds", "Since the last success of the link that is furthest behind")
    if facts["lag_s"] is not None:
        lag.add_metric([], facts["lag_s"])
    unfinished = GaugeMetricFamily("syncdesk_unfinished", "Work that the database knows of", labels=["kind"])
    for kind in ("unprocessed", "wanted", "unsent"):
        unfinished.add_metric([kind], facts[kind])
    return [ended, run, wait, kept, items, lag, unfinished]


def summary(found: types.Health) -> str:
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
            answer=types.Health,
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
