"""Random lives of the queue: whatever is enqueued, crashes, is wiped or mistimed, every wish in Postgres is served, its
effect is there once, and every failure is recorded.

The worker is the engine's own consumer, middleware and recorder, driven step by step in this thread, so that a run is
repeatable and can be cut off anywhere. The wishes are rows of the outbox, the effects are notices.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import PriorityQueue
from typing import Any

import dramatiq
import psutil
import psycopg
import pytest
import redis
from dramatiq.worker import WorkerThread

from engine.errors import BrokerUnavailable, StoreRefused, StoreUnavailable
from engine.host.valkey import Valkey
from engine.notify.deliver import deliver
from engine.queue import Control, Hints, Reconciler
from engine.queue.broker import Broker
from engine.queue.consumer import Consumer
from engine.queue.jobs import Proxy
from engine.queue.lua_common import POISON_STARTS
from engine.store import Transport
from tests.support.brokers import of_kind
from tests.support.queue import Bench, bench
from tests.support.queue import settings as queue_settings
from tests.support.servers import throwaway_profile

QUEUE = "notifications"
HOUR_MS = 3_600_000
LEASE_S = 2.0
LAPSE_MS = 2500  # leases run out, but nobody takes the broker for one that was away
ANSWER_S = 0.5  # a broker that hangs is given up sooner than by real workers


class Cut(BaseException):
    """The process ends here, as by kill -9."""


class Switch:
    """The real store behind a switch."""

    def __init__(self, store: Transport) -> None:
        self._store = store
        self.away = False

    def call(self, name: str, /, **params: Any) -> Any:
        if self.away:
            raise StoreUnavailable("The database cannot be reached.")
        return self._store.call(name, **params)


class Outages:
    """A broker of this test alone, which goes away and comes back."""

    def __init__(self, server: Valkey) -> None:
        self._server = server
        self._back: Callable[[], None] | None = None
        self.count = 0

    def begin(self, kind: str) -> None:
        """``hangs``: does later what it is sent. ``killed``: comes back with its file. ``lost``: without."""
        self.count += 1
        assert self._server.pid is not None
        process = psutil.Process(self._server.pid)
        if kind == "hangs":
            process.suspend()
            self._back = process.resume
        else:
            process.kill()
            process.wait(10)
            self._server.stop()
            if kind == "lost":
                shutil.rmtree(self._server.profile.broker_data)
            self._back = self._server.start

    def end(self) -> None:
        back, self._back = self._back, None
        if back is not None:
            back()


@dataclass
class Life:
    """One random life and what is known of it."""

    world: Bench
    store: Switch
    url: str
    outages: Outages
    outage: str = ""  # to begin while the next job runs
    kinds: dict[int, str] = field(default_factory=dict)
    cut: Counter[int] = field(default_factory=Counter)
    flaky_met: set[int] = field(default_factory=set)
    unheard: int = 0  # a broker that stood still for long: who took that job does not know of it, so its lease runs out
    number: int = 0

    # ------------------------------------------------------------ steps

    def wish(self, kind: str, hinted: bool) -> None:
        row = self.store._store.call("outbox_add", kind="transactions", payload={"added": 1})["id"]
        self.kinds[row] = kind
        if hinted:
            self.hint(row)

    def hint(self, row: int) -> None:
        Hints(self.world.client, self.world.keys).notification(row, None, "c")

    def again(self, index: int) -> None:
        """A second hint for a wish that was not failed."""
        rows = [row for row, kind in self.kinds.items() if kind != "fails"]
        if rows:
            self.hint(rows[index % len(rows)])

    def work(self, count: int, cut_at: str, freed: bool, postgres_away: bool, outage: str = "") -> None:
        """A process that runs up to ``count`` jobs and may be cut off at one of the first three.

        ``outage``: what the broker does while the first of them runs, until its end has once not been heard.
        """
        self.number += 1
        name = f"host:{self.number}:x"
        broker, consumer = self.process(name)
        self.store.away = postgres_away
        try:
            for n in range(count):
                proxy = self.take(consumer)
                if proxy is None:
                    break
                self.outage = outage if n == 0 else ""
                self.run(broker, consumer, proxy, cut_at if n == count % 3 else "")
        except Cut:
            if freed:  # as a host does that saw it end
                Control(self.world.client, self.world.keys).free(name)
        finally:
            self.store.away = False
            self.outages.end()

    def restart(self, kind: str) -> None:
        """The broker goes and comes back between two steps: every connection is dead."""
        self.outages.begin(kind)
        self.outages.end()

    def wipe(self) -> None:
        for key in list(self.world.client.scan_iter(match=f"*{self.world.keys.namespace}*", count=1000)):
            self.world.client.delete(key)

    def clock(self, ms: int) -> None:
        """The server's clock is set by ``ms``: all that is stored is as much further in the past."""
        keys = self.world.keys
        shared = [f"{keys.prefix}{name}:{QUEUE}" for name in ("causes", "freed")]
        for name in (keys.delayed(QUEUE), keys.retrying(QUEUE), keys.running(QUEUE), *shared):
            found: Any = self.world.client.zrange(name, 0, -1, withscores=True)
            for member, score in found:
                self.world.client.zadd(name, {member: score - ms})
        last = self.world.client.hget(keys.limits, f"{QUEUE}:clock")
        if last:
            self.world.client.hset(keys.limits, f"{QUEUE}:clock", str(int(last) - ms))

    def reconcile(self) -> None:
        Reconciler(self.store, self.world.client, self.world.keys).run_once()

    # ------------------------------------------------------------ a process

    def process(self, name: str) -> tuple[Broker, Consumer]:
        given = queue_settings(lease_s=LEASE_S, backoff_first_s=0.001, max_attempts=2, keep_failed=10_000)
        broker = self.world.broker(name, threads=1, given=given)
        limits = {"socket_timeout": ANSWER_S, "socket_connect_timeout": ANSWER_S}  # also to shake hands
        broker.client.connection_pool.connection_kwargs.update(limits)
        dramatiq.actor(
            actor_name="deliver_notice", queue_name=QUEUE, broker=broker, takes_job=True, throws=BaseException
        )(self.act)
        consumer = Consumer(broker, QUEUE)
        real = consumer._run

        def until_unheard(*args: Any) -> Any:
            try:
                return real(*args)
            except (redis.RedisError, OSError):
                self.unheard += args[0] == "take"
                self.outages.end()
                raise

        consumer._run = until_unheard  # type: ignore[method-assign]
        return broker, consumer

    def act(self, outbox_id: int, correlation: str, job: Proxy) -> None:
        kind = self.kinds[outbox_id]
        if self.outage:
            self.outages.begin(self.outage)
            self.outage = ""
        if kind == "fails":
            raise StoreRefused("The database refused.", sqlstate="23514")
        if kind == "flaky" and outbox_id not in self.flaky_met:
            self.flaky_met.add(outbox_id)
            raise ValueError("not this time")
        deliver(self.store, outbox_id)

    def take(self, consumer: Consumer) -> Proxy | None:
        """One job if there is one now: the look of a consumer without its sleep."""
        consumer._fetch()
        consumer._forget()
        return consumer._ready.popleft() if consumer._ready else None

    def run(self, broker: Broker, consumer: Consumer, proxy: Proxy, cut_at: str) -> None:
        target = int(proxy.job.item_id)
        if cut_at == "taken":
            self.cut[target] += 1
            raise Cut
        if cut_at in ("settling", "recording"):
            self.cut[target] += 1
            name = "_persist" if cut_at == "settling" else "_record"
            real = getattr(consumer, name)

            def cut(*args: Any) -> Any:
                if cut_at == "recording":
                    real(*args)  # Postgres has it, Redis does not
                raise Cut

            setattr(consumer, name, cut)
        broker.quiet.set()  # the next job is taken by a step of its own
        work: PriorityQueue[Any] = PriorityQueue()
        work.put(1)
        work.get()
        thread = WorkerThread(broker=broker, consumers={QUEUE: _Post(consumer)}, work_queue=work, worker_timeout=100)  # type: ignore[dict-item]
        thread.process_message(proxy)
        broker.quiet.clear()

    # ------------------------------------------------------------ the end

    def settle(self) -> None:
        """Let the dust settle: processes that are not cut off, a reconciler, and time."""
        for _ in range(60):
            self.reconcile()
            self.work(50, "", False, False)
            self.clock(20_000 if self.number % 2 else LAPSE_MS)
            if self.quiet():
                return
        raise AssertionError(f"still unfinished: {self.store.call('unfinished')}")

    def quiet(self) -> bool:
        keys = self.world.keys
        live = [
            int(self.world.client.zcard(name))
            for name in (keys.delayed(QUEUE), keys.retrying(QUEUE), keys.running(QUEUE))
        ]
        done = not any(live) and not self.store.call("unfinished")["outbox"] and not self.waiting()
        if done:  # who waits for nothing is known by no cause
            assert not list(self.world.client.scan_iter(match=f"*{keys.namespace}}}:cause:*"))
        return done

    def waiting(self) -> int:
        keys = self.world.keys
        return sum(int(self.world.client.llen(keys.ring(QUEUE, lane))) for lane in ("high", "medium", "low"))

    def check(self) -> None:
        with psycopg.connect(self.url) as connection:
            notices = dict(connection.execute("select outbox_id, count(*) from syncdesk.notices group by 1").fetchall())
            rows = connection.execute("select arguments ->> 'outbox_id', error ->> 'code' from syncdesk.failed_jobs")
            failures: dict[int, list[str]] = {}
            for target, code in rows.fetchall():
                failures.setdefault(int(target), []).append(code)
            counted = connection.execute("select coalesce(sum(count), 0) from syncdesk.failure_groups").fetchone()
        assert counted is not None
        assert int(counted[0]) == sum(len(codes) for codes in failures.values())
        assert not list(self.world.client.scan_iter(match=f"*{self.world.keys.namespace}}}:again:*"))
        for row, kind in self.kinds.items():
            codes = failures.get(row, [])
            assert notices.get(row, 0) <= 1
            if kind == "fails":
                assert len(codes) == 1, (row, codes)
                assert row not in notices
            elif self.cut[row] + self.unheard < POISON_STARTS:
                assert notices.get(row) == 1, (row, kind, codes, self.cut[row])
                assert codes == []
            else:
                assert notices.get(row) == 1 or codes == ["POISON"]


