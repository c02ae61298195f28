"""Admin routes of the inbox: what came, who vouched for it, what became of it, and sending a stored one again."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from engine.api import types
from engine.api.actions import audited
from engine.api.phrases import count
from engine.api.routing import Call, Route
from engine.api.tables import act, get, moment, numeric_id, page_size
from engine.api.types_webhooks import WebhookDetail, WebhookPage, WebhookReplay, WebhookState
from engine.api.views import identifier
from engine.errors import BrokerUnavailable, UsageError
from engine.logs import logger

MOST = 500
"""Replayed by one call."""

log = logger("api")


class WebhooksQuery(Struct):
    """``q``: part of a code or a bank's name, or an id; ``since`` and ``until``: ISO 8601."""

    state: WebhookState | None = None
    item: str | None = None
    q: str | None = None
    since: str | None = None
    until: str | None = None
    after: str | None = None
    limit: int = 50


def webhooks(call: Call) -> WebhookPage:
    ask = call.query
    found = call.context.store.call(
        "webhooks_list",
        state=ask.state,
        item=identifier(ask.item) if ask.item else None,
        q=ask.q or None,
        since=moment(ask.since),
        until=moment(ask.until),
        limit=page_size(ask.limit),
        after=None if ask.after is None else str(_number(ask.after)),
    )
    return msgspec.convert(found, WebhookPage)


def webhook(call: Call) -> WebhookDetail:
    return msgspec.convert(call.context.store.call("webhook_show", inbox=_number(call.path["id"])), WebhookDetail)


def replay_one(call: Call) -> types.Done:
    number = _number(call.path["id"])
    return audited(
        call, "webhook.replay", f"webhook:{number}", lambda: _replay(call, {"ids": [number]}), topic="webhooks"
    )


def replay(call: Call) -> types.Done:
    ask: WebhookReplay = call.body
    if (ask.ids is None) == (ask.since is None and ask.until is None and ask.states is None):
        raise UsageError("Name webhooks by their ids, or a span and states.")
    if ask.ids is not None and not 1 <= len(ask.ids) <= MOST:
        raise UsageError(f"Name 1 to {MOST} webhooks.")
    chosen = {
        "ids": None if ask.ids is None else [_number(name) for name in ask.ids],
        "states": ask.states,
        "since": moment(ask.since),
        "until": moment(ask.until),
    }
    return audited(call, "webhooks.replay", "webhooks", lambda: _replay(call, chosen), topic="webhooks")


def _replay(call: Call, chosen: dict[str, Any]) -> types.Done:
    answer = call.context.store.call("webhooks_replay", limit=MOST, **chosen)
    made, skipped = answer["replayed"], answer["skipped"]
    if not made and skipped:
        raise UsageError(f"Nothing was replayed. {skipped[0]['reason']}")
    words = f"{count(len(made), 'webhook')} replayed"
    if skipped:
        words += f", {len(skipped)} left out"
    if answer["left"]:
        words += f"; {answer['left']:,} more of this span are left, ask again"
    try:
        for row in made:
            call.context.hints.webhook(row["inbox_id"], row["user_id"], row["correlation"])
    except BrokerUnavailable as error:
        log.warning("Replayed webhooks are left to the reconciler", code=error.code, replayed=len(made))
    single = made[0]["correlation"] if len(made) == 1 else None
    return types.Done(message=f"{words}.", ids=[str(row["inbox_id"]) for row in made], correlation_id=single)


def _number(text: str) -> int:
    return numeric_id(text, "There is no such webhook.")


def routes() -> list[Route]:
    return [
        get("webhooks", "Webhooks that came, newest first.", webhooks, WebhookPage, query=WebhooksQuery, found=True),
        get("webhooks/{id}", "One webhook with its body.", webhook, WebhookDetail, found=True),
        act("webhooks/{id}/replay", "Send a stored webhook through the queue again.", replay_one),
        act("webhooks/replay", "Send stored webhooks through the queue again.", replay, body=WebhookReplay),
    ]
