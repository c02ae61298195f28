"""Lists of failed jobs at 100,000 of them, through the admin API over real HTTP.

Pages are read at the top, deep inside, of one queue and of one cause; causes with their counts as the console's Jobs
page opens on them. The reference is the same page by plain SQL on a connection of its own, in the same run.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from tests.support import api, servers

JOBS = 100_000
GROUPS = 200
ITEMS = 20_000
ROUNDS = 40
PAGE = 50
PAGE_MS = 30.0
GROUPS_MS = 30.0

_FILL = f"""
    insert into syncdesk.users (id, name) values ('00000000-0000-0000-0000-0000000000aa', 'bench');
    insert into syncdesk.items (id, user_id, plaid_item_id, access_token, access_key_id, environment, institution_name)
    select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, '00000000-0000-0000-0000-0000000000aa',
        'plaid-' || n, 'sealed', 'k', 'simulated', 'Bank ' || n % 40 from generate_series(1, {ITEMS}) n;
    insert into syncdesk.failure_groups (fingerprint, rule_version, code, kind, queue, count, first_seen, last_seen,
        samples)
    select 'group-' || n, 2, 'CODE_' || n, 'bug', (array['transactions', 'webhooks', 'notifications'])[1 + n % 3],
        {JOBS // GROUPS}, now() - interval '20 hours', now() - n * interval '1 second',
        (select jsonb_agg(jsonb_build_object('error', jsonb_build_object('title', 'It broke', 'sentence', 'It broke.',
            'traceback', repeat(md5(i::text), 60)))) from generate_series(1, 5) i)
    from generate_series(0, {GROUPS - 1}) n;
    insert into syncdesk.failure_group_hours (fingerprint, hour, count)
    select 'group-' || n, date_trunc('hour', now(), 'UTC') - h * interval '1 hour', 25
    from generate_series(0, {GROUPS - 1}) n, generate_series(0, 19) h;
    insert into syncdesk.failed_jobs (job_id, queue, actor, lane, trigger, arguments, user_id, item_id, institution,
        correlation_id, fingerprint, rule_version, error, attempts, queued_at, failed_at)
    select 'job-' || n, (array['transactions', 'webhooks', 'notifications'])[1 + n % {GROUPS} % 3], 'sync_item', 'high',
        'webhook', jsonb_build_object('item_id', 'x'), '00000000-0000-0000-0000-0000000000aa',
        ('00000000-0000-0000-0000-' || lpad((1 + n % {ITEMS})::text, 12, '0'))::uuid, 'Bank ' || n % 40,
        'correlation-' || n, 'group-' || n % {GROUPS}, 2,
        jsonb_build_object('code', 'CODE', 'title', 'It broke', 'sentence', 'It broke.',
            'traceback', repeat('x', 1500)),
        jsonb_build_array(jsonb_build_object('number', 1, 'started_at', '2026-01-01T00:00:00Z')),
        now() - n * interval '0.7 second', now() - n * interval '0.7 second'
    from generate_series(1, {JOBS}) n;
    insert into syncdesk.failure_group_items (fingerprint, queue, target)
    select distinct 'group-' || n % {GROUPS},
        (array['transactions', 'webhooks', 'notifications'])[1 + n % {GROUPS} % 3], n::text
    from generate_series(1, {JOBS}) n;
    insert into syncdesk.failure_group_banks (fingerprint, institution)
    select distinct 'group-' || n % {GROUPS}, 'Bank ' || n % 40 from generate_series(1, {JOBS}) n;
"""
_PLAIN = """
    select job_id, queue, actor, lane, trigger, item_id, institution, correlation_id, fingerprint, failed_at,
        error ->> 'code', error ->> 'title', state, jsonb_array_length(attempts)
    from syncdesk.failed_jobs where state = 'failed' order by failed_at desc, job_id desc limit 50
"""


def run() -> dict[str, Any]:
    """See the module. Aims: page_ms, groups_ms (the 95th percentile of each)."""
    with (
        servers.cluster() as cluster,
        servers.broker() as broker,
        cluster.fresh() as url,
        tempfile.TemporaryDirectory() as folder,
        psycopg.connect(url, autocommit=True) as link,
    ):
        began = time.perf_counter()
        link.execute(_FILL)
        link.execute("vacuum analyze")
        filled_s = time.perf_counter() - began
        with api.running(Path(folder), redis_url=broker.url, redis_namespace="bench", database_url=url) as made:
            figures = _measure(made)
        plain = _times(lambda: link.execute(_PLAIN).fetchall())
    return _report(figures, plain, filled_s)


def _measure(made: api.Api) -> dict[str, list[float]]:
    deep = _deep(made)
    asked = {
        "top": "jobs?state=failed&limit=50",
        "deep": f"jobs?state=failed&limit=50&after={deep}",
        "queue": "jobs?state=failed&queue=webhooks&limit=50",
        "cause": "jobs?state=failed&group=group-7&limit=50",
        "groups": "failures?span=24h",
        "overview": "overview",
    }
    return {name: _times(lambda path=path: _get(made, path)) for name, path in asked.items()}  # type: ignore[misc]


def _get(made: api.Api, path: str) -> Any:
    answer = made.call("GET", path, "view")
    assert answer.status_code == 200, answer.text
    return answer.json()


def _deep(made: api.Api) -> str:
    """The cursor after half of them, in the largest pages."""
    cursor, seen = "", 0
    while seen < JOBS // 2:
        page = _get(made, f"jobs?state=failed&limit=500{cursor}")
        seen += len(page["jobs"])
        cursor = f"&after={page['next']}"
    return cursor.removeprefix("&after=")


def _times(work: Callable[[], Any]) -> list[float]:
    taken = []
    for _ in range(ROUNDS + 3):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return taken[3:]


def _report(found: dict[str, list[float]], plain: list[float], filled_s: float) -> dict[str, Any]:
    def p95(times: list[float]) -> float:
        return round(statistics.quantiles(times, n=20)[-1], 1)

    pages = [ms for name, times in found.items() if name not in {"groups", "overview"} for ms in times]
    page_ms, groups_ms = p95(pages), p95(found["groups"])
    medians = {f"{name}_p50_ms": round(statistics.median(times), 1) for name, times in found.items()}
    reference = round(statistics.median(plain), 1)
    return {
        "bench": "lists",
        "figures": {"jobs": JOBS, "groups": GROUPS, "fill_s": round(filled_s, 1), **medians, "page_p95_ms": page_ms,
                    "groups_p95_ms": groups_ms},
        "reference": {"plain_sql_p50_ms": reference},
        "ratio": {"page_to_plain_sql": round(statistics.median(pages) / reference, 1)},
        "aims": {
            "page_ms": {"value": page_ms, "aim": f"<= {PAGE_MS:g}", "ok": page_ms <= PAGE_MS},
            "groups_ms": {"value": groups_ms, "aim": f"<= {GROUPS_MS:g}", "ok": groups_ms <= GROUPS_MS},
        },
    }  # fmt: skip
