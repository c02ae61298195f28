"""The inbox of webhooks, in the manner of `engine.api.types`; as free of imports, since the console reads it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

WebhookState = Literal["received", "processed", "duplicate", "refused", "unhandled", "failed"]


class Webhook(Struct):
    """One delivery. ``verified_by``: who vouched for it, ``replay`` where a person sent a stored one again.

    ``repeats``: the id of the delivery that a duplicate or a replay repeats; ``reason``: why it was refused, not
    handled, or failed.
    """

    id: str
    received_at: str
    state: WebhookState
    reason: str | None
    verified_by: Literal["jwt", "hmac", "replay", "test"] | None
    type: str | None
    code: str | None
    item_id: str | None
    plaid_item_id: str | None
    institution: str | None
    processed_at: str | None
    repeats: str | None
    correlation_id: str


class WebhookPage(Struct):
    webhooks: list[Webhook]
    next: str | None = None


class WebhookDetail(Struct):
    """``body`` as it came, without the tokens of a sign-in; cut where it was refused."""

    webhook: Webhook
    body: str
    attempts: int
    repeated_by: list[Webhook]


class WebhookReplay(Struct):
    """What to send through the queue again: some by ``ids``, or all of ``states`` received from ``since`` to ``until``
    (ISO 8601), at most 500 at a time. A refused one is never replayed: nobody vouched for it."""

    ids: list[str] | None = None
    states: list[Literal["failed", "unhandled", "processed"]] | None = None
    since: str | None = None
    until: str | None = None
