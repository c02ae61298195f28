"""The figures of ``/metrics`` in Prometheus' format: over all processes of the install, no ids, bounded labels.

What is live is read from Redis, what ended is counted in Postgres, so that it does not matter which process is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from engine.api.context import Context
from engine.api.phrases import QUEUE_LABELS
from engine.errors import SyncdeskError

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

POOLS = ("all", "events", "sync")


def text(context: Context) -> tuple[bytes, str]:
    """The whole page and its media type. What cannot be read now is missing, and ``syncdesk_up`` says so."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_collector(context))
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _collector(context: Context) -> Collector:
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector

    class Figures(Collector):
        """Reads everything anew on each scrape."""

        def collect(self) -> Iterable[Metric]:
            up = GaugeMetricFamily("syncdesk_up", "Whether a service answers", labels=["service"])
            found: list[Metric] = [up, _restarts(context)]
            for service, read in (("queue", _queue_figures), ("database", _store_figures)):
                try:
                    found += read(context)
                    up.add_metric([service], 1)
                except SyncdeskError:
                    up.add_metric([service], 0)
            return found

    return Figures()


def _restarts(context: Context) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    restarts = CounterMetricFamily("syncdesk_part_restarts", "Times a part was started again", labels=["part"])
    for process in context.host.status().processes:
        restarts.add_metric([process.role], process.restarts)
    return restarts


# ---------------------------------------------------------------- from Redis


def _queue_figures(context: Context) -> list[Metric]:
    return [*_queues(context), *_workers(context), *_counters(context)]


def _queues(context: Context) -> list[Metric]:
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
    waits = GaugeMetricFamily("syncdesk_database_gate_shut", "Whether work waits for the database", labels=["code"])
    shut = context.view.gate()
    for code in ("DATABASE_UNAVAILABLE", "DATABASE_READ_ONLY", "DATABASE_FULL"):
        waits.add_metric([code], int(shut == code))
    return [jobs, oldest, paused, consumers, waits]


def _workers(context: Context) -> list[Metric]:
    """By pool: a process' id would be a new label value with each start."""
    from prometheus_client.core import GaugeMetricFamily

    processes = GaugeMetricFamily("syncdesk_workers", "Worker processes", labels=["pool"])
    threads = GaugeMetricFamily("syncdesk_worker_threads", "Threads for jobs", labels=["pool"])
    busy = GaugeMetricFamily("syncdesk_worker_threads_busy", "Threads at a job", labels=["pool"])
    memory = GaugeMetricFamily("syncdesk_worker_memory_bytes", "Resident memory of the largest", labels=["pool"])
    beat = GaugeMetricFamily("syncdesk_worker_heartbeat_age_seconds", "Longest since a sign of life", labels=["pool"])
    rows = context.view.workers()
    for pool in POOLS:
        mine = [row for row in rows if row["pool"] == pool]
        processes.add_metric([pool], len(mine))
        threads.add_metric([pool], sum(row["threads"] for row in mine))
        busy.add_metric([pool], sum(row["busy"] for row in mine))
        if mine:
            memory.add_metric([pool], max(row["memory_mb"] for row in mine) * 1024 * 1024)
            beat.add_metric([pool], max(row["heartbeat_age_s"] for row in mine))
    return [processes, threads, busy, memory, beat]


def _counters(context: Context) -> list[Metric]:
    from prometheus_client.core import CounterMetricFamily

    counted = context.view.totals()
    calls = CounterMetricFamily(
        "syncdesk_plaid_calls", "Calls to Plaid by path and its answer", labels=["endpoint", "code"]
    )
    starts = CounterMetricFamily("syncdesk_worker_starts", "Starts of worker processes", labels=["pool"])
    leases = CounterMetricFamily(
        "syncdesk_job_lease_expiries", "Jobs whose worker gave no sign of life until the lease ended", labels=["queue"]
    )
    for family, name in ((calls, "plaid_calls"), (starts, "worker_starts"), (leases, "lease_expiries")):
        for labels, value in counted.get(name, ()):
            family.add_metric(labels, value)
    known = {labels for labels, _ in counted.get("lease_expiries", ())}
    for queue in QUEUE_LABELS:
        if (queue,) not in known:
            leases.add_metric([queue], 0)
    return [calls, starts, leases]


# ---------------------------------------------------------------- from Postgres


def _store_figures(context: Context) -> list[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    facts: dict[str, Any] = context.store.call("metrics")
    kept = GaugeMetricFamily("syncdesk_failed_jobs", "Failed jobs that are kept", labels=["queue"])
    failing = GaugeMetricFamily("syncdesk_queue_high_failure_rate", "Whether many jobs fail", labels=["queue"])
    for queue in QUEUE_LABELS:
        kept.add_metric([queue], facts["failed"].get(queue, 0))
        failing.add_metric([queue], int(queue in facts["failing"]))
    items = GaugeMetricFamily("syncdesk_items", "Bank links", labels=["state"])
    for state, number in facts["items"].items():
        items.add_metric([state], number)
    lag = GaugeMetricFamily("syncdesk_sync_lag_seconds", "Since the last success of the link that is furthest behind")
    if facts["lag_s"] is not None:
        lag.add_metric([], facts["lag_s"])
    unfinished = GaugeMetricFamily("syncdesk_unfinished", "Work that the database knows of", labels=["kind"])
    for kind in ("unprocessed", "wanted", "unsent"):
        unfinished.add_metric([kind], facts[kind])
    return [*_ended(facts), kept, failing, items, lag, unfinished]


def _ended(facts: dict[str, Any]) -> list[Metric]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    ended = CounterMetricFamily(
        "syncdesk_jobs", "Jobs by outcome, and kind of error where there was one", labels=["queue", "outcome", "class"]
    )
    for row in facts["outcomes"]:
        ended.add_metric([row["queue"], row["outcome"], row["class"]], row["jobs"])
    run = HistogramMetricFamily("syncdesk_job_run_seconds", "From a job's last start to its end", labels=["queue"])
    wait = HistogramMetricFamily("syncdesk_job_wait_seconds", "From being ready to that start", labels=["queue"])
    for row in facts["totals"]:
        for family, name in ((run, "run"), (wait, "wait")):
            family.add_metric([row["queue"]], *_histogram(row[f"{name}_hist"], row[f"{name}_ms"]))
    return [ended, run, wait]


def _histogram(slots: list[int], total_ms: int) -> tuple[list[tuple[str, float]], float]:
    """Slot *n* counts milliseconds below 2^n; the last one, all that is longer."""
    from engine.jobs.stats import SLOTS

    sums = list(accumulate([*slots, *[0] * (SLOTS - len(slots))]))
    buckets = [(f"{2**slot / 1000:g}", float(value)) for slot, value in enumerate(sums[:-1])]
    return [*buckets, ("+Inf", float(sums[-1]))], total_ms / 1000
