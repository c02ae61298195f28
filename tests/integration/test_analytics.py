"""Figures of jobs over time: kept for two years in little room, the same before and after packing, with samples."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from engine.api.analytics import Analytics, spread
from engine.api.client import Client
from engine.cli import remote
from engine.cli.main import build_parser, run
from engine.store import Transport
from tests.support import api as support
from tests.support.api import Api

ITEM, USER = str(uuid.uuid4()), str(uuid.uuid4())

# An item that syncs every quarter of an hour, with times that differ from hour to hour.
YEAR = """
insert into syncdesk.job_stats (hour, queue, item_id, institution, user_id, done, failed, run_ms, wait_ms, lag_ms,
    run_hist, wait_hist, lag_hist)
select h, 'transactions', %(item)s, 'First Platypus Bank', %(user)s, 4 - (n %% 50 = 0)::integer,
    (n %% 50 = 0)::integer, 700 + n * 37 %% 400, 4 + n %% 9, 720 + n * 41 %% 500, array[0,0,0,0,0,0,0,0,3,1],
    array[0,3,1], array[0,0,0,0,0,0,0,0,2,2]
from generate_series(date_trunc('hour', now(), 'UTC') - make_interval(days => %(days)s),
    date_trunc('hour', now(), 'UTC'), interval '1 hour') with ordinality g (h, n)
"""


def fill(url: str, days: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(YEAR, {"item": ITEM, "user": USER, "days": days})


def ask(store: Transport, **given: Any) -> dict[str, Any]:
    asked = {"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", "step": "month", **given}
    found: dict[str, Any] = store.call("analytics", **asked)
    return found


def pack(store: Transport) -> int:
    packed = 0
    while now := store.call("analytics_pack")["packed"]:
        packed += now
    return packed


def test_packing_changes_no_figure(any_store: Transport, any_database_url: str) -> None:
    fill(any_database_url, 100)
    asked: list[dict[str, Any]] = [
        {}, {"step": "day"}, {"step": "all", "by": "item"}, {"by": "institution"}, {"by": "user", "user": USER},
        {"by": "queue", "queue": "transactions"}, {"item": ITEM}, {"item": USER}, {"institution": "none"},
    ]  # fmt: skip
    before = [ask(any_store, **given) for given in asked]
    assert pack(any_store) >= 2
    assert [ask(any_store, **given) for given in asked] == before
    assert before[2]["points"][0]["key"] == ITEM
    assert before[2]["points"][0]["done"] + before[2]["points"][0]["failed"] == 4 * (100 * 24 + 1)
    assert before[7]["points"] == before[8]["points"] == []
    assert pack(any_store) == 0


def test_two_years_of_a_bank_link_take_little_room(store: Transport, database_url: str) -> None:
    fill(database_url, 729)
    assert pack(store) >= 22
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "select (select sum(pg_column_size(m.*)) from syncdesk.job_months m),"
            " (select sum(cardinality(hours)) from syncdesk.job_months),"
            " (select avg(pg_column_size(s.*)) from syncdesk.job_stats s)"
        ).fetchone()
    assert row is not None
    per_year = row[0] / row[1] * 8766
    print(f"bytes per item-year: {per_year:,.0f} packed; an hour that is not packed yet: {row[2]:,.0f}")
    assert per_year < 250_000
    oldest = ask(store, step="hour")["points"][0]
    assert oldest["done"] + oldest["failed"] == 4  # an hour two years ago is still an hour


def test_percentiles_and_samples() -> None:
    assert spread([], 0).samples == 0
    assert spread([], 0).p95 is None
    found = spread([0, 0, 0, 4], 24)  # four of 4 to 7 ms
    assert (found.samples, found.mean) == (4, 6.0)
    assert found.p50 is not None
    assert 4 <= found.p50 <= 8
    mixed = spread([*[0] * 5, 90, 0, 0, 0, 0, 10], 0)
    assert mixed.p50 is not None
    assert mixed.p95 is not None
    assert 16 <= mixed.p50 < 32
    assert 512 <= mixed.p95 <= 1024


@pytest.fixture
def api(database_url: str, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Api]:
    with support.running(tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url) as made:
        yield made


def test_the_api_answers_with_samples_and_refuses_what_it_cannot(api: Api, database_url: str) -> None:
    fill(database_url, 10)
    with Client(api.endpoints.admin or "", api.tokens.admin) as client:
        found = client.get("analytics", Analytics, days=30, step="all", by="institution")
    (point,) = found.points
    assert (point.key, point.samples) == ("First Platypus Bank", 4 * 241)
    assert point.failed in {4, 5}
    assert point.failure_rate == round(point.failed / point.samples, 4)
    assert point.run.samples == point.wait.samples == point.lag.samples == point.samples
    assert point.run.p50 is not None
    assert 128 <= point.run.p50 <= 256
    for query in ("days=0", "days=2000", "since=yesterday", "days=700&step=hour", "step=year", "item=x",
                  "since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z"):  # fmt: skip
        answer = api.call("GET", "analytics?" + query)
        assert 400 <= answer.status_code < 500, (query, answer.text)


def test_the_command_prints_a_table_and_a_document(
    api: Api, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(database_url, 10)
    monkeypatch.setattr(remote, "client", lambda: Client(api.endpoints.admin or "", api.tokens.admin))
    parser, _ = build_parser()
    assert run(parser, ["analytics", "--days", "30", "--step", "all", "--by", "institution"]) == 0
    assert re.search(r"First Platypus Bank +964 +[45] ", capsys.readouterr().out)
    assert run(parser, ["analytics", "--days", "30", "--step", "all", "--item", ITEM, "--json"]) == 0
    (point,) = json.loads(capsys.readouterr().out)["points"]
    assert point["samples"] == point["lag"]["samples"] == 964
    assert run(parser, ["analytics", "--days", "0"]) != 0
    assert "days is 1 to 731" in capsys.readouterr().err
