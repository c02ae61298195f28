"""The queue's scripts as a test calls them by hand: queue a job, take what may start, say how a start ended."""

from __future__ import annotations

from typing import Any

from engine.queue import scripts
from engine.queue.jobs import Taken
from tests.support.queue import Bench

QUEUE = "transactions"
LEASE_MS = 60_000
"""A lease that no slow machine lets run out between two lines of a test."""
_NOT_BY_ITSELF = 9e12


def put(
    world: Bench,
    job_id: str,
    lane: str = "medium",
    user: str = "u1",
    *,
    delay: int = 0,
    key: str = "",
    bank: str = "",
    queue: str = QUEUE,
) -> str:
    """Queue a job of the test; answers its state."""
    answer = scripts.run(
        world.client, world.keys, "enqueue", job_id, queue, lane, user, key, "act", "[]", "{}", key,
        bank, "test", "c1", delay, 1, 0,
    )  # fmt: skip
    return str(answer[1])


def take(world: Bench, room: int = 1, worker: str = "w1", lease_ms: int = LEASE_MS, queue: str = QUEUE) -> list[Taken]:
    """What a worker with ``room`` free threads is given now."""
    _, _, rows = scripts.run(world.client, world.keys, "take", queue, worker, lease_ms, room)
    return [Taken.from_script(queue, row) for row in rows]


def settle(world: Bench, job: Taken, kind: str = "done", worker: str = "w1", **more: Any) -> Any:
    """Say how a start ended; the script's answer."""
    return scripts.run(
        world.client, world.keys, "settle", job.id, job.queue, worker, job.start, kind, more.get("error", ""),
        more.get("delay", 0), more.get("counts", 1), more.get("keep", 10), more.get("more", 0), "next-" + job.id,
        more.get("room", 0), LEASE_MS, more.get("cause", ""), more.get("past", ""),
    )  # fmt: skip


def fail(world: Bench, job: Taken, cause: str, *, delay: int = 3_600_000) -> None:
    """A start that met a cause which others share, as the middleware says it.

    When a canary tries the cause is up to the test (`pass_time`), however slowly it comes to its next line.
    """
    early = job.early == cause
    settle(world, job, "retry", error='{"code":"AWAY"}', delay=delay, counts=-1 if early else 1, cause=cause)
    world.client.zadd(f"{world.keys.prefix}causes:{job.queue}", {cause: _NOT_BY_ITSELF}, xx=True)


def pass_time(world: Bench, *names: str) -> None:
    """Make everything in these sorted sets (``causes:transactions``) due now."""
    for name in names:
        found: Any = world.client.zrange(world.keys.prefix + name, 0, -1)
        for member in found:
            world.client.zadd(world.keys.prefix + name, {member: 1})
