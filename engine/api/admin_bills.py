"""Admin routes of bills and their matches."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from engine.api import types, types_bills
from engine.api.actions import audited, correlation
from engine.api.context import Context
from engine.api.routing import Call, Route
from engine.api.tables import act, get, page_size
from engine.api.views import identifier
from engine.errors import Conflict, UsageError
from engine.logs import logger
from engine.sync import rematch as matching

DEFAULT_USER = "me"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


class BillsQuery(Struct):
    state: str | None = None
    q: str | None = None
    user_id: str | None = None
    after: str | None = None
    limit: int = 100


class ReviewQuery(Struct):
    state: str | None = None
    user_id: str | None = None
    after: str | None = None
    limit: int = 50


class MatchSeen(Struct):
    """``version`` of the match as the person saw it: refused with 409 where it changed since."""

    version: str | None = None


def bills(call: Call) -> Any:
    ask = call.query
    return call.context.reader.call(
        "bills_list",
        user=identifier(ask.user_id) if ask.user_id else None,
        q=ask.q,
        state=ask.state,
        after=identifier(ask.after) if ask.after else None,
        limit=page_size(ask.limit),
    )


def bill(call: Call) -> types_bills.BillDetail:
    return matching.bill_detail(call.context.store, identifier(call.path["id"]))


def review(call: Call) -> types_bills.MatchPage:
    ask = call.query
    found = call.context.reader.call(
        "matches_review",
        user=identifier(ask.user_id) if ask.user_id else None,
        state=ask.state,
        after=identifier(ask.after) if ask.after else None,
        limit=page_size(ask.limit),
    )
    return msgspec.convert(found, types_bills.MatchPage)


def add(call: Call) -> types.Done:
    return _write(call, None)


def edit(call: Call) -> types.Done:
    return _write(call, identifier(call.path["id"]))


def _write(call: Call, bill_id: str | None) -> types.Done:
    body: types_bills.BillWrite = call.body
    user = body.user or DEFAULT_USER

    def work() -> types.Done:
        fields = msgspec.to_builtins(body)
        fields.pop("user")
        made = call.context.store.call("bill_put", bill=bill_id, user=user, body=fields)
        done = types.Done(
            message="The bill is kept." if bill_id else "The bill is added.",
            ids=[made["id"]],
            correlation_id=correlation(),
        )
        rematch(call.context, made["user_id"], done.correlation_id or "")
        return done

    return audited(call, "bill.edit" if bill_id else "bill.add", f"bill:{bill_id or 'new'}", work, topic="bills")


def archive(call: Call) -> types.Done:
    bill_id = identifier(call.path["id"])

    def work() -> types.Done:
        answer = call.context.store.call("bill_archive", bill=bill_id, archived=True)
        done = types.Done(message="The bill is archived.", ids=[bill_id], correlation_id=correlation())
        rematch(call.context, answer["user_id"], done.correlation_id or "")
        return done

    return audited(call, "bill.archive", f"bill:{bill_id}", work, topic="bills")


def confirm(call: Call) -> types.Done:
    return _decide(call, "confirm", "The payment is confirmed for this bill.")


def reject(call: Call) -> types.Done:
    return _decide(call, "reject", "This payment is not proposed for this bill again.")


def _decide(call: Call, decision: str, words: str) -> types.Done:
    match_id, correlation_id = identifier(call.path["id"]), correlation()

    def work() -> types.Done:
        answer = call.context.store.call(
            "match_decide", match=match_id, decision=decision, version=call.body.version, correlation=correlation_id
        )
        rematch(call.context, answer["user_id"], correlation_id)
        return types.Done(message=words, ids=[match_id], correlation_id=correlation_id)

    return audited(call, f"match.{decision}", f"match:{match_id}", work, topic="bills")


def undo(call: Call) -> types.Done:
    match_id, correlation_id = identifier(call.path["id"]), correlation()

    def work() -> types.Done:
        answer = call.context.store.call(
            "match_undo", match=match_id, version=call.body.version, correlation=correlation_id
        )
        rematch(call.context, answer["user_id"], correlation_id)
        return types.Done(message="The decision is taken back.", ids=[match_id], correlation_id=correlation_id)

    return audited(call, "match.undo", f"match:{match_id}", work, topic="bills")


def assign(call: Call) -> types.Done:
    wish: types_bills.MatchAssign = call.body
    bill_id, correlation_id = identifier(wish.bill_id), correlation()
    if not _DAY.fullmatch(wish.period):
        raise UsageError("A period is the bill's due date, as YYYY-MM-DD.")

    def work() -> types.Done:
        answer = call.context.store.call(
            "match_assign",
            bill=bill_id,
            transaction=wish.transaction_id,
            period=wish.period,
            correlation=correlation_id,
        )
        rematch(call.context, answer["user_id"], correlation_id)
        match_id = answer["match"]["id"]
        return types.Done(message="The payment is assigned to the bill.", ids=[match_id], correlation_id=correlation_id)

    return audited(call, "match.assign", f"bill:{bill_id}", work, topic="bills")


def rematch(context: Context, user_id: str, correlation_id: str) -> None:
    """Weigh a user's payments anew after their word. What does not come to rest is left to the next sync."""
    try:
        matching.rematch(context.store, user_id, correlation=correlation_id, mode=context.settings.matching)
    except Conflict as error:
        logger("api").warning("Matching was left to the next sync", user=user_id, code=error.code)


def routes() -> list[Route]:
    """Rows of bills and matches."""
    return [
        get(
            "bills",
            "Bills with what was due, paid, late and next.",
            bills,
            types_bills.BillPage,
            query=BillsQuery,
            found=True,
        ),
        act("bills", "Add a bill.", add, body=types_bills.BillWrite),
        get(
            "bills/review",
            "Matches to review, suggestions first.",
            review,
            types_bills.MatchPage,
            query=ReviewQuery,
            found=True,
        ),
        get("bills/{id}", "One bill and its matches.", bill, types_bills.BillDetail, found=True),
        act("bills/{id}", "Replace what is known of a bill.", edit, body=types_bills.BillWrite, method="PUT"),
        act("bills/{id}/archive", "Put a bill away; its history is kept.", archive),
        act("matches", "Assign a payment to a bill by hand.", assign, body=types_bills.MatchAssign),
        act("matches/{id}/confirm", "Yes, this payment is for this bill.", confirm, body=MatchSeen, optional=True),
        act("matches/{id}/reject", "No, it is not.", reject, body=MatchSeen, optional=True),
        act("matches/{id}/undo", "Take the last decision back.", undo, body=MatchSeen, optional=True),
    ]
