"""Faults of the clock, of all the engine's processes and its servers; the bank's clock stays right."""

from __future__ import annotations

import time

from tests.faults.run import LASTS_S
from tests.faults.world import World

HOUR_S = 3600


def forward(world: World) -> None:
    """The engine's clock goes an hour ahead, and is put right."""
    _shifted(world, HOUR_S)


def back(world: World) -> None:
    """The engine's clock goes an hour back, and is put right."""
    _shifted(world, -HOUR_S)


def _shifted(world: World, seconds: int) -> None:
    world.preload.tell(ahead_s=seconds)
    server = world.redis().time()
    with world.database() as connection:
        row = connection.execute("select extract(epoch from clock_timestamp())").fetchone()
    for told in (int(row[0]) if row else 0, int(server[0])):
        assert abs(told - time.time() - seconds) < HOUR_S / 2, "a server does not see the clock"
    time.sleep(LASTS_S)
    world.preload.tell()
