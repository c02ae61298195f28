"""Plaid's limits on calls: kept for the whole install, and slowed down for everyone where Plaid refuses one."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from engine.errors import BrokerUnavailable
from engine.sync.deps import Deps

SLOW_S = 15.0
"""For so long a refusal keeps calls back; several add up, to a minute."""


def wait(deps: Deps, item_id: str, check: Callable[[], None]) -> None:
    """Wait for a call of /transactions/sync that the published limits allow; without Redis Plaid's refusals must do.

    ``check`` is called between waits and raises where the run should end.
    """
    if deps.limiter is None:
        return
    for name, per_minute in _buckets(deps, item_id):
        try:
            while (pause := deps.limiter(name, per_minute)) > 0:
                check()
                # Not all that wait may come back at the same moment.
                time.sleep(min(pause, 5.0) * random.uniform(1.0, 1.1))  # noqa: S311 - spreads calls
        except BrokerUnavailable:
            return


def slow_down(deps: Deps, item_id: str) -> None:
    """Plaid refused a call for its limit: everyone's next ones come later."""
    if deps.slow is None:
        return
    for name, per_minute in _buckets(deps, item_id):
        try:
            deps.slow(name, per_minute, SLOW_S)
        except BrokerUnavailable:
            return


def _buckets(deps: Deps, item_id: str) -> Iterator[tuple[str, float]]:
    yield f"item:{item_id}", deps.settings.plaid_item_limit
    yield "client", deps.settings.plaid_client_limit
