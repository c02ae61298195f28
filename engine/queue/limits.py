"""The queues' limits as settings give them: what the scripts find in the hash ``limits`` where no person changed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

from engine.queue.connection import translated
from engine.queue.keys import Keys
from engine.settings import Settings


def from_settings(settings: Settings) -> dict[str, str]:
    """Fields of the hash ``limits``: by queue, jobs at a time and starts a minute in the whole install (empty: any
    number) and the distance (ms) between two starts of one target's jobs where a queue keeps one; and how jobs are
    parted (`engine.queue.lua_shares`)."""
    return {
        "transactions:concurrency": str(settings.sync_concurrency),
        "webhooks:concurrency": str(settings.webhook_concurrency),
        "notifications:concurrency": str(settings.notification_concurrency),
        "transactions:per_minute": str(settings.sync_per_minute or ""),
        "webhooks:per_minute": str(settings.webhook_per_minute or ""),
        "notifications:per_minute": str(settings.notification_per_minute or ""),
        "partition": settings.partition,
        "transactions:distance": str(int(settings.sync_distance_s * 1000)),
    }


def put(client: redis.Redis, keys: Keys, weights: Mapping[str, int], limits: Mapping[str, str] | None = None) -> None:
    """Put the weights of users (those that are not one), and fields of the hash ``limits``, in one step.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    fields: dict[Any, Any] = {**(limits or {}), "weighted": "1" if weights else ""}
    with translated():
        pipe = client.pipeline(transaction=True)
        pipe.delete(keys.weights)
        if weights:
            pipe.hset(keys.weights, mapping={user: str(weight) for user, weight in weights.items()})
        pipe.hset(keys.limits, mapping=fields)
        pipe.execute()
