"""By how many jobs one user's backlog of 5,000 delays another user's webhook: in each lane, with weights, and with
partitions. Counted and not timed: a worker's takes and ends are played one by one on a real server, with as many at a
time as the install allows, and a webhook comes at every moment of a turn."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import redis

from engine.host.valkey import Valkey
from engine.profile import Profile, prepare
from engine.queue import Keys, connect, scripts
from engine.queue.jobs import Taken
from engine.queue.keys import LANES
from tests.support import tether

QUEUE = "transactions"
BACKLOG = 5000
WEBHOOKS = 60
CONCURRENCY = 5
LEASE_MS = 60_000
# The heavy user's weight, the other one's, how jobs are parted.
WORLDS = [(1, 1, "none"), (3, 1, "none"), (1, 3, "none"), (3, 1, "user"), (1, 1, "institution")]


def run() -> dict[str, Any]:
    """See the module. Aim: delayed_by_jobs, the worst of all."""
    with tether.folder() as folder:
        profile = Profile("bench", folder / "profile")
        prepare(profile)
        server = Valkey(profile)
        server.start()
        client = connect(server.url, "worker")
        try:
            worst = {
                f"{lane}, weights {heavy}:{light}, {mode}": _Install(client, heavy, light, mode).worst(lane)
                for lane in LANES
                for heavy, light, mode in (WORLDS if lane == "high" else WORLDS[:2])
            }
        finally:
            client.close()
            server.stop()
    delayed = max(worst.values())
    return {
        "bench": "fairness",
        "figures": {
            "delayed_by_jobs": worst,
            "backlog": BACKLOG,
            "webhooks": WEBHOOKS * len(worst),
            "at_a_time": CONCURRENCY,
        },
        "reference": {"what": "one list, first come, first served", "delayed_by_jobs": BACKLOG},
        "ratio": round(delayed / BACKLOG, 5),
        "aims": {"delayed_by_jobs": {"value": delayed, "aim": "<= 1", "ok": delayed <= 1}},
    }


class _Install:
    """A queue with one user's backlog, and a worker whose jobs end in the order in which they began."""

    def __init__(self, client: redis.Redis, heavy: int, light: int, mode: str) -> None:
        client.flushall()
        self._client = client
        self._keys = Keys("bench")
        self._running: deque[Taken] = deque()
        self._number = 0
        client.set(self._keys.epoch, "1")
        client.hset(self._keys.weights, mapping={"heavy": str(heavy), "light": str(light)})
        client.hset(
            self._keys.limits,
            mapping={"weighted": "1", "partition": mode, f"{QUEUE}:concurrency": str(CONCURRENCY)},
        )

    def worst(self, lane: str) -> int:
        """The most jobs of the heavy user that started between a webhook's coming and its start."""
        self._put(self._client, "heavy", lane)
        pipe = self._client.pipeline(transaction=False)
        for _ in range(BACKLOG):
            self._put(pipe, "heavy", lane)
        pipe.execute()
        self._accept(scripts.run(self._client, self._keys, "take", QUEUE, "w", LEASE_MS, CONCURRENCY)[2])
        found = 0
        for number in range(WEBHOOKS):
            for _ in range(number % 7):
                self._turn()
            webhook = self._put(self._client, "light", lane)
            passed = 0
            while self._turn() != webhook:
                passed += 1
            found = max(found, passed)
        return found

    def _put(self, client: redis.Redis, user: str, lane: str) -> str:
        self._number += 1
        name = f"{user}{self._number}"
        scripts.run(
            client, self._keys, "enqueue", name, QUEUE, lane, user, "", "act", "[]", json.dumps({}), "",
            f"bank of {user}", "webhook", "c", 0, 1, 0,
        )  # fmt: skip
        return name

    def _turn(self) -> str:
        """The oldest job ends, and the next one starts in the same step; its id."""
        job = self._running.popleft()
        answer = scripts.run(
            self._client, self._keys, "settle", job.id, QUEUE, "w", job.start, "done", "", 0, 1, 10, 0, "", 1, LEASE_MS
        )
        self._accept(answer[2])
        return self._running[-1].id

    def _accept(self, rows: list[str]) -> None:
        self._running.extend(Taken.from_script(QUEUE, row) for row in rows)
