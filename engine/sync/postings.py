"""What became of pending transactions that went, where the bank does not say it."""

from __future__ import annotations

from engine.errors import SyncdeskError
from engine.logs import logger
from engine.sync.deps import Deps
from engine.sync.rematch import rematch

log = logger("sync")


def guess(deps: Deps, item_id: str, run_id: str | None, correlation: str) -> int:
    """Link vanished pending rows to the posted ones that they became, as far as that is clear; how many.

    A guess is recorded as one and can be undone; what the bank says later takes its place. Nothing depends on it:
    where it does not come through, the schedule does it.
    """
    try:
        answer = deps.store.call("postings_guess", item=item_id, run=run_id, correlation=correlation)
        if answer["rematch"]:
            rematch(deps.store, answer["user_id"], correlation=correlation, mode=deps.settings.matching)
    except SyncdeskError as error:
        log.warning("Pending transactions that went are left to the schedule", item=item_id, code=error.code)
        return 0
    guessed: int = answer["guessed"]
    return guessed
