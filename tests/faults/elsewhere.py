"""Faults of Plaid: down, slow, talking nonsense, refusing; updates that never hold still."""

from __future__ import annotations

import time
from typing import Any

from tests.faults.run import LASTS_S
from tests.faults.world import World

DRIP_S = 0.5
"""Between two pieces of an answer: each comes before any read times out, the answer takes ten seconds."""
MUTATE_EVERY_S = 0.1
NONSENSE: tuple[dict[str, Any], ...] = (
    {"kind": "html", "status": 502},
    {"kind": "empty"},
    {"kind": "truncated"},
    {"kind": "html", "status": 200},
)


def bank_down(world: World) -> None:
    """Every call ends in a connection that is cut off."""
    _rule(world, path="*", kind="reset")


def bank_dripping(world: World) -> None:
    """Every answer comes in small pieces."""
    _rule(world, path="*", kind="drip", delay_s=DRIP_S)


def bank_garbage(world: World) -> None:
    """Proxies' pages, nothing, and halves of answers, in turn."""
    with world.bank.control() as control:
        for nonsense in NONSENSE:
            control.do("faults", **nonsense)
            time.sleep(LASTS_S / len(NONSENSE))
            control.do("faults/clear")


def bank_limits(world: World) -> None:
    """Every sync is refused for Plaid's limits."""
    _rule(world, path="/transactions/sync", kind="error", error_code="TRANSACTIONS_SYNC_LIMIT")


def mutation_storm(world: World) -> None:
    """Updates of several pages change while they are read, and have to be read anew."""
    with world.bank.control() as control:
        end = time.monotonic() + LASTS_S
        while time.monotonic() < end:
            for item_id in {event.item_id for event in world.events if event.long}:
                control.do("mutate", item_id=item_id)
                world.player.moved(item_id, 1)
            time.sleep(MUTATE_EVERY_S)


def _rule(world: World, **rule: Any) -> None:
    with world.bank.control() as control:
        control.do("faults", **rule)
        time.sleep(LASTS_S)
        control.do("faults/clear")
