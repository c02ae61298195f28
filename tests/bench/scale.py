"""Whether more worker processes do proportionally more: one, two and four replicas of the sync worker, then one of two
killed and another added in the middle.

Every run brings one row from a bank that answers in 200 ms. The install's limit is five for each replica, and Plaid's
buckets are out of the way. The reference is one replica in the same run.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from tests.support.replicas import Install, install

LATENCY_MS = 200
EACH = 5
"""Runs at a time of one replica."""
RUNS = 150
"""Runs for each replica in one measurement: about six seconds."""
ROUNDS = 3
REPLICAS = (1, 2, 4)


def run() -> dict[str, Any]:
    """See the module. Aims: x2, x4, lost, doubled."""
    with install(latency_ms=LATENCY_MS, SYNCDESK_SYNC_DISTANCE_S="0", SYNCDESK_LEASE_S="2") as made:
        made.client.set(made.keys.epoch, "1")
        items = made.link(RUNS * max(REPLICAS))
        rates: dict[int, list[float]] = {count: [] for count in REPLICAS}
        expected = 0
        for _ in range(ROUNDS):  # in turn, so that a slower minute of the machine meets all
            for count in REPLICAS:
                made.limit(EACH * count)
                made.start(count)
                rates[count].append(_rate(made, items[: RUNS * count]))
                made.stop()
                expected += RUNS * count
        disturbed = _disturbed(made, items[: RUNS * 2])
        expected += RUNS * 2
        rows = made.one("select count(*) from syncdesk.transactions")
        added = made.one("select count(*) from syncdesk.transaction_history where change = 'added'")
    return _report(rates, disturbed, expected, rows, added)


def _rate(made: Install, items: list[str]) -> float:
    """Runs a second, from the first one's start to the last one's end; queued before anything starts."""
    _queue(made, items)
    made.wait(lambda: made.open() == 0, "the end of the runs")
    return len(items) / float(made.one(_SPAN, items))


_SPAN = """
    select extract(epoch from max(finished_at) - min(started_at))::float8 from (
        select distinct on (item_id) started_at, finished_at from syncdesk.sync_runs where item_id = any (%s::uuid[])
        order by item_id, started_at desc) last_
"""


def _queue(made: Install, items: list[str]) -> None:
    made.client.hset(made.keys.limits, "transactions:paused", "1")
    hints = made.store.call("items_want", items=items, trigger="manual", correlation="bench", lane="high")["hints"]
    for hint in hints:
        made.hints.sync(hint["item_id"], hint["user_id"], hint["institution"], "high", "manual", "bench")
    made.client.hdel(made.keys.limits, "transactions:paused")
    made.client.publish(made.keys.wake("transactions"), "1")


def _disturbed(made: Install, items: list[str]) -> dict[str, Any]:
    """Two replicas; after a third of the runs one is killed and another started. All runs end all the same."""
    made.limit(EACH * 2)
    victim, _ = made.start(2)
    began = time.monotonic()
    _queue(made, items)
    made.wait(lambda: made.open() < len(items) * 2 / 3, "a third of the runs")
    victim.kill()
    victim.wait(10)
    made.start(1)
    made.wait(lambda: made.open() == 0, "the end of the disturbed runs")
    took = time.monotonic() - began
    made.stop()
    return {"runs": len(items), "took_s": round(took, 1)}


def _report(
    rates: dict[int, list[float]], disturbed: dict[str, Any], expected: int, rows: int, added: int
) -> dict[str, Any]:
    median = {count: statistics.median(found) for count, found in rates.items()}
    x2, x4 = (round(median[count] / median[1], 2) for count in (2, 4))
    return {
        "bench": "scale",
        "figures": {
            "runs_a_second": {str(count): round(value, 1) for count, value in median.items()},
            "rounds": {str(count): [round(value, 1) for value in found] for count, found in rates.items()},
            "one_killed_one_added": disturbed,
        },
        "reference": {"what": "one replica", "runs_a_second": round(median[1], 1), "floor": EACH * 1000 / LATENCY_MS},
        "ratio": x4,
        "aims": {
            "x2": {"value": x2, "aim": ">= 1.9", "ok": x2 >= 1.9},
            "x4": {"value": x4, "aim": ">= 3.6", "ok": x4 >= 3.6},
            "lost": {"value": expected - rows, "aim": "= 0", "ok": rows == expected},
            "doubled": {"value": added - rows, "aim": "= 0", "ok": added == rows},
        },
    }
