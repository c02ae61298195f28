"""Rows that were set aside, tried again: after a rule of the database changed, or with a reader that knows more."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from engine.plaid import pages
from engine.sync.deps import Store

PAGE = 200


@dataclass(frozen=True)
class TriedAgain:
    """How many rows are in now, how many were refused again, and how many had been ended meanwhile."""

    done: int
    refused: int
    gone: int


def try_again(store: Store, item_id: str, ids: list[str] | None, *, correlation: str) -> TriedAgain:
    """Try the rows ``ids`` of an item again, or (None) all of them; each is a commit of its own.

    Raises:
        StoreUnavailable: the database is away; what was tried before stays.
    """
    counts = {"done": 0, "refused": 0, "gone": 0}
    after = 0
    while True:
        rows = store.call("set_aside_rows", item=item_id, ids=ids, after=after, limit=PAGE)
        for row in rows:
            body, reason = _read(row["raw"], row["body"])
            answer = store.call("set_aside_retry", id=row["id"], body=body, reason=reason, correlation=correlation)
            counts[answer["status"]] += 1
        if len(rows) < PAGE:
            return TriedAgain(**counts)
        after = rows[-1]["id"]


def _read(raw: str | None, body: str) -> tuple[str | None, str | None]:
    """The row in our own shape, or why its reader refuses it."""
    if raw is None:
        return body, None
    found = pages.again(raw)
    return (None, found) if isinstance(found, str) else (msgspec.json.encode(found).decode(), None)
