"""One queue's consumer: takes what free threads can start, sleeps until told, settles what was done."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import dramatiq
import redis

from engine.clock import monotonic
from engine.errors import SyncdeskError
from engine.logs import logger
from engine.queue import scripts
from engine.queue.connection import listen, subscription
from engine.queue.jobs import Outcome, Proxy, Taken
from engine.queue.refusals import sentence
from engine.queue.slots import Slots

if TYPE_CHECKING:
    from redis.client import PubSub

    from engine.queue.broker import Broker

LOOK_S = 1.0  # the longest sleep: a lost wake-up costs no more than this
RECORD_AGAIN_MS = 2000  # until the record of a failure is tried again while Postgres is away
REFUSED_AGAIN_MS = 30_000
_BACKOFF_S = (0.05, 2.0)

log = logger("queue")


class Consumer(dramatiq.Consumer):
    """Feeds Dramatiq's worker threads from one queue. ``ack`` and ``nack`` are called from those threads."""

    def __init__(self, broker: Broker, queue: str) -> None:
        self.broker = broker
        self.queue = queue
        self._ready: deque[Proxy] = deque()
        self._pubsub: PubSub | None = None
        self._failures = 0

    @property
    def _slots(self) -> Slots:
        return self.broker.slots

    # ------------------------------------------------------------ taking

    def __next__(self) -> Proxy | None:
        if self._ready:
            return self._ready.popleft()
        if self._idle():
            time.sleep(0.1)  # Dramatiq asks again until its thread is stopped
            return None
        wait_ms = self._fetch()
        if self._ready:
            return self._ready.popleft()
        if wait_ms is not None:
            self._sleep(wait_ms)
        return None

    def _fetch(self) -> int | None:
        """Take what free threads can start. Answer: ms until something may be due (-1: unknown), None: look again."""
        room = self._slots.acquire(self.queue, LOOK_S / 2)
        if not room:
            return None
        taken: list[Proxy] = []
        try:
            self._listen()
            wiped, wait_ms, rows = self._run("take", self.queue, self._worker, self._lease_ms, room)
            taken = self._accept(rows)
            self._back()
            self.broker.looked[self.queue] = monotonic()
            if wiped:
                self.broker.new_epoch()
                return None
            return int(wait_ms)
        except (redis.RedisError, OSError) as error:
            self._lost(error)
            return None
        finally:
            if len(taken) < room:
                self._slots.release(room - len(taken))
            self._ready.extend(taken)

    def _idle(self) -> bool:
        broker = self.broker
        return broker.quiet.is_set() or broker.shut.is_set() or broker.closing.is_set()

    @property
    def _worker(self) -> str:
        return self.broker.options.worker_id

    @property
    def _lease_ms(self) -> int:
        return int(self.broker.options.lease_s * 1000)

    def _run(self, name: str, *args: str | int | float) -> Any:
        return scripts.run(self.broker.line(), self.broker.keys, name, *args)

    def _accept(self, rows: Iterable[str]) -> list[Proxy]:
        proxies = [Proxy(Taken.from_script(self.queue, row)) for row in rows]
        for proxy in proxies:
            self.broker.hold(proxy)
        return proxies

    def _listen(self) -> None:
        """Subscribe to the queue's wake-ups, and be sure of it before looking for jobs."""
        if self._pubsub is not None:
            return
        pubsub = subscription(self.broker.client)
        try:
            listen(pubsub, self.broker.keys.wake(self.queue), 5)
            self._pubsub = pubsub
        finally:
            if self._pubsub is None:
                pubsub.close()

    def _sleep(self, wait_ms: int) -> None:
        """Until told of a job, until one is due, or for a second."""
        if self._pubsub is None or self._idle():
            return
        limit = LOOK_S if wait_ms < 0 else min(LOOK_S, max(wait_ms, 1) / 1000)
        try:
            if self._pubsub.get_message(timeout=limit):
                while self._pubsub.get_message(timeout=0):
                    pass  # several wake-ups ask for one look
        except (redis.RedisError, OSError) as error:
            self._lost(error)

    def _lost(self, error: Exception) -> None:
        """The broker is away: wait a little longer each time, and say so once."""
        self._forget()
        if self._idle():
            return
        if self._failures == 0:
            log.warning("Redis is away, waiting for it", queue=self.queue, reason=sentence(error))
        self._failures += 1
        self.broker.closing.wait(_pause(self._failures))

    def _back(self) -> None:
        """Redis answers. If it was away it may have lost its last second: what is unfinished is looked up anew."""
        if self._failures:
            self._failures = 0
            log.info("Redis is back", queue=self.queue)
            self._look_up_anew()

    def _look_up_anew(self) -> None:
        if self.broker.options.wiped is not None:
            self.broker.options.wiped()

    def _forget(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            try:
                pubsub.close()
            except (redis.RedisError, OSError):
                log.debug("a broken subscription was dropped", queue=self.queue)

    # ------------------------------------------------------------ settling

    def ack(self, message: dramatiq.MessageProxy) -> None:
        self._settle(message)

    def nack(self, message: dramatiq.MessageProxy) -> None:
        self._settle(message)

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        """Dramatiq hands in what it took and did not start."""
        for message in messages:
            if isinstance(message, Proxy):
                message.outcome = Outcome("back")
                self._settle(message)

    def _settle(self, message: dramatiq.MessageProxy) -> None:
        if not isinstance(message, Proxy):
            raise TypeError("This message did not come from this broker.")
        job = message.job
        outcome = message.outcome or _undecided(message)
        if outcome.kind == "failed":
            outcome = self._record(job, outcome)
        room = 0 if self._idle() or self._slots.wanted(self.queue) else 1
        answer = self._persist(job, outcome, room)
        self.broker.drop(message)
        next_jobs = self._accept(answer[2]) if answer else []
        if answer and not answer[0]:
            log.warning("A job ended that was no longer this worker's; its end was not used", job=job.id)
        if not next_jobs:
            self._slots.release()
        for proxy in next_jobs:
            self._hand_on(proxy)
        if answer and answer[3]:
            self._new_epoch()

    def _hand_on(self, proxy: Proxy) -> None:
        thread = self.broker.threads_by_queue.get(self.queue)
        if thread is None:
            self._ready.append(proxy)
        else:
            thread.handle_message(proxy)

    def _new_epoch(self) -> None:
        try:
            self.broker.new_epoch()
        except (redis.RedisError, OSError):
            log.debug("the epoch is put by the next fetch", queue=self.queue)

    def _persist(self, job: Taken, outcome: Outcome, room: int) -> Any:
        """Tell Redis how a job ended, however long Redis is away; None where we are closed before that."""
        tries = 0
        while True:
            try:
                answer = self._run(
                    "settle",
                    job.id,
                    self.queue,
                    self._worker,
                    job.start,
                    outcome.kind,
                    outcome.error,
                    outcome.delay_ms,
                    -1 if outcome.forget else int(outcome.counts),
                    self.broker.options.keep_done,
                    int(outcome.more),
                    dramatiq.message.generate_unique_id(),
                    room,
                    self._lease_ms,
                    outcome.cause,
                    "\n".join(outcome.past),
                )
                if tries:
                    self._look_up_anew()
                    answer[0] = 1  # it may be that the broker had carried it out, and only its answer was lost
                return answer
            except (redis.RedisError, OSError) as error:
                tries += 1
                if tries == 1:
                    log.warning("Redis is away, a job's end waits for it", job=job.id, cause=type(error).__name__)
                if self.broker.closing.wait(_pause(tries)):
                    return None

    def _record(self, job: Taken, outcome: Outcome) -> Outcome:
        """Postgres first, then Redis: a failure that is not recorded yet stays a job."""
        record = self.broker.options.record
        if record is None:
            return outcome
        if not job.final and not self._mark_final(job, outcome):
            return outcome  # whoever has it now says how it ends
        try:
            record(job, outcome)
        except SyncdeskError as error:
            delay = RECORD_AGAIN_MS if error.retryable else REFUSED_AGAIN_MS
            log.error("A failed job could not be recorded yet", job=job.id, code=error.code)
            return Outcome("retry", error=outcome.error, delay_ms=delay, counts=False)
        except Exception as error:  # Dramatiq would drop it, and the job would stay ours for ever
            log.error("A failed job could not be recorded yet", job=job.id, code=type(error).__name__, exc_info=error)
            return Outcome("retry", error=outcome.error, delay_ms=REFUSED_AGAIN_MS, counts=False)
        return outcome

    def _mark_final(self, job: Taken, outcome: Outcome) -> bool:
        """From here on the job is only recorded, never started again, even if we end now. False: it is not ours."""
        try:
            answer = self._run(
                "settle", job.id, self.queue, self._worker, job.start, "final", outcome.error, 0, 0, 0, 0, "", 0, 0
            )
        except (redis.RedisError, OSError) as error:
            log.warning("Redis is away while a job fails", job=job.id, cause=type(error).__name__)
            return True
        return bool(answer[0])

    def close(self) -> None:
        self._forget()


def _undecided(message: Proxy) -> Outcome:
    """The outcome where no middleware decided: failed if it raised or has no actor."""
    if message.job.final:
        return Outcome("failed")
    error = message._exception
    return Outcome("failed", exception=error) if message.failed or error is not None else Outcome("done")


def _pause(tries: int) -> float:
    low, high = _BACKOFF_S
    return float(min(high, low * 2 ** min(tries, 10)) * (0.5 + random.random() / 2))  # noqa: S311 - spreads retries


class LeaseKeeper(threading.Thread):
    """Renews the leases of all that this process runs, every quarter of a lease, and sooner while that fails."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(name="leases", daemon=True)
        self._broker = broker
        self._away = False

    def run(self) -> None:
        broker = self._broker
        while not broker.closing.wait(broker.options.lease_s / (16 if self._away else 4)):
            # Also where none is held: what an answer handed out that got lost is found by this.
            for queue in sorted(broker.get_declared_queues()):
                try:
                    self._renew(queue)
                    self._away = False
                except (redis.RedisError, OSError) as error:
                    if not self._away:
                        log.warning("Leases could not be renewed", queue=queue, reason=sentence(error))
                    self._away = True
                    break

    def _renew(self, queue: str) -> None:
        broker = self._broker
        ids = [proxy.job.id for proxy in list(broker.held.values()) if proxy.job.queue == queue]
        lease_ms = int(broker.options.lease_s * 1000)
        lost = scripts.run(broker.client, broker.keys, "renew", queue, broker.options.worker_id, lease_ms, *ids)
        if any(str(job_id) in broker.held for job_id in lost):  # not one that ended meanwhile
            log.warning("Leases were lost to a pause of this process", queue=queue, jobs=len(lost))
