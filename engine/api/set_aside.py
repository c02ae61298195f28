"""Admin routes of a bank's rows that were set aside: which and why, and trying them again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from engine.api import types, types_banks, views
from engine.api.actions import audited, correlation
from engine.api.context import Context
from engine.api.phrases import count
from engine.api.routing import Call, Route
from engine.api.tables import act, get, page_size

#: What the database says of a row that it refuses, by SQLSTATE or its class, in words.
_WORDS: Mapping[str, str] = {
    "23502": "A field that must be there is missing",
    "23503": "It refers to something that is not there",
    "23505": "Another row has the same key",
    "23514": "It breaks a rule of the database",
    "22003": "A number is too large",
    "22007": "A date or time is none",
    "22008": "A date or time is out of range",
    "22": "A value is not of its kind",
    "23": "It breaks a rule of the database",
    "54": "It is too large",
}


class Query(Struct):
    after: str | None = None
    limit: int = 50


def words(reason: str) -> str:
    """A reason as it is kept (``sqlstate 23514 name_of_the_rule``, or a reader's words) for people."""
    mark, _, rest = reason.partition(" ")
    if mark != "sqlstate":
        return f"{reason[:1].upper()}{reason[1:]}"
    code, _, rule = rest.partition(" ")
    said = _WORDS.get(code) or _WORDS.get(code[:2]) or f"The database refuses it ({code})"
    return f"{said} ({rule})" if rule else said


def page(context: Context, item_id: str, after: str | None = None, limit: int = 50) -> types_banks.SetAsidePage:
    """Open entries of a bank link, newest first."""
    found: Any = context.store.call(
        "set_aside_list", item=item_id, after=int(after) if after and after.isdigit() else None, limit=limit
    )
    for row in found["rows"]:
        row["sentence"] = f"{words(row['reason'])}."
    return msgspec.convert(found, types_banks.SetAsidePage)


def _known(call: Call) -> str:
    """The bank link that the path names.

    Raises:
        NotFound: there is none.
    """
    item_id = views.identifier(call.path["id"])
    call.context.store.call("item_get", item=item_id)
    return item_id


def _list(call: Call) -> types_banks.SetAsidePage:
    item_id = _known(call)
    return page(call.context, item_id, call.query.after, page_size(call.query.limit))


def _retry(call: Call) -> types.Done:
    item_id, correlation_id = _known(call), correlation()
    ids = call.body.ids if call.body is not None else None

    def work() -> types.Done:
        from engine.sync.set_aside import try_again

        tried = try_again(call.context.store, item_id, ids, correlation=correlation_id)
        parts = [f"{count(tried.done, 'row')} {'is' if tried.done == 1 else 'are'} in now"]
        if tried.refused:
            parts.append(f"{count(tried.refused, 'row')} refused again")
        return types.Done(message=f"{'; '.join(parts)}.", ids=[item_id], correlation_id=correlation_id)

    return audited(call, "item.set_aside_retry", f"item:{item_id}", work, topic="items")


def routes() -> list[Route]:
    """Rows of the rows that were set aside."""
    return [
        get(
            "items/{id}/set-aside",
            "Rows of one bank that were refused, each with its reason.",
            _list,
            types_banks.SetAsidePage,
            query=Query,
            found=True,
        ),
        act(
            "items/{id}/set-aside/retry",
            "Try refused rows again: those named, or all of the bank.",
            _retry,
            body=types_banks.TryAgain,
            optional=True,
        ),
    ]
