"""Plaid's limits on calls: kept for the whole install, and slowed down for everyone where Plaid refuses one."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from engine.errors import BrokerUnavailable
from engine.sync.deps import Deps

SLOW_S = 15.0
"""For so long a refusal keeps calls back; several add up, to a minute."""
LONGEST_WAIT_S = 1.0
"""A run that has to wait for longer gives its thread to others meanwhile."""
AWAY_S = 6.0
"""For at least so long: an item's bucket is full again then, so the run gets five calls for its next start."""


class NotYet(Exception):
    """The next call, with ``cursor``, may be made in ``wait_s`` seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__()
        self.wait_s = max(wait_s, AWAY_S)
        self.cursor: str | None = None


def wait(deps: Deps, item_id: str, check: Callable[[], None]) -> None:
    """Wait for a call of /transactions/sync that the published limits allow; without Redis Plaid's refusals must do.

    ``check`` is called between waits and raises where the run should end.

    Raises:
        NotYet: the wait is too long to keep a thread for it.
    """
    if deps.limiter is None:
        return
    for name, per_minute in _buckets(deps, item_id):
        try:
            while (pause := deps.limiter(name, per_minute)) > 0:
                check()
                if pause > LONGEST_WAIT_S:
                    raise NotYet(pause)
                # Not all that wait may come back at the same moment.
                time.sleep(pause * random.uniform(1.0, 1.1))  # noqa: S311 - spreads calls
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
