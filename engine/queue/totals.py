"""Counters over all processes of an install, in one Redis hash, for /metrics: they start anew where Redis does."""

from __future__ import annotations

from collections.abc import Callable

import redis

from engine.logs import logger
from engine.queue.connection import translated
from engine.queue.keys import Keys

log = logger("queue")


def add(client: redis.Redis, keys: Keys, name: str, *labels: str) -> None:
    """Count one more; a counter is not worth failing what it counts. Labels must come from small, fixed sets."""
    try:
        client.hincrby(keys.totals, "|".join((name, *labels)), 1)
    except (redis.RedisError, OSError):
        log.debug("a count was lost", name=name)


def plaid_calls(client: redis.Redis, keys: Keys) -> Callable[[str, str], None]:
    """What `engine.plaid.client.PlaidClient` tells of each call: path and ``ok`` or the error's code."""
    return lambda path, code: add(client, keys, "plaid_calls", path, code)


def read(client: redis.Redis, keys: Keys) -> dict[str, list[tuple[tuple[str, ...], int]]]:
    """Every counter by name, with its labels and value.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    with translated():
        found: dict[str, str] = client.hgetall(keys.totals)  # type: ignore[assignment]
    counters: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for field, value in sorted(found.items()):
        name, *labels = field.split("|")
        counters.setdefault(name, []).append((tuple(labels), int(value)))
    return counters
