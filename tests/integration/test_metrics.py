"""/metrics: valid for Prometheus, by its conventions, bounded, the same whoever is asked; the dashboard fits it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from engine.plaid.client import PlaidClient
from engine.plaid.errors import PlaidError
from engine.queue import totals
from engine.settings import Settings
from tests.support import api as support
from tests.support.api import Api

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana.json"
UNITS = ("_seconds", "_bytes", "_total")
LABELS = {"service", "queue", "state", "outcome", "class", "pool", "part", "kind", "endpoint", "code", "le"}


@pytest.fixture
def api(database_url: str, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Api]:
    with support.running(tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url) as made:
        yield made


def scrape(api: Api) -> dict[str, Metric]:
    answer = api.health.get("/metrics")
    assert answer.status_code == 200
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


@pytest.fixture
def busy(api: Api) -> Api:
    """An install in which something of every kind has happened."""
    store, client, keys = api.parts.store, api.parts.client, api.parts.keys
    row = {
        "queue": "transactions", "item_id": None, "institution": "", "user_id": None, "done": 3, "failed": 1,
        "retried": 2, "run_ms": 1600, "wait_ms": 8, "lag_ms": 1700, "run_hist": [0, 0, 2, *[0] * 8, 2],
        "wait_hist": [1, 0, 3], "lag_hist": [], "classes": {"done|": 3, "failed|plaid": 1, "retried|database": 2},
    }  # fmt: skip
    for number in (1, 2, 2):
        store.call("job_stats_add", rows=[row], source="s", number=number)
    for _ in range(2):
        totals.add(client, keys, "plaid_calls", "/transactions/sync", "ok")
    totals.add(client, keys, "worker_starts", "sync")
    client.hincrby(keys.totals, "lease_expiries|webhooks", 4)
    return api


def samples(found: dict[str, Metric], name: str) -> dict[tuple[str, ...], float]:
    """Values by the end of the sample's name and its labels, in the order of the labels' names."""
    family = found[name]
    return {
        (sample.name.removeprefix(family.name), *(value for _, value in sorted(sample.labels.items()))): sample.value
        for sample in family.samples
    }


def test_the_figures_add_up(busy: Api) -> None:
    found = scrape(busy)
    jobs = samples(found, "syncdesk_jobs")
    assert jobs[("_total", "", "done", "transactions")] == 6
    assert jobs[("_total", "plaid", "failed", "transactions")] == 2
    assert jobs[("_total", "database", "retried", "transactions")] == 4
    wait = samples(found, "syncdesk_job_wait_seconds")
    assert wait[("_bucket", "0.001", "transactions")] == 2
    assert wait[("_bucket", "0.004", "transactions")] == 8
    assert wait[("_bucket", "+Inf", "transactions")] == wait[("_count", "transactions")] == 8
    assert wait[("_sum", "transactions")] == pytest.approx(0.016)
    assert samples(found, "syncdesk_plaid_calls")[("_total", "ok", "/transactions/sync")] == 2
    assert samples(found, "syncdesk_worker_starts")[("_total", "sync")] == 1
    assert samples(found, "syncdesk_job_lease_expiries")[("_total", "webhooks")] == 4


def test_prometheus_conventions(busy: Api) -> None:
    found = scrape(busy)
    for name, family in found.items():
        assert re.fullmatch(r"syncdesk(_[a-z]+)+", name), name
        assert family.documentation, name
        assert family.type in {"gauge", "counter", "histogram"}, name
        for sample in family.samples:
            assert set(sample.labels) <= LABELS, sample
            if family.type == "counter":
                assert sample.name.endswith("_total"), sample.name
        if family.type == "histogram":
            assert name.endswith("_seconds"), name
            buckets = [sample for sample in family.samples if sample.name.endswith("_bucket")]
            bounds = [float(sample.labels["le"]) for sample in buckets if sample.labels["queue"] == "transactions"]
            values = [sample.value for sample in buckets if sample.labels["queue"] == "transactions"]
            assert bounds == sorted(bounds)
            assert values == sorted(values)


def test_counters_never_fall(busy: Api) -> None:
    before = samples(scrape(busy), "syncdesk_jobs")
    busy.parts.store.call("retention", stats_days=0)
    while busy.parts.store.call("analytics_pack")["packed"]:
        pass
    assert samples(scrape(busy), "syncdesk_jobs") == before


def test_calls_to_plaid_are_counted_with_their_answer(api: Api) -> None:
    counted = totals.plaid_calls(api.parts.client, api.parts.keys)
    nobody = PlaidClient(Settings(plaid_url="http://127.0.0.1:9"), counted)
    with pytest.raises(PlaidError):
        nobody.transactions_sync("token", None)
    calls = samples(scrape(api), "syncdesk_plaid_calls")
    assert calls == {("_total", "UNREACHABLE", "/transactions/sync"): 1}


def test_the_dashboard_uses_metrics_that_exist(busy: Api) -> None:
    found = scrape(busy)
    exist = {sample.name for family in found.values() for sample in family.samples}
    exist |= set(found)
    labels = {label for family in found.values() for sample in family.samples for label in sample.labels}
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    assert len(expressions) >= 12
    for expression in expressions:
        named = set(re.findall(r"\bsyncdesk_\w+", expression))
        assert named, expression
        assert named <= exist, expression
        for grouped in re.findall(r"by \(([^)]*)\)", expression):
            assert {label.strip() for label in grouped.split(",")} <= labels, expression
        for selected in re.findall(r"\{([^}]*)\}", expression):
            assert {part.split("=")[0].strip("!~ ") for part in selected.split(",")} <= labels, expression
    used = set(re.findall(r"\bsyncdesk_\w+", " ".join(expressions)))
    unused = {name for name in found if not any(one.startswith(name) for one in used)}
    assert unused <= {"syncdesk_worker_threads", "syncdesk_workers", "syncdesk_worker_starts"}, unused
