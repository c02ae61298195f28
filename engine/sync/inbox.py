"""Webhooks: stored and, where they only say "there is news", turned into a wish by the same commit;
all others processed by the webhook queue.

Delivery is at least once and in no order, so every reaction may be repeated, and nothing here
is something that the schedule would not also find.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.errors import BrokerUnavailable, SecretError, SettingsError
from engine.logs import logger
from engine.plaid.errors import POLICIES, PlaidError, react
from engine.plaid.table import STUCK
from engine.plaid.types import ItemInfo, Webhook
from engine.plaid.webhooks import Refused, Verified
from engine.sync.deps import Deps, Store

#: Codes that mean no more than "there is something to fetch"; the older ones are sent alongside the first.
NEWS = frozenset(
    ("TRANSACTIONS", code)
    for code in (
        "SYNC_UPDATES_AVAILABLE",
        "INITIAL_UPDATE",
        "HISTORICAL_UPDATE",
        "DEFAULT_UPDATE",
        "TRANSACTIONS_REMOVED",
    )
)
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,59}")

log = logger("webhook")


@dataclass(frozen=True)
class Raised:
    """The wish that a webhook raised: whom to hint in lane ``lane``."""

    item_id: str
    user_id: str
    institution: str
    lane: str


@dataclass(frozen=True)
class Received:
    """A stored delivery. ``state`` ``received``: the webhook queue has to process it."""

    inbox_id: int
    duplicate: bool
    raised: Raised | None
    state: str
    user_id: str | None
    correlation: str


def receive(store: Store, verified: Verified, body: bytes) -> Received:
    """Store a verified delivery, in one commit with the wish it raises.

    Raises:
        Refused: a relay's delivery that came before (Plaid's own repeated ones are answered as duplicates).
        StoreUnavailable: not stored; Plaid will send it again.
    """
    said = read(body)
    correlation = str(uuid.uuid4())
    answer = store.call(
        "webhook_store",
        body=_storable(body),
        sha256=verified.body_sha256,
        verified_by=verified.by,
        signature_id=verified.signature_id,
        type=said.webhook_type,
        code=said.webhook_code,
        plaid_item_id=said.item_id,
        news=(said.webhook_type, said.webhook_code) in NEWS,
        correlation=correlation,
        reason=None,
    )
    if answer["duplicate"] and verified.by == "hmac":
        raise Refused("a relay's delivery that came before")
    raised = answer["raised"]
    log.info(
        "Webhook received",
        type=_loggable(said.webhook_type),
        code=_loggable(said.webhook_code),
        inbox=answer["inbox_id"],
        item=answer["item_id"],
        state=answer["state"],
        correlation=correlation,
    )
    return Received(
        inbox_id=answer["inbox_id"],
        duplicate=answer["duplicate"],
        raised=Raised(raised["item_id"], raised["user_id"], raised["institution"], raised["lane"]) if raised else None,
        state=answer["state"],
        user_id=answer["user_id"],
        correlation=correlation,
    )


def refuse(store: Store, reason: str, body: bytes) -> None:
    """Keep a delivery that was not believed, cut and bounded in number, for the operator to see."""
    said = read(body)
    store.call(
        "webhook_store",
        body=_storable(body[:4000]),
        sha256=hashlib.sha256(body).hexdigest(),
        verified_by=None,
        signature_id=None,
        type=said.webhook_type[:100],
        code=said.webhook_code[:100],
        plaid_item_id=None,
        news=False,
        correlation=str(uuid.uuid4()),
        reason=reason,
    )
    log.warning("Webhook refused", reason=reason)


def read(body: bytes) -> Webhook:
    """The fields that decide; an empty one where the body is not a webhook. NUL cannot be stored as text."""
    body = body.replace(b"\\u0000", b"\\ufffd")
    try:
        return msgspec.json.decode(body, type=Webhook)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        loose = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Webhook()
    words = {name: value for name, value in loose.items() if isinstance(value, str)}
    return Webhook(words.get("webhook_type", ""), words.get("webhook_code", ""), words.get("item_id"))


def _loggable(word: str) -> str:
    """A type or code if it has the form of Plaid's: a signed delivery could hold anything in its place."""
    return word if _CODE.fullmatch(word) else "[other]"


