"""Rows of the page Webhooks, and the words of what Plaid says by one."""

from __future__ import annotations

from collections.abc import Sequence

from engine.api.types_webhooks import Webhook
from gui import icons, paint, words
from gui.kit.columns import Cell, Column

SAYS = {
    ("TRANSACTIONS", "SYNC_UPDATES_AVAILABLE"): "New transactions are ready",
    ("TRANSACTIONS", "INITIAL_UPDATE"): "The first transactions are ready",
    ("TRANSACTIONS", "HISTORICAL_UPDATE"): "The whole history is ready",
    ("TRANSACTIONS", "DEFAULT_UPDATE"): "Older kind of message",
    ("TRANSACTIONS", "TRANSACTIONS_REMOVED"): "Transactions were removed",
    ("TRANSACTIONS", "RECURRING_TRANSACTIONS_UPDATE"): "Recurring payments changed",
    ("ITEM", "ERROR"): "The bank has trouble",
    ("ITEM", "LOGIN_REPAIRED"): "The bank works again",
    ("ITEM", "PENDING_EXPIRATION"): "Access expires soon",
    ("ITEM", "PENDING_DISCONNECT"): "Access ends soon",
    ("ITEM", "USER_PERMISSION_REVOKED"): "Access was withdrawn",
    ("ITEM", "USER_ACCOUNT_REVOKED"): "An account was withdrawn",
    ("ITEM", "NEW_ACCOUNTS_AVAILABLE"): "The bank has new accounts",
    ("ITEM", "WEBHOOK_UPDATE_ACKNOWLEDGED"): "The address was changed",
    ("ITEM", "PRODUCT_READY"): "Data is ready",
    ("LINK", "SESSION_FINISHED"): "A sign-in ended",
    ("LINK", "ITEM_ADD_RESULT"): "A bank was added",
    ("LINK", "EVENTS"): "Steps of a sign-in",
}
UNBELIEVED = {
    "no signature": "Unsigned message",
    "a signature older than five minutes": "Message too old",
    "a signature from the future": "Message from the future",
}
SENDERS = {
    "jwt": ("shield", "ok", "Verified"),
    "hmac": ("shield", "ok", "Verified relay"),
    "replay": ("undo", "idle", "Replayed"),
    "test": ("flask", "idle", "Test"),
}
STATES = {
    "received": ("waiting", "Waiting"),
    "processed": ("done", "Processed"),
    "duplicate": ("discarded", "Duplicate"),
    "refused": ("failed", "Refused"),
    "unhandled": ("discarded", "Not handled"),
    "failed": ("failed", "Failed"),
}
"""The state of a job that looks the same, and its words."""

WIDE = 880
"""From this width of the list on the bank has a column of its own."""


def says(webhook: Webhook) -> str:
    """What it says in words."""
    if webhook.state == "refused":
        return UNBELIEVED.get(webhook.reason or "", "Message that was not believed")
    return SAYS.get((webhook.type or "", webhook.code or ""), "Another kind of message")


def code(webhook: Webhook) -> str:
    """Plaid's own words; for a message that was refused why, since anybody can write such words."""
    if webhook.state == "refused":
        return webhook.reason or ""
    known = (webhook.type or "", webhook.code or "") in SAYS
    parts = (webhook.code,) if known else (webhook.type, webhook.code)
    return " · ".join(part for part in parts if part) or "no code"


def bank(webhook: Webhook) -> str:
    """Whose it is."""
    return webhook.institution or "unknown bank"


def outcome(webhook: Webhook) -> str:
    """What came of it."""
    if webhook.state == "processed":
        asked = webhook.type == "TRANSACTIONS" and webhook.code != "RECURRING_TRANSACTIONS_UPDATE"
        return "Sync asked for" if asked else "Done"
    return {
        "received": "Waits to be processed",
        "duplicate": "Came before, nothing to do",
        "refused": "Answered 401, no effect",
        "failed": "Failed",
    }.get(webhook.state, "Stored, not handled")


def story(webhook: Webhook) -> str:
    """What came of it, with the reason."""
    why = (webhook.reason or "").removesuffix(".")
    if webhook.state == "refused":
        return f"Refused for {why or 'its signature'}. It was answered with 401 and had no effect."
    return f"{outcome(webhook)}: {why}." if why else f"{outcome(webhook)}."


def received(webhook: Webhook) -> str:
    """The time of day, with its date where it was another one."""
    at = webhook.received_at
    if words.short_date(at) == "today":
        return words.time(at, seconds=True)
    return f"{words.short_date(at)} {words.time(at)}"


def sentence(webhook: Webhook) -> str:
    """A row as one sentence."""
    sender = SENDERS[webhook.verified_by][2] if webhook.verified_by else "Refused"
    return f"{says(webhook)}, {bank(webhook)}, {received(webhook)}, {sender}, {outcome(webhook)}"


def _received(cell: Cell, webhook: Webhook) -> None:
    cell.text(received(webhook), "body", "text.secondary")


def _says(cell: Cell, webhook: Webhook) -> None:
    cell.two(says(webhook), code(webhook))


def _says_of_bank(cell: Cell, webhook: Webhook) -> None:
    cell.two(says(webhook), bank(webhook) if webhook.institution else code(webhook))


def _bank(cell: Cell, webhook: Webhook) -> None:
    cell.text(bank(webhook), "body", "text.primary" if webhook.institution else "text.muted")


def _sender(cell: Cell, webhook: Webhook) -> None:
    icon, tone, label = SENDERS[webhook.verified_by] if webhook.verified_by else ("state-failed", "error", "Refused")
    spec = {"icon": icon, "tone": tone, "fill": webhook.verified_by is None}
    paint.chip(cell.painter, cell.theme, cell.rect.x(), cell.rect.center().y(), spec, label, cell.rect.width())


_OUTCOMES = {
    "received": ("state-waiting", "idle"),
    "processed": ("arrow-right", "idle"),
    "duplicate": ("copy", "idle"),
    "refused": ("state-discarded", "idle"),
    "unhandled": ("help", "idle"),
    "failed": ("state-failed", "error"),
}


def _outcome(cell: Cell, webhook: Webhook) -> None:
    icon, tone = _OUTCOMES[webhook.state]
    box = cell.rect
    icons.draw(cell.painter, icon, cell.theme.color(f"state.{tone}.solid"), box.x(), box.center().y() - 7, 14)
    room = box.adjusted(20, 0, 0, 0)
    paint.text(cell.painter, cell.theme, room, "changed" if cell.stale else outcome(webhook), "body", "text.secondary")


_FULL = [
    Column("Received", 124, _received, sorted=True),
    Column("What it says", 236, _says),
    Column("Bank", 184, _bank),
    Column("Sender", 132, _sender),
    Column("What came of it", 0, _outcome),
]
_SLIM = [
    Column("Received", 116, _received, sorted=True),
    Column("What it says", 0, _says_of_bank),
    Column("Sender", 120, _sender),
    Column("What came of it", 216, _outcome),
]


def columns(width: int) -> Sequence[Column]:
    """The columns of a list that is so wide."""
    return _FULL if width >= WIDE else _SLIM


REPEATS = [
    Column("", 112, _received),
    Column("", 0, _outcome),
]
