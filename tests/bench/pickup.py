"""How fast a free worker picks a job up, how many it runs a second against Dramatiq's stock broker, and how far a
webhook overtakes a backlog. Every worker is a process of its own; jobs are sent from another one."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

from engine.host.valkey import Valkey
from engine.jobs.middleware import explicit
from engine.profile import Profile, prepare
from engine.queue import Keys, connect
from engine.queue.broker import Broker, BrokerOptions
from engine.queue.consumer import LeaseKeeper
from engine.settings import Settings
from tests.support import tether

THREADS = 8
SINGLES = 200
APART_S = 0.020
NO_OPS = 4000
ROUNDS = 5
BACKLOG = 20_000  # lasts longer than all webhooks take to be sent, also on a fast machine
OVERTAKING = 100
OVERTAKING_APART_S = 0.008  # the backlog must last longer than all of them
STAMPS = "bench:stamps"
COUNT = "bench:count"


def run() -> dict[str, Any]:
    """See the module. Aims: p50_ms, p99_ms, throughput_ratio, overtake_ms."""
    with tether.folder() as folder:
        profile = Profile("bench", folder / "profile")
        prepare(profile)
        server = Valkey(profile)
        server.start()
        try:
            return _measure(server.url)
        finally:
            server.stop()


def _measure(url: str) -> dict[str, Any]:
    client = redis.Redis.from_url(url, decode_responses=True)
    singles = _singles(url, client)
    ours, stock = [], []
    for _ in range(ROUNDS):  # in turn, so that a slower minute of the machine meets both
        ours.append(_throughput(url, client, "ours"))
        stock.append(_throughput(url, client, "stock"))
    overtake = _overtake(url, client)
    client.close()
    ratio = statistics.median(ours) / statistics.median(stock)
    p50, p99 = _share(singles, 0.5), _share(singles, 0.99)
    overtake_ms = _share(overtake, 0.99)
    return {
        "bench": "pickup",
        "figures": {
            "pickup_ms": {"p50": p50, "p99": p99, "max": round(max(singles), 3), "jobs": len(singles)},
            "jobs_per_s": round(statistics.median(ours)),
            "jobs_per_s_rounds": [round(value) for value in ours],
            "overtake_ms": {"p50": _share(overtake, 0.5), "p99": overtake_ms, "backlog": BACKLOG},
            "threads": THREADS,
        },
        "reference": {
            "what": "dramatiq.brokers.redis.RedisBroker with its default middleware",
            "jobs_per_s": round(statistics.median(stock)),
            "jobs_per_s_rounds": [round(value) for value in stock],
        },
        "ratio": round(ratio, 2),
        "aims": {
            "p50_ms": {"value": p50, "aim": "<= 3", "ok": p50 <= 3},
            "p99_ms": {"value": p99, "aim": "<= 15", "ok": p99 <= 15},
            "throughput_ratio": {"value": round(ratio, 2), "aim": ">= 1.5", "ok": ratio >= 1.5},
            "overtake_ms": {"value": overtake_ms, "aim": "<= 20", "ok": overtake_ms <= 20},
        },
    }


def _share(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


# ---------------------------------------------------------------- the three measurements


def _singles(url: str, client: redis.Redis) -> list[float]:
    """Milliseconds from before a job is sent to its actor's first line, one at a time to an idle worker."""
    with _worker(url, "ours"):
        stamp = _actors(_our_broker(url, 1))["stamp"]
        return _stamped(client, lambda: stamp.send(time.time()), SINGLES)


def _throughput(url: str, client: redis.Redis, kind: str) -> float:
    """No-op jobs a second: queued first, then run by one worker process."""
    client.flushall()
    broker = _our_broker(url, 1) if kind == "ours" else RedisBroker(url=url)
    noop = _actors(broker)["noop"]
    for _ in range(NO_OPS):
        noop.send()
    with _worker(url, kind, "noop"):
        began, ended = (float(value) for value in _answer(client, "bench:noop"))
    broker.close()
    return NO_OPS / (ended - began)


