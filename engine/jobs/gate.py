"""Work waits while the database takes none: one alarm, no attempt lost, and a new start as soon as it can.

A job that met a database which is away, read-only or full is followed by a question to the database itself
(``syncdesk_writable``). If that fails too, the gate shuts: this process takes no more jobs, the other workers see the
key ``gate`` and take none either, and whoever made the key says it once. While it is shut one of them asks again every
two seconds; the first answer opens it for all. The key is in Redis, since the database cannot be written.
"""

from __future__ import annotations

import threading
from typing import Final

import redis

from engine import clock
from engine.errors import BrokerUnavailable, StoreUnavailable, SyncdeskError
from engine.jobs import causes
from engine.logs import logger
from engine.queue import events
from engine.queue.broker import Broker
from engine.queue.gate import Shut, read, write
from engine.queue.ports import Store

LOOK_S: Final = 1.0  # how often a process looks whether another one shut or opened it
PROBE_S: Final = 2.0
LIFETIME_S: Final = 15.0  # of a shut gate that nobody asks about any more: all workers ended

log = logger("jobs")


class Gate(threading.Thread):
    """One worker process' side of the gate. ``met`` is called from the threads of its jobs."""

    def __init__(self, broker: Broker, store: Store) -> None:
        super().__init__(name="gate", daemon=True)
        self._broker, self._store = broker, store
        self._asking = threading.Lock()

    def met(self, error: BaseException) -> bool:
        """Whether a job's ``error`` is the database's own trouble, and the gate is shut: the job comes again then."""
        if causes.shared(error, "") != causes.DATABASE:
            return False
        with self._asking:  # threads whose jobs failed together ask once
            if self._broker.shut.is_set():
                return True
            found = self._probe()
            if found is not None:
                self._shut(found)
            return found is not None

    def run(self) -> None:
        """Ask while it is shut, look whether somebody else shut it while it is open; until the broker closes."""
        while not self._broker.closing.is_set():
            try:
                self._look()
            except (redis.RedisError, OSError, BrokerUnavailable):
                if self._broker.shut.is_set() and self._probe() is None:
                    self._open()
            self._broker.closing.wait(LOOK_S)

    def _look(self) -> None:
        client, keys, shut = self._broker.client, self._broker.keys, self._broker.shut
        found = read(client, keys)
        if found is None:
            if shut.is_set():
                self._open()
            return
        shut.set()
        asked, lasts_ms = keys.gate + ":asked", int(PROBE_S * 950)
        if int(client.pttl(asked)) > lasts_ms:  # from a clock that was ahead: nobody would ask for as long
            client.delete(asked)
        if client.set(asked, self._broker.options.worker_id, nx=True, px=lasts_ms):
            now = self._probe()
            if now is not None:
                write(client, keys, Shut(now.code, found.since), LIFETIME_S)
            else:
                self._end(found)

    def _probe(self) -> StoreUnavailable | None:
        try:
            self._store.call("writable")
        except StoreUnavailable as error:
            return error
        except SyncdeskError:
            return None  # it answers; what it says is no matter of the gate
        return None

    def _shut(self, error: StoreUnavailable) -> None:
        broker = self._broker
        broker.shut.set()
        try:
            first = write(broker.client, broker.keys, Shut(error.code, clock.iso(clock.now())), LIFETIME_S, new=True)
            events.publish(broker.client, broker.keys, "queues")
        except (redis.RedisError, OSError, BrokerUnavailable):
            first = True  # nobody else can know; rather twice than not at all
        if first:
            log.error("Work waits for the database", code=error.code, why=error.message)

    def _end(self, found: Shut) -> None:
        client, keys = self._broker.client, self._broker.keys
        told = client.delete(keys.gate)
        self._open()
        if told:
            seconds = max(0.0, (clock.now() - clock.parse(found.since)).total_seconds())  # clocks are set, too
            log.warning("The database takes work again", code=found.code, after_s=round(seconds, 1))
            events.publish(client, keys, "queues")

    def _open(self) -> None:
        self._broker.looked.clear()  # no consumer has looked for a while, and none was to
        self._broker.shut.clear()
