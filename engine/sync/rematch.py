"""Matching outside a sync: after a bill was written, archived or imported, and after a person's decision."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from engine import clock
from engine.api import types_bills
from engine.errors import Conflict
from engine.matching.nearest import nearest
from engine.matching.plan import plan_all
from engine.matching.types import MatchInputs, Mode
from engine.sync.deps import Store

_TRIES = 5  # each one means that a sync or a click came in between


def rematch(store: Store, user_id: str, *, correlation: str, mode: Mode = "rules") -> dict[str, int]:
    """Weigh all of a user's payments anew and take over what changed; counts of tagged, untagged, suggested.

    Raises:
        Conflict: bills or matches changed each time in between; the next sync matches anew.
    """
    for _ in range(_TRIES):
        inputs = load(store, user_id)
        changes = plan_all(inputs, clock.now().date(), mode=mode)
        answer: dict[str, Any] = store.call(
            "matches_apply",
            user=user_id,
            version=inputs.match_version,
            matches=msgspec.to_builtins(changes),
            correlation=correlation,
        )
        if answer.pop("status") == "ok":
            return answer
    raise Conflict("Bills or matches kept changing while they were matched; the next sync matches them anew.")


def rematch_due(store: Store, *, correlation: str, mode: Mode = "rules") -> int:
    """What runs that ended right after their commit left to be matched; for how many people."""
    users = store.call("rematches_due")["users"]
    for user_id in users:
        rematch(store, user_id, correlation=correlation, mode=mode)
    return len(users)


def load(store: Store, user_id: str) -> MatchInputs:
    """All of a user's bills, payments and matches."""
    return MatchInputs.read(store.call("match_inputs", user=user_id))


def bill_detail(store: Store, bill_id: str) -> types_bills.BillDetail:
    """One bill with its matches and the nearest payments that did not match, each with why not.

    Raises:
        NotFound: there is no such bill.
    """
    detail = msgspec.convert(store.call("bill_get", bill=bill_id), types_bills.BillDetail, strict=False)
    if detail.bill.due is not None and detail.bill.state in ("due", "overdue", "upcoming"):
        detail.nearest = nearest(
            load(store, detail.bill.user_id), bill_id, dt.date.fromisoformat(detail.bill.due), clock.now().date()
        )
    return detail