def _storable(body: bytes) -> str:
    return body.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


# ---------------------------------------------------------------- processing


@dataclass(frozen=True)
class Processed:
    """How a delivery ended: ``processed`` or ``unhandled`` (with why)."""

    state: str
    reason: str | None = None


@dataclass(frozen=True)
class _Event:
    """A delivery being processed; ``item_id`` is ours."""

    deps: Deps
    said: Webhook
    item_id: str
    correlation: str


_DONE = Processed("processed")


def process(deps: Deps, inbox_id: int) -> Processed:
    """React to a stored delivery. May be repeated.

    Raises:
        NotFound: no such delivery.
        StoreUnavailable, PlaidError: try again later.
    """
    stored = deps.store.call("webhook_get", inbox=inbox_id)
    if stored["state"] not in ("received", "failed"):
        return Processed(stored["state"])
    outcome = _react(deps, stored)
    deps.store.call("webhook_finish", inbox=inbox_id, state=outcome.state, reason=outcome.reason)
    return outcome


def _react(deps: Deps, stored: dict[str, Any]) -> Processed:
    said = read(stored["body"].encode())
    kind = (said.webhook_type, said.webhook_code)
    if said.webhook_type == "LINK":
        return _link(deps, said)
    reaction = _REACTIONS.get(kind)
    if reaction is None and kind not in NEWS:
        return Processed("unhandled", "Syncdesk does not know this webhook yet")
    if stored["item_id"] is None:
        return Processed("unhandled", "no such bank link here")
    event = _Event(deps, said, stored["item_id"], stored["correlation_id"])
    return (reaction or _news)(event)


def _set(event: _Event, state: str | None, code: str | None, *, expires: str | None = None, want: bool = False) -> None:
    answer = event.deps.store.call(
        "item_state",
        item=event.item_id,
        state=state,
        code=code,
        expires=expires,
        want=want,
        trigger="webhook",
        correlation=event.correlation,
    )
    tell(event.deps, event.item_id, answer, "webhook", event.correlation)


def tell(deps: Deps, item_id: str | None, answer: dict[str, Any], trigger: str, correlation: str) -> None:
    """Hint what a call of the store raised and tell consoles. Without Redis the reconciler finds it."""
    try:
        if deps.hints is not None:
            for hint in answer.get("hints") or []:
                deps.hints.sync(
                    hint["item_id"], hint["user_id"], hint["institution"], hint["lane"], trigger, correlation
                )
            if answer.get("outbox") is not None:
                deps.hints.notification(answer["outbox"], None, correlation)
        if deps.publish is not None:
            deps.publish("items", item_id)
    except BrokerUnavailable:
        log.debug("Hints were left to the reconciler", item=item_id)


def _news(event: _Event) -> Processed:
    _set(event, None, None, want=True)
    return _DONE


def _item_error(event: _Event) -> Processed:
    error = event.said.error
    if error is None:
        _set(event, None, None, want=True)
        return _DONE
    state = POLICIES[react(error.error_code, error.error_type)].item
    if state in STUCK and _well(event):
        state = None
    # Anything else is best learned by a run of our own.
    _set(event, state, error.error_code if state else None, want=state is None)
    return _DONE


def _well(event: _Event) -> bool:
    """Whether Plaid says that the item is not in trouble: the webhook is a straggler from before a repair."""
    info = _told(event)
    return info is not None and (info.error is None or react(info.error.error_code, info.error.error_type) not in STUCK)


def _told(event: _Event) -> ItemInfo | None:
    """What Plaid says (free) of the item at this moment; None where it cannot be asked."""
    try:
        item = event.deps.store.call("item_token", item=event.item_id)
        return event.deps.plaid.item_get(event.deps.token(item, event.item_id))
    except (PlaidError, SecretError, SettingsError):
        return None