class _Post:
    """Where Dramatiq's worker thread hands a job back."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def post_process_message(self, message: dramatiq.MessageProxy) -> None:
        self._consumer.ack(message)


LIVES = int(os.environ.get("SYNCDESK_TEST_LIVES", "40"))
CUTS = ["taken", "settling", "recording"]


def steps(dice: random.Random) -> list[tuple[Any, ...]]:
    """A life: wishes and work above all, so that faults meet jobs that are under way."""
    found: list[tuple[Any, ...]] = []
    for _ in range(dice.randint(15, 60)):
        name = dice.choices(
            ["wish", "work", "again", "wipe", "clock", "reconcile", "restart"], [40, 40, 8, 3, 5, 4, 3]
        )[0]
        match name:
            case "wish":
                found.append((name, dice.choice(["ok", "ok", "ok", "flaky", "fails"]), dice.random() < 0.8))
            case "work":
                cut = dice.choice(CUTS) if dice.random() < 0.5 else ""
                outage = dice.choice(["hangs", "killed", "lost"]) if dice.random() < 0.3 else ""
                found.append((name, dice.randint(1, 5), cut, dice.random() < 0.5, dice.random() < 0.2, outage))
            case "again":
                found.append((name, dice.randrange(100)))
            case "restart":
                found.append((name, dice.choice(["killed", "lost"])))
            case "clock":
                found.append((name, dice.choice([HOUR_MS, -HOUR_MS, LAPSE_MS, LAPSE_MS])))
            case _:
                found.append((name,))
    return found


@pytest.fixture
def outages(broker_kind: str) -> Iterator[Outages]:
    with throwaway_profile() as profile:
        server = of_kind(broker_kind, profile)
        server.start()
        made = Outages(server)
        yield made
        made.end()
        server.stop()


@pytest.mark.brokers
@pytest.mark.timeout(1200)
def test_every_wish_is_served_once(outages: Outages, broker_kind: str, store: Transport, database_url: str) -> None:
    """Forty lives here; ``SYNCDESK_TEST_LIVES`` for more. A life that fails is named by its number.

    All of them on the bundled Valkey, a few of them on each other kind of broker.
    """
    lives = LIVES if broker_kind == "valkey" else max(1, LIVES // 13)
    switch = Switch(store)
    cut = 0
    for number in range(lives):
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("truncate syncdesk.outbox, syncdesk.notices, syncdesk.failed_jobs")
            connection.execute("truncate syncdesk.failure_groups cascade")
        with bench(outages._server.url, f"p{uuid.uuid4().hex[:10]}", switch) as world:
            life = Life(world, switch, database_url, outages)
            if number % 2:  # every second life keeps a distance between the jobs of one wish
                world.client.hset(world.keys.limits, f"{QUEUE}:distance", "2000")
            # Every third is parted, so that its retries and its users have shares of the queue.
            parted = {"partition": ("none", "user", "institution")[number % 3], f"{QUEUE}:concurrency": "4"}
            world.client.hset(world.keys.limits, mapping=parted)
            for name, *arguments in steps(random.Random(number)):
                with contextlib.suppress(BrokerUnavailable, StoreUnavailable):
                    getattr(life, name)(*arguments)
            try:
                life.settle()
                life.check()
            except AssertionError as error:
                raise AssertionError(f"life {number}: {error}") from error
            cut += sum(life.cut.values()) + life.unheard
    assert cut >= lives  # the lives were not too quiet to prove anything
    assert outages.count >= lives
