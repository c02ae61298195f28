"""Connections to the broker: time limits by role, and one seam from redis-py's errors to ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import redis
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.retry import Retry

from engine.clock import monotonic
from engine.errors import BrokerUnavailable, SettingsError
from engine.queue.refusals import sentence

Role = Literal["worker", "api", "hint"]

# Seconds to connect, seconds to answer. A hint must never hold up a webhook's answer, so it gives up at once:
# the reconciler puts back what it could not say.
_LIMITS: dict[Role, tuple[float, float]] = {"worker": (2.0, 5.0), "api": (1.0, 2.0), "hint": (0.25, 0.25)}

# After these another connection may find what this one does not: it is dropped.
_LOST = (redis.ConnectionError, redis.exceptions.ReadOnlyError, redis.exceptions.MasterDownError)


def connect(url: str, role: Role, ca_file: str | None = None) -> redis.Redis:
    """A client of the broker at ``url`` (``redis://`` or ``rediss://``). Does not connect yet.

    ``ca_file``: PEM file of the authority that a TLS server is checked by; none: those that the system knows.

    One repeat after a lost connection, none after a time limit: a connection that idled through a
    restart of the broker costs nothing, and a broker that hangs is not waited for twice. A server that became
    a replica counts as lost: the name may lead to another by now.

    Raises:
        SettingsError: the URL is none that redis-py understands (the message does not repeat it), or there is
            no such file.
    """
    to_connect, to_answer = _LIMITS[role]
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_connect_timeout": to_connect,
        "socket_timeout": to_answer,
        "socket_keepalive": True,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 1, supported_errors=_LOST),
        "health_check_interval": 0,
    }
    if ca_file and url.startswith("rediss://"):
        if not Path(ca_file).is_file():
            raise SettingsError(f"SYNCDESK_REDIS_CA_FILE names no file: {ca_file}.", setting="redis_ca_file")
        options["ssl_ca_certs"] = ca_file
    try:
        return redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise SettingsError("REDIS_URL is no address of a Redis server (redis:// or rediss://).") from error


def subscription(client: redis.Redis, *, ignore_confirmations: bool = False) -> PubSub:
    """A pub/sub connection of its own (redis-py leaves the method untyped)."""
    make: Callable[..., PubSub] = client.pubsub
    return make(ignore_subscribe_messages=ignore_confirmations)


def listen(pubsub: PubSub, channel: str, within_s: float) -> None:
    """Subscribe and wait for the server's word: what is published from now on is heard.

    The ``pubsub`` must not ignore confirmations.

    Raises:
        redis.RedisError, OSError: the broker is away, or did not answer within ``within_s`` seconds.
    """
    pubsub.subscribe(channel)
    deadline = monotonic() + within_s
    while (left := deadline - monotonic()) > 0:
        message = pubsub.get_message(timeout=left)
        if message and message["type"] == "subscribe":
            return
    raise redis.TimeoutError("no answer to SUBSCRIBE")


class Line:
    """One connection for one thread, for the calls of which a busy worker makes thousands a second.

    No pool, no retry, no telemetry: half the cost of a client's call. After an error of the connection the next call
    connects anew; callers wait and repeat as they see fit.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._connection: Any = client.connection_pool.make_connection()

    def execute_command(self, *args: Any) -> Any:
        """Send one command and read its answer.

        Raises:
            redis.RedisError, OSError: as the client does.
        """
        try:
            self._connection.send_command(*args)
            return self._connection.read_response()
        except (*_LOST, redis.TimeoutError, OSError):
            self._connection.disconnect()
            raise

    def close(self) -> None:
        """Close the connection; not while its thread may call."""
        self._connection.disconnect()


@contextmanager
def translated() -> Iterator[None]:
    """Turn redis-py's errors into ours.

    Raises:
        BrokerUnavailable: not reachable, too slow, refusing us, loading or full.
    """
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise BrokerUnavailable(sentence(error), cause=type(error).__name__) from error
