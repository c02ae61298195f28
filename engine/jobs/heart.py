"""The worker's heartbeat: what it does now, for consoles and health; and the ear for what it is told."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

import psutil
import redis

from engine import clock
from engine.logs import logger
from engine.queue.broker import Broker
from engine.queue.connection import subscription

BEAT_S: Final = 2.0
LIFETIME: Final = 3  # beats that may fail before a worker counts as gone
HUNG_S: Final = 900.0  # a job that long may be right; as many as there are threads, none of them newer, are not

log = logger("jobs")


class Heart(threading.Thread):
    """Writes ``worker:<id>`` every two seconds and obeys ``quiet``, ``resume`` and ``stop``."""

    def __init__(
        self,
        broker: Broker,
        pool: str,
        memory_limit_mb: int,
        stop: Callable[[str], None],
        leaving: Callable[[], bool],
        stuck_s: float = 120.0,
    ) -> None:
        """``stop``: called with ``told`` or ``memory`` when the process should end; ``leaving``: it is ending.
        ``stuck_s``: a job that takes no step for so long is shown as stuck; nobody ends it for that."""
        super().__init__(name="heart", daemon=True)
        self._broker = broker
        self._pool = pool
        self._limit_mb = memory_limit_mb
        self._stop = stop
        self._process = psutil.Process()
        self._since = clock.iso(clock.now())
        self._ended = threading.Event()
        self._heavy = False
        self._told_quiet = False  # quiet for another reason (the end) is not ours to lift
        self._leaving = leaving
        self._stuck_s = stuck_s
        self._said_stuck: set[str] = set()
        self._key = broker.keys.worker(broker.options.worker_id)

    def run(self) -> None:
        pubsub = None
        while not self._ended.is_set():
            try:
                if pubsub is None:
                    pubsub = subscription(self._broker.client, ignore_confirmations=True)
                    pubsub.subscribe(self._broker.keys.commands)
                self._obey()
                self._beat()
                self._tell_stuck()
                pubsub.get_message(timeout=BEAT_S)
            except (redis.RedisError, OSError):
                pubsub = None  # the consumers say it in the log; this one only comes back
                self._ended.wait(BEAT_S / 2)
            self._weigh()

    def stop(self) -> None:
        """Say goodbye: the worker is gone for those who look, at once."""
        self._ended.set()
        try:
            pipe = self._broker.client.pipeline(transaction=False)
            pipe.zrem(self._broker.keys.workers, self._broker.options.worker_id)
            pipe.hdel(self._broker.keys.commands, self._broker.options.worker_id)
            pipe.delete(self._key)
            pipe.publish(self._broker.keys.events, f"workers {self._pool} {int(clock.now().timestamp() * 1000)}")
            pipe.execute()
        except (redis.RedisError, OSError):
            log.debug("the heartbeat runs out by itself")

    def _beat(self) -> None:
        broker = self._broker
        seconds, micros = broker.client.time()
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        jobs = [
            {
                "job_id": job_id,
                "actor": proxy.job.actor,
                "target": proxy.job.item_id,
                "institution": proxy.job.institution,
                "thread": number,
                "running_ms": proxy.duration_ms,
                "still_ms": proxy.still_ms,
                "steps": proxy.steps,
                "last_step": proxy.last_step,
            }
            for number, (job_id, proxy) in enumerate(sorted(broker.held.items()), 1)
        ]
        fields: dict[Any, Any] = {
            "pool": self._pool,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "queues": ",".join(sorted(broker.get_declared_queues())),
            "threads": broker.options.threads,
            "state": "quiet" if broker.quiet.is_set() else "running",
            "started_at": self._since,
            "memory_mb": round(self.memory_mb(), 1),
            "memory_limit_mb": self._limit_mb,
            "stalled_s": round(self._stalled_s(), 3),
            "stuck_after_s": self._stuck_s,
            "jobs": json.dumps(jobs),
            "beat": now_ms,
        }
        lifetime_ms = int(BEAT_S * 1000 * LIFETIME)
        pipe = broker.client.pipeline(transaction=True)
        pipe.hset(self._key, mapping=fields)
        pipe.pexpire(self._key, lifetime_ms)
        pipe.zadd(broker.keys.workers, {broker.options.worker_id: now_ms})
        pipe.zremrangebyscore(broker.keys.workers, "-inf", now_ms - lifetime_ms)
        # By a clock that was ahead: who lives comes again with its next beat.
        pipe.zremrangebyscore(broker.keys.workers, now_ms + lifetime_ms, "+inf")
        pipe.execute()

    def _tell_stuck(self) -> None:
        """One line in the log for each start that takes no step any more."""
        held = dict(self._broker.held)
        stuck = {job_id for job_id, proxy in held.items() if proxy.still_ms > self._stuck_s * 1000}
        for job_id in stuck - self._said_stuck:
            found = held[job_id]
            log.warning(
                "A job takes no step any more",
                job=job_id,
                target=found.job.item_id,
                last_step=found.last_step,
                steps=found.steps,
                still_ms=found.still_ms,
            )
        self._said_stuck = stuck

    def _stalled_s(self) -> float:
        """What health calls alive: seconds since a consumer looked for jobs although it could have, or since a thread
        came free where every one has been busy for longer than any job takes."""
        broker = self._broker
        if broker.quiet.is_set() or broker.shut.is_set() or not broker.looked:
            return 0.0
        running = [proxy.duration_ms / 1000 for proxy in list(broker.held.values())]
        if len(running) >= broker.options.threads:
            return min(running) if min(running) > HUNG_S else 0.0
        return clock.monotonic() - min(broker.looked.values()) if broker.slots.free else 0.0

    def memory_mb(self) -> float:
        return float(self._process.memory_info().rss) / 1_048_576

    def _weigh(self) -> None:
        if not self._heavy and self.memory_mb() > self._limit_mb:
            self._heavy = True
            log.warning("The worker is over its memory limit and is replaced", limit_mb=self._limit_mb)
            self._stop("memory")

    def _obey(self) -> None:
        broker = self._broker
        # A worker of all queues belongs to each pool.
        pools = ["sync", "events"] if self._pool == "all" else [self._pool]
        mine, *told = broker.client.hmget(broker.keys.commands, [broker.options.worker_id, *pools])
        if mine == "stop":
            self._stop("told")
        elif "quiet" in (mine, *told) and mine != "resume":
            if not broker.quiet.is_set():
                log.info("Quiet: finishing what runs, starting nothing more", pool=self._pool)
                broker.quiet.set()
                self._told_quiet = True
        elif self._told_quiet:
            self._told_quiet = False
            if not self._heavy and not self._leaving():
                log.info("Taking jobs again", pool=self._pool)
                broker.quiet.clear()
