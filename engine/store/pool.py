"""A pool of Postgres connections for threads.

A caller that needs a connection and finds none idle makes it itself, so a database that is away or refuses us says so
at once and in its own words, and one that is back serves the next caller. Nothing runs in the background.
"""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from engine import clock

Connection = psycopg.Connection[tuple[Any, ...]]
_IDLE_S = 120.0


class Exhausted(Exception):
    """All connections were in use for as long as the caller would wait."""


class Pool:
    """At most ``size`` connections, made by ``connect`` when needed; the newest idle one is used first."""

    def __init__(self, connect: Callable[[], Connection], size: int, wait_s: float) -> None:
        self._connect = connect
        self._free = threading.BoundedSemaphore(size)
        self._wait_s = wait_s
        self._idle: list[tuple[float, Connection]] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """Borrow a connection. One that comes back broken or inside a transaction is closed.

        Raises:
            Exhausted: none became free in time.
            psycopg.OperationalError: none could be made, or the pool is closed.
        """
        if not self._free.acquire(timeout=self._wait_s):
            raise Exhausted
        try:
            connection = self._take() or self._connect()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._free.release()

    def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _take(self) -> Connection | None:
        while True:
            with self._lock:
                if self._closed:
                    raise psycopg.OperationalError("the store is closed")
                if not self._idle:
                    return None
                _, connection = self._idle.pop()
            if _still_there(connection):
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        usable = not connection.closed and connection.info.transaction_status == TransactionStatus.IDLE
        now = clock.monotonic()
        old: list[Connection] = []
        with self._lock:
            if usable and not self._closed:
                self._idle.append((now, connection))
            else:
                old.append(connection)
            while self._idle and now - self._idle[0][0] > _IDLE_S:
                old.append(self._idle.pop(0)[1])
        for one in old:
            one.close()


def _still_there(connection: Connection) -> bool:
    """Whether the server has not gone away while the connection was idle: no round trip, a look at its socket.

    An idle connection has nothing to say; what can be read is its end.
    """
    try:
        descriptor = connection.fileno()
    except psycopg.Error:
        return False
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(descriptor, select.POLLIN | select.POLLPRI)
        return not poller.poll(0)
    return not select.select([descriptor], [], [], 0)[0]