def _repaired(event: _Event) -> Processed:
    _set(event, "healthy", None, want=True)
    return _DONE


def _expiring(event: _Event) -> Processed:
    from engine.sync.linking import renewed

    said, info = event.said, _told(event)
    until = said.consent_expiration_time or said.disconnect_time
    # A straggler from before the consent was renewed warns of nothing.
    if info is None or not info.consent_expiration_time or not renewed(until, info):
        _set(event, "expiring", said.webhook_code, expires=until)
    return _DONE


def _revoked(event: _Event) -> Processed:
    if event.said.account_id:
        event.deps.store.call("account_closed", item=event.item_id, plaid_account_id=event.said.account_id)
    elif _mended_since(event):
        log.info("A revocation that came again was left to a sync", item=event.item_id, correlation=event.correlation)
        _set(event, None, None, want=True)
        return _DONE
    _set(event, "needs_you", event.said.webhook_code)
    return _DONE


def _mended_since(event: _Event) -> bool:
    """Whether such a webhook was processed before, and the item, by our word and by Plaid's, was mended since.

    The first one is believed as it is: a sandbox fires it at items that are well, and a look may not know of it yet.
    """
    call = event.deps.store.call
    before = call("webhooks_list", item=event.item_id, q=event.said.webhook_code, state="processed", limit=1)
    return bool(before["webhooks"]) and call("item_token", item=event.item_id)["state"] not in STUCK and _well(event)


def _new_accounts(event: _Event) -> Processed:
    item = event.deps.store.call("item_token", item=event.item_id)
    answer = event.deps.store.call(
        "outbox_add",
        kind="item_state",
        user=item["user_id"],
        item=event.item_id,
        correlation=event.correlation,
        payload={"state": item["state"], "code": "NEW_ACCOUNTS_AVAILABLE", "institution": item["institution"]},
    )
    tell(event.deps, event.item_id, {"outbox": answer.get("id")}, "webhook", event.correlation)
    return _DONE


def _address(event: _Event) -> Processed:
    if event.said.new_webhook_url:
        event.deps.store.call("item_webhook", item=event.item_id, url=event.said.new_webhook_url)
    return _DONE


def _noted(event: _Event) -> Processed:
    return _DONE


def _link(deps: Deps, said: Webhook) -> Processed:
    from engine.sync.linking import finish

    if said.webhook_code not in ("SESSION_FINISHED", "ITEM_ADD_RESULT", "EVENTS"):
        return Processed("unhandled", "Syncdesk does not know this webhook yet")
    if said.webhook_code == "EVENTS" or not said.link_token:
        return _DONE
    tokens = list(said.public_tokens)
    if said.public_token and said.public_token not in tokens:
        tokens.append(said.public_token)
    known = finish(deps, said.link_token, tokens, over=said.webhook_code == "SESSION_FINISHED", status=said.status)
    return _DONE if known else Processed("unhandled", "no such sign-in here")


_REACTIONS: dict[tuple[str, str], Callable[[_Event], Processed]] = {
    ("ITEM", "ERROR"): _item_error,
    ("ITEM", "LOGIN_REPAIRED"): _repaired,
    ("ITEM", "PENDING_EXPIRATION"): _expiring,
    ("ITEM", "PENDING_DISCONNECT"): _expiring,
    ("ITEM", "USER_PERMISSION_REVOKED"): _revoked,
    ("ITEM", "USER_ACCOUNT_REVOKED"): _revoked,
    ("ITEM", "NEW_ACCOUNTS_AVAILABLE"): _new_accounts,
    ("ITEM", "WEBHOOK_UPDATE_ACKNOWLEDGED"): _address,
    ("ITEM", "PRODUCT_READY"): _news,
    ("TRANSACTIONS", "RECURRING_TRANSACTIONS_UPDATE"): _noted,
}
