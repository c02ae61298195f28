"""Faults of our own processes: killed, stopped for a while, doubled."""

from __future__ import annotations

import os
import signal
import time

import psutil

from tests.faults.world import World
from tests.support.servers import dead
from tests.support.wait import until

WORKERS = ("worker-sync", "worker-events")
STOPPED_S = 12.0
"""Longer than a lease."""


def worker_killed(world: World) -> None:
    """The sync worker dies in the middle of its jobs."""
    os.kill(world.pid("worker-sync"), signal.SIGKILL)


def workers_killed(world: World) -> None:
    """All workers die at once."""
    for pid in [world.pid(role) for role in WORKERS]:
        os.kill(pid, signal.SIGKILL)


def worker_stopped(world: World) -> None:
    """The sync worker stands still for longer than its leases and goes on as if nothing had happened."""
    worker = psutil.Process(world.pid("worker-sync"))
    worker.suspend()
    time.sleep(STOPPED_S)
    worker.resume()


def scheduler_killed(world: World) -> None:
    """The scheduler dies."""
    os.kill(world.pid("scheduler"), signal.SIGKILL)


def host_killed(world: World) -> None:
    """The host dies; it is started again when its keeper has ended what it left."""
    assert world.engine.process is not None
    world.engine.process.kill()
    world.engine.process.wait(10)
    world.engine.up(wait=False)


def over_memory(world: World) -> None:
    """The sync worker takes more memory than it may, and is replaced."""
    heavy = world.pid("worker-sync")
    world.preload.tell(heavy=heavy)
    until(lambda: dead(heavy), 60, "the worker to be replaced")
