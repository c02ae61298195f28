"""Lists while they grow: page by page, whoever was there at the first page is seen once, and nobody twice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_api_actions import fail, link, ok
from tests.integration.test_api_webhooks import body
from tests.support import api as support
from tests.support.api import Api

Adder = Callable[[Api, int], object]


@pytest.fixture
def api(database_url: str, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Api]:
    with support.running(tmp_path, redis_url=redis_url, redis_namespace=namespace, database_url=database_url) as made:
        yield made


def add_bill(api: Api, number: int) -> None:
    # Names in no order, and some of them twice.
    bill = {"name": f"Bill {number * 7 % 5}", "cadence": "monthly", "anchor_date": "2026-01-01"}
    ok(api.call("POST", "bills", json=bill))


def add_notice(api: Api, number: int) -> None:
    made = api.parts.store.call("outbox_add", kind="test", payload={"number": number})
    api.parts.store.call("notice_deliver", outbox=made["id"], tone="info", title=f"Notice {number}", sentence="")


def key(row: dict[str, Any]) -> object:
    return row.get("id") or row["fingerprint"]


@pytest.mark.parametrize(
    ("path", "rows", "add"),
    [
        ("items", "items", link),
        ("bills", "bills", add_bill),
        ("jobs?state=failed", "jobs", lambda api, number: fail(api, link(api, number))),
        ("failures", "groups", lambda api, number: fail(api, link(api, number), f"CODE_{number}")),
        ("webhooks", "webhooks", lambda api, number: api.webhook(body(number=number))),
        ("notices", "notices", add_notice),
        ("audit", "entries", lambda api, number: ok(api.call("POST", "queues/transactions/pause"))),
    ],
)
def test_a_list_that_grows_while_it_is_read(api: Api, path: str, rows: str, add: Adder) -> None:
    numbers = itertools.count(1)
    for _ in range(7):
        add(api, next(numbers))
    sign = "&" if "?" in path else "?"
    there = {key(row) for row in ok(api.call("GET", f"{path}{sign}limit=500"))[rows]}
    assert len(there) == 7
    seen: list[object] = []
    after: str | None = ""
    while after is not None:
        page = ok(api.call("GET", path, params={"limit": 2, **({"after": after} if after else {})}))
        assert len(page[rows]) <= 2
        seen += [key(row) for row in page[rows]]
        after = page["next"]
        if len(seen) < 20:
            add(api, next(numbers))
    assert len(seen) == len(set(seen))
    assert there <= set(seen)
