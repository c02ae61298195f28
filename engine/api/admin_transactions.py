"""Admin routes of transactions: what a person sees, attaches, and how a row became what it is."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from engine import clock
from engine.api import types
from engine.api import types_transactions as shown
from engine.api.actions import audited, correlation
from engine.api.admin_bills import rematch
from engine.api.routing import Call, Route
from engine.api.tables import act, get, moment, numeric_id, page_size
from engine.api.views import identifier
from engine.errors import UsageError

NOTE_MOST = 2000
CATEGORY_MOST = 100


class TransactionsQuery(Struct):
    user: str | None = None
    item_id: str | None = None
    q: str | None = None
    flag: Literal["never_posted", "posted_by_guess", "maybe_twice", "removed"] | None = None
    after: str | None = None
    limit: int = 100


class MomentQuery(Struct):
    """``as_of``: a moment in ISO 8601; without it, now."""

    as_of: str | None = None


def transactions(call: Call) -> shown.TransactionPage:
    ask = call.query
    found = call.context.reader.call(
        "transactions_list",
        user=ask.user,
        item=identifier(ask.item_id) if ask.item_id else None,
        q=ask.q,
        flag=ask.flag,
        after=_after(ask.after),
        limit=page_size(ask.limit),
    )
    return msgspec.convert(found, shown.TransactionPage)


def transaction(call: Call) -> shown.TransactionDetail:
    found = call.context.reader.call("transaction_get", id=_number(call.path["id"]), as_of=moment(call.query.as_of))
    return msgspec.convert(found, shown.TransactionDetail)


def annotate(call: Call) -> types.Done:
    number, said, correlation_id = _number(call.path["id"]), call.body, correlation()
    changes = _changes(said)

    def work() -> types.Done:
        call.context.store.call("transaction_annotate", id=number, changes=changes, correlation=correlation_id)
        return types.Done(message="Kept.", ids=[str(number)], correlation_id=correlation_id)

    return audited(call, "transaction.annotate", f"transaction:{number}", work, topic="transactions")


def unlink(call: Call) -> types.Done:
    number, correlation_id = _number(call.path["id"]), correlation()

    def work() -> types.Done:
        undone = call.context.store.call("posting_undo", id=number, correlation=correlation_id)
        if undone["rematch"]:
            rematch(call.context, undone["user_id"], correlation_id)
        message = "These are two transactions again; what was attached went back."
        return types.Done(message=message, ids=[str(number)], correlation_id=correlation_id)

    return audited(call, "transaction.unlink", f"transaction:{number}", work, topic="transactions")


def _changes(said: shown.Annotation) -> dict[str, Any]:
    given = (("note", said.note, NOTE_MOST), ("person_category", said.category, CATEGORY_MOST))
    for name, text, most in given:
        if text is not None and (len(text) > most or "\0" in text):
            raise UsageError(f"The {name.replace('person_', '')} has at most {most} characters.")
    return {name: text.strip() or None for name, text, _ in given if text is not None}


def _number(text: str) -> int:
    return numeric_id(text, "There is no such transaction.")


def _after(text: str | None) -> str | None:
    if text is None:
        return None
    day, _, number = text.partition("/")
    try:
        clock.parse(f"{day}T00:00:00Z")
    except ValueError:
        raise UsageError("This is no place in the list.") from None
    return f"{day}/{_number(number)}"


def routes() -> list[Route]:
    """Rows of transactions."""
    return [
        get(
            "transactions",
            "Transactions, newest first.",
            transactions,
            shown.TransactionPage,
            query=TransactionsQuery,
            found=True,
        ),
        get(
            "transactions/{id}",
            "One transaction with its history; as of any moment.",
            transaction,
            shown.TransactionDetail,
            query=MomentQuery,
            found=True,
        ),
        act(
            "transactions/{id}",
            "Attach a note or a category to a transaction.",
            annotate,
            body=shown.Annotation,
            errors=(422,),
        ),
        act("transactions/{id}/unlink", "Undo a guessed link between a pending and a posted transaction.", unlink),
    ]
