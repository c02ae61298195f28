"""One fault on one world: played, disturbed in the middle, settled, and compared."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import psycopg
import redis

from engine.errors import StartError
from tests.faults import truth
from tests.faults.base import Base
from tests.faults.truth import Difference, Snapshot
from tests.faults.world import EVENTS, Shape, World, opened
from tests.support.wait import until

BEFORE = 0.15
"""Share of the script that is played before the fault begins."""
RECOVERED_WITHIN_S = 120.0
SETTLED_WITHIN_S = 90.0
LASTS_S = 20.0


@dataclass(frozen=True)
class Fault:
    """``inject`` makes the fault, lasts as long as it does, and ends it. ``moves_cursors``: it adds to the ledgers."""

    name: str
    inject: Callable[[World], None]
    shape: Shape = field(default_factory=Shape)
    moves_cursors: bool = False


@dataclass(frozen=True)
class Outcome:
    """``recovery_s``: from the end of the fault until all that the bank had by then was read; None: it was not."""

    difference: Difference
    recovery_s: float | None
    took_s: float

    @property
    def equal(self) -> bool:
        return self.difference.equal and self.recovery_s is not None


def undisturbed(base: Base, events: int = EVENTS) -> Snapshot:
    """The same world without a fault, played faster: what is in the database must not depend on the pace.

    Raises:
        AssertionError: even so the database is not what the bank has.
    """
    with opened(base, Shape(), events) as world:
        world.start()
        world.player.start()
        world.player.finish()
        found, difference = _end(world, None)
        assert difference.equal, difference.words
        return found


def disturbed(base: Base, fault: Fault, reference: Snapshot, events: int = EVENTS) -> Outcome:
    """Play a world, let the fault happen, and compare."""
    began = time.monotonic()
    with opened(base, fault.shape, events) as world:
        world.start()
        world.player.start()
        until(lambda: world.player.played >= BEFORE * len(world.events), 60, "the script to be under way")
        try:
            fault.inject(world)
        except (AssertionError, OSError, StartError, psycopg.Error, redis.RedisError) as error:
            # The others of the table are still worth their run.
            return Outcome(
                Difference(False, 0, 0, f"not injected: {error!r}"), None, round(time.monotonic() - began, 1)
            )
        recovery = world.caught_up(world.player.tops(), RECOVERED_WITHIN_S)
        world.player.finish()
        _, difference = _end(world, reference, moved=fault.moves_cursors)
    return Outcome(difference, None if recovery is None else round(recovery, 1), round(time.monotonic() - began, 1))


def _end(world: World, reference: Snapshot | None, *, moved: bool = False) -> tuple[Snapshot, Difference]:
    found = _settled(world)
    if reference is not None and moved:
        reference = replace(reference, cursors=found.cursors)
    with world.bank.control() as control:
        return found, truth.compare(found, truth.truth(control), world.player.tops(), reference)


def _settled(world: World) -> Snapshot:
    """What is there once everything is read; the backup sync raises wishes anew, so this asks for a moment without."""
    end = time.monotonic() + SETTLED_WITHIN_S
    while True:
        world.settled(max(0.0, end - time.monotonic()))
        with world.database() as connection:
            found = truth.snapshot(connection)
        if not found.unfinished or time.monotonic() > end:
            return found
