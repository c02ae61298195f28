"""What changed, told to those who show it. Redis' pub/sub: a listener that was away reads everything anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import redis

from engine import clock
from engine.errors import BrokerUnavailable
from engine.queue.connection import listen, subscription, translated
from engine.queue.keys import Keys

LISTEN_S: Final = 2.0


def publish(client: redis.Redis, keys: Keys, topic: str, identifier: str | None = None) -> None:
    """Tell that something of ``topic`` (see `engine.api.types.Event`) changed. Never holds anything but an id.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    with translated():
        client.publish(keys.events, f"{topic} {identifier or ''} {int(clock.now().timestamp() * 1000)}")


def subscribe(client: redis.Redis, keys: Keys, *, idle_s: float = 1.0, ticks: bool = False) -> Iterator[dict[str, Any]]:
    """Yield ``{"topic", "id", "at"}`` for each event until closed.

    With ``ticks``, also ``{}``: at first, when every event from then on will be heard, and after ``idle_s`` seconds
    without one, for callers that must look up.

    Raises:
        BrokerUnavailable: the connection was lost; events may have been missed.
    """
    pubsub = subscription(client)
    try:
        with translated():
            listen(pubsub, keys.events, LISTEN_S)
        if ticks:
            yield {}
        while True:
            with translated():
                message = pubsub.get_message(timeout=idle_s)
            if message and message["type"] == "subscribe":  # by redis-py itself, on another connection
                raise BrokerUnavailable("The connection to Redis was lost.")
            if message:
                yield _read(message["data"])
            elif ticks:
                yield {}
    finally:
        pubsub.close()


def _read(text: str) -> dict[str, Any]:
    topic, identifier, at = text.split(" ", 2)
    return {"topic": topic, "id": identifier or None, "at": ms_iso(at)}


def ms_iso(ms: str | int | None) -> str | None:
    """ISO text of Redis' milliseconds; None where there are none."""
    if not ms:
        return None
    from datetime import UTC, datetime

    return clock.iso(datetime.fromtimestamp(int(ms) / 1000, UTC))
