"""Token buckets in Redis, shared by every worker of the install."""

from __future__ import annotations

import redis

from engine.queue import scripts
from engine.queue.connection import translated
from engine.queue.keys import Keys


def take(
    client: redis.Redis, keys: Keys, name: str, per_minute: float, cost: float = 1.0, *, burst: float | None = None
) -> float:
    """Take ``cost`` from bucket ``name`` that refills at ``per_minute``; seconds to wait where it holds too little.

    0.0 means taken. Otherwise nothing was taken: wait and ask again. ``burst`` is what a full bucket
    holds; by default a tenth of a minute's worth, so that a minute's limit is kept over any minute
    but for that share.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    full = burst if burst is not None else max(1.0, per_minute / 10)
    with translated():
        wait_ms = scripts.run(client, keys, "bucket", name, per_minute, cost, full)
    return float(wait_ms) / 1000


def slow_down(client: redis.Redis, keys: Keys, name: str, per_minute: float, seconds: float) -> None:
    """Use up ``seconds`` of bucket ``name``, so that everyone who takes from it waits; up to a minute in all.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    take(client, keys, name, per_minute, cost=per_minute * seconds / 60, burst=per_minute)
