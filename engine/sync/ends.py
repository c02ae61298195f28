"""The ends of a run: its result, the errors of its own, and what the item and the run's record keep of a failure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from engine.errors import SyncdeskError
from engine.plaid.errors import PlaidError

State = Literal["done", "not_ready", "nothing", "busy", "paused", "removed", "install_paused", "stale", "waiting"]


@dataclass(frozen=True)
class RunResult:
    """How a run ended. ``wanted_more``: a trigger came meanwhile, so exactly one more run is due.

    ``waiting``: for its turn to call Plaid, in ``wait_s`` seconds; the next run of the item carries it on.
    """

    state: State
    run_id: str
    added: int = 0
    modified: int = 0
    removed: int = 0
    skipped: int = 0
    tagged: int = 0
    pages: int = 0
    wait_s: float = 0.0
    wanted_more: bool = False
    lane: str = "medium"
    user_id: str | None = None
    institution: str | None = None
    timing: dict[str, float] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether any row came, changed or went."""
        return self.added + self.modified + self.removed > 0


class LostLease(SyncdeskError):
    """The run took so long without the database that its item may belong to another one now."""

    code = "LEASE_LOST"
    retryable = True


class TooLong(SyncdeskError):
    """The run went over its time; what it fetched was thrown away."""

    code = "RUN_TOO_LONG"
    retryable = True


def error_json(error: Exception) -> dict[str, Any]:
    """The failure as the run's record keeps it: codes and our own sentence, never the text of a foreign error."""
    if isinstance(error, PlaidError):
        return {
            "kind": type(error).__name__,
            "code": error.plaid_code,
            "message": error.message,
            "request_id": error.request_id,
            "http_status": error.http_status,
        }
    if isinstance(error, SyncdeskError):
        return {"kind": type(error).__name__, "code": error.code, "message": error.message}
    return {"kind": type(error).__name__, "code": "UNEXPECTED", "message": "Something unexpected happened."}