def _overtake(url: str, client: redis.Redis) -> list[float]:
    """Milliseconds until webhook jobs start that are put behind a backlog of no-op jobs in the same queue."""
    client.flushall()
    broker = _our_broker(url, 1)
    actors = _actors(broker)
    for _ in range(BACKLOG):
        actors["noop"].send_with_options(lane="medium", user="big")
    left: list[int] = []
    with _worker(url, "ours"):
        deadline = time.monotonic() + 30
        while not int(client.get(COUNT) or 0) and time.monotonic() < deadline:
            time.sleep(0.01)
        hook = actors["stamp"]
        found = _stamped(
            client,
            lambda: hook.send_with_options(args=(time.time(),), lane="high", user="small"),
            OVERTAKING,
            OVERTAKING_APART_S,
            lambda: left.append(_waiting(client)),
        )
    if not left[0]:
        raise RuntimeError("the backlog ran out before the webhooks were sent; raise BACKLOG")
    broker.close()
    return found


def _waiting(client: redis.Redis) -> int:
    return int(client.llen(Keys("bench").lane("bench", "medium", "big")))


def _stamped(
    client: redis.Redis, send: Any, count: int, apart_s: float = APART_S, sent: Callable[[], None] = lambda: None
) -> list[float]:
    client.delete(STAMPS)
    for _ in range(count):
        send()
        time.sleep(apart_s)
    sent()
    deadline = time.monotonic() + 30
    while client.llen(STAMPS) < count:
        if time.monotonic() > deadline:
            raise RuntimeError("jobs were sent and did not run")
        time.sleep(0.02)
    return [float(value) for value in client.lrange(STAMPS, 0, -1)]


def _answer(client: redis.Redis, key: str) -> list[str]:
    found = client.blpop([key], timeout=120)
    if found is None:
        raise RuntimeError("the worker did not finish in two minutes")
    values: list[str] = json.loads(found[1])
    return values


# ---------------------------------------------------------------- workers


def _our_broker(url: str, threads: int) -> Broker:
    options = BrokerOptions(worker_id=f"bench:{time.time_ns()}", threads=threads)
    middleware = explicit(Settings())
    return Broker(connect(url, "worker"), Keys("bench"), options, middleware)


def _actors(broker: dramatiq.Broker) -> dict[str, Any]:
    """The bench's actors. Stamps are kept until nothing is timed any more."""
    started: list[float] = []
    client = redis.Redis.from_url(sys.argv[2], decode_responses=True) if sys.argv[1:2] == ["--worker"] else None

    def noop() -> None:
        started.append(time.time())
        if client is not None:
            if len(started) == 200:
                client.set(COUNT, 200)
            if len(started) == NO_OPS:
                client.rpush("bench:noop", json.dumps([started[0], started[-1]]))

    def stamp(sent: float) -> None:
        now = time.time()
        if client is not None:
            client.rpush(STAMPS, (now - sent) * 1000)

    return {
        function.__name__: dramatiq.actor(broker=broker, queue_name="bench")(function) for function in (noop, stamp)
    }


class _worker:  # noqa: N801 - reads as a context
    """A worker process of its own, ready when the block begins."""

    def __init__(self, url: str, kind: str, what: str = "") -> None:
        self._command = [sys.executable, "-m", "tests.bench.pickup", "--worker", url, kind]
        self._wait = what != "noop"

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != b"ready":
            raise RuntimeError("the worker process did not start")
        if self._wait:
            time.sleep(0.3)  # not measured: its threads come up

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _be_worker(url: str, kind: str) -> None:
    broker = _our_broker(url, THREADS) if kind == "ours" else RedisBroker(url=url)
    _actors(broker)
    worker = dramatiq.Worker(broker, worker_threads=THREADS, worker_timeout=500)
    worker.start()
    if isinstance(broker, Broker):
        LeaseKeeper(broker).start()
    print("ready", flush=True)
    sys.stdin.buffer.read()
    if isinstance(broker, Broker):
        broker.quiet.set()
        broker.wake_consumers()
    worker.stop(2000)
    broker.close()


if __name__ == "__main__" and sys.argv[1:2] == ["--worker"]:
    _be_worker(sys.argv[2], sys.argv[3])
