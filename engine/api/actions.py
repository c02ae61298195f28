"""What a person or program does through the API: done in the engine, written to the audit trail, told to consoles.

Postgres first: a wish raised there survives whatever Redis does, so a broker that is away
changes the sentence of the answer, not the outcome.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from engine.api import types, types_banks
from engine.api.context import Context, Hints
from engine.api.hinting import Hinter
from engine.api.routing import Call
from engine.api.views import identifier
from engine.errors import BrokerUnavailable, SyncdeskError, UsageError
from engine.logs import logger

SYNC_BATCH = 10_000
"""Links that one backup run asks for; more are taken by the next one."""

log = logger("api")


def correlation() -> str:
    """A fresh correlation id, for what begins with a click or a call."""
    return str(uuid.uuid4())


def audited(
    call: Call, action: str, target: str, work: Callable[[], types.Done], topic: str | None = None, reason: str = ""
) -> types.Done:
    """Do ``work``, write who did it to the audit trail, and tell consoles that ``topic`` changed.

    A refused action is written too, and one that met a defect of ours, by its kind alone. An audit trail that cannot
    be written does not undo what is done: it is logged instead.
    """
    try:
        done = work()
    except SyncdeskError as error:
        _write(call, action, target, reason, f"Refused: {error.message}", "")
        raise
    except Exception as error:
        _write(call, action, target, reason, f"Failed: {type(error).__name__}.", "")
        raise
    kind, _, name = target.partition(":")
    if name == "new" and done.ids:
        target = f"{kind}:{done.ids[0]}"
    _write(call, action, target, reason, done.message, done.correlation_id or "")
    if topic is not None:
        tell(call.context, topic, target.partition(":")[2] or None)
    return done


def _write(call: Call, action: str, target: str, reason: str, result: str, correlation_id: str) -> None:
    try:
        call.context.store.call(
            "audit_add",
            who=call.who,
            action=action,
            target=target,
            reason=reason,
            result=result,
            correlation=correlation_id,
        )
    except SyncdeskError as error:
        log.error("An action is missing from the audit trail", action=action, target=target, code=error.code)


def tell(context: Context, topic: str, identifier_: str | None = None) -> None:
    """Tell consoles to look again. Where Redis is away they do so by themselves on its return."""
    try:
        context.events.publish(topic, identifier_)
    except BrokerUnavailable as error:
        log.debug("An event was not told", topic=topic, code=error.code)


# ---------------------------------------------------------------- hints


def hint_rows(hints: Hints, rows: list[Mapping[str, Any]], trigger: str, correlation_id: str) -> list[str] | None:
    """Put the hints that a wish answered with; the ids of their jobs, or None where Redis is away."""
    ids = []
    try:
        for row in rows:
            ids.append(
                hints.sync(row["item_id"], row["user_id"], row["institution"], row["lane"], trigger, correlation_id)
            )
    except BrokerUnavailable as error:
        log.warning("Hints are left to the reconciler", code=error.code, hinted=len(ids), wanted=len(rows))
        return None
    return ids


def hint_received(hints: Hints, hinter: Hinter, received: Any) -> None:
    """Hint what a stored webhook asks for, without waiting for Redis."""
    if received.duplicate:
        return
    raised, correlation_id = received.raised, received.correlation
    if raised is not None:
        hinter.put(
            lambda: hints.sync(
                raised.item_id, raised.user_id, raised.institution, raised.lane, "webhook", correlation_id
            )
        )
    elif received.state == "received":
        hinter.put(lambda: hints.webhook(received.inbox_id, received.user_id, correlation_id))


# ---------------------------------------------------------------- syncs


def sync(call: Call, request: types_banks.SyncRequest) -> types.Done:
    """Sync one item or all now.

    Raises:
        UsageError: neither or both are named.
        NotFound, Conflict: no such item, or it is paused or removed.
    """
    if request.all == (request.item_id is not None):
        raise UsageError("Name an item_id, or say all.")
    if request.item_id is None:
        return audited(call, "items.sync_all", "items", lambda: _sync_all(call.context))
    item_id = identifier(request.item_id)
    return audited(call, "item.sync", f"item:{item_id}", lambda: sync_item(call.context, item_id), topic="items")


def sync_item(context: Context, item_id: str) -> types.Done:
    """Raise one item's wish and hint it, or run it here (``SYNCDESK_MANUAL_SYNC=direct``)."""
    correlation_id = correlation()
    wish = context.store.call("items_want", items=[item_id], trigger="manual", correlation=correlation_id, lane="high")
    if context.settings.manual_sync == "direct":
        message = context.direct_sync(item_id, correlation_id)
        return types.Done(message=message, ids=[item_id], correlation_id=correlation_id)
    ids = hint_rows(context.hints, wish["hints"], "manual", correlation_id)
    message = "The sync is queued." if ids is not None else "The sync starts as soon as the queue answers again."
    return types.Done(message=message, ids=ids or [], correlation_id=correlation_id)


def _sync_all(context: Context) -> types.Done:
    correlation_id = correlation()
    wish = context.store.call("items_want", items=None, trigger="manual", correlation=correlation_id, lane="medium")
    hint_rows(context.hints, wish["hints"], "manual", correlation_id)
    number = len(wish["hints"])
    message = "There is no bank to sync." if not number else f"{number} bank{'s' if number > 1 else ''} will sync."
    return types.Done(
        message=message, ids=[row["item_id"] for row in wish["hints"]][:100], correlation_id=correlation_id
    )


def sync_stale(context: Context, trigger: str) -> types.Done:
    """The backup sync: every link without a success for an interval, medium priority, a ring of users.

    Staggering is the queue's: lanes, the install's concurrency and Plaid's buckets decide the pace.
    """
    correlation_id = correlation()
    age_s = int(context.settings.backup_every_s * 0.9)
    wish = context.store.call("items_want_stale", age_s=age_s, limit=SYNC_BATCH, correlation=correlation_id)
    hint_rows(context.hints, wish["hints"], trigger, correlation_id)
    number = len(wish["hints"])
    context.store.call(
        "audit_add", who=trigger, action="items.sync_stale", target="items", result=f"{number} to sync",
        correlation=correlation_id,
    )  # fmt: skip
    return types.Done(message=f"{number} bank{'' if number == 1 else 's'} will sync.", correlation_id=correlation_id)
