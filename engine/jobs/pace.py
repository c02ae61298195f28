"""When a failed start is tried again, and whether it counts as an attempt."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from engine.errors import BrokerUnavailable, StoreUnavailable, SyncdeskError
from engine.plaid.errors import POLICIES, PlaidError, Reaction
from engine.settings import Settings

# Trouble that is not the job's own does not use its attempts up, but not for ever either: that many starts in all.
UNCOUNTED_STARTS: Final = 30
_AWAY_S: Final = (1.0, 15.0)
# Trying again by itself cannot help. (Keys and plan: whatever else than a sync meets them, its job does fail.)
_FINAL: Final = frozenset(code for code, policy in POLICIES.items() if policy.job == "fails") | {Reaction.INSTALL}


class Later(SyncdeskError):
    """Not now: the job comes again after ``delay_s``, as if it had not been started, or once ``cause`` has ended."""

    code = "LATER"
    retryable = True

    def __init__(self, message: str, delay_s: float, cause: str = "") -> None:
        super().__init__(message)
        self.delay_s, self.cause = delay_s, cause


@dataclass(frozen=True)
class Again:
    """Try again after ``delay_s`` seconds."""

    delay_s: float
    counts: bool
    forget: bool = False


def again(error: BaseException, settings: Settings, *, tries: int, start: int) -> Again | None:
    """Whether and when to try again after ``tries`` counted attempts before this one; None: failed for good.

    An error of unknown kind is tried again: most of those pass. One that says that trying again cannot help
    (``retryable`` is false) fails at once.
    """
    if isinstance(error, Later):
        return Again(error.delay_s, counts=False, forget=True)
    if isinstance(error, StoreUnavailable | BrokerUnavailable) and start < UNCOUNTED_STARTS:
        return Again(_spread(min(_AWAY_S[1], _AWAY_S[0] * 2 ** min(start - 1, 4)), settings), counts=False)
    if isinstance(error, PlaidError):
        if error.reaction in _FINAL:
            return None
    elif isinstance(error, SyncdeskError) and not error.retryable:
        return None
    if tries + 1 >= settings.max_attempts:
        return None
    delay = settings.backoff_first_s * settings.backoff_factor**tries
    asked = error.detail.get("retry_after_s") if isinstance(error, SyncdeskError) else None
    if isinstance(asked, int | float):
        delay = max(delay, float(asked))
    return Again(_spread(delay, settings), counts=True)


def _spread(delay_s: float, settings: Settings) -> float:
    """Vary a wait, so that jobs that failed together do not come back together."""
    return delay_s * (1 + random.uniform(-settings.backoff_jitter, settings.backoff_jitter))  # noqa: S311 - no secret
