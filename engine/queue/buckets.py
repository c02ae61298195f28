"""Token buckets in Redis, one an item and one for the client, shared by every worker of the install.

Each begins with Plaid's published limit. A refusal (HTTP 429) teaches a lower one: half of what was kept to, growing
back by a twentieth of the published limit a minute, and shuts the bucket for some seconds: only a probe goes through
now and then, and the first that is not refused opens it. Plaid's codes name the endpoint, not whose limit was met
(TRANSACTIONS_SYNC_LIMIT is both), so the item's bucket always learns and shuts, and the client's when several items
are refused within a minute. A wipe of Redis forgets what was learned and leaves every bucket half empty.
"""

from __future__ import annotations

import redis

from engine.queue import scripts
from engine.queue.connection import translated
from engine.queue.keys import Keys
from engine.queue.lua_buckets import PROBE_MS, RECOVERY_S


def take(
    client: redis.Redis, keys: Keys, name: str, per_minute: float, cost: float = 1.0, *, burst: float | None = None
) -> float:
    """Take ``cost`` from bucket ``name`` of ``per_minute`` calls; seconds to wait where it holds too little.

    0.0 means taken. Otherwise nothing was taken: wait and ask again. ``burst`` is what a full bucket holds, by default
    a tenth of the limit; with it, no more than ``per_minute`` are taken in any 60 seconds.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    with translated():
        wait_ms = scripts.run(client, keys, "bucket", name, per_minute, cost, "" if burst is None else burst)
    return float(wait_ms) / 1000


def slow_down(client: redis.Redis, keys: Keys, name: str, per_minute: float, seconds: float) -> None:
    """Plaid refused a call: bucket ``name`` is shut for ``seconds`` (a minute at most) but for probes, and learns.

    Call it for ``item:<id>`` before ``client``.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    with translated():
        scripts.run(client, keys, "refused", name, per_minute, seconds * 1000)


__all__ = ["PROBE_MS", "RECOVERY_S", "slow_down", "take"]
