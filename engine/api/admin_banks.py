"""Admin routes of bank links and syncs."""

from __future__ import annotations

from msgspec import Struct

from engine.api import actions, set_aside, types, types_banks, views
from engine.api.actions import audited, correlation, hint_rows
from engine.api.routing import Call, Route
from engine.api.tables import act, get, page_size
from engine.errors import UsageError


class ItemsQuery(Struct):
    state: types_banks.ItemState | None = None
    q: str | None = None
    after: str | None = None
    limit: int = 100


def items(call: Call) -> types_banks.ItemPage:
    ask = call.query
    return views.items(call.context, ask.state, ask.q, ask.after, page_size(ask.limit))


def item(call: Call) -> types_banks.ItemDetail:
    found = views.item(call.context, call.path["id"])
    found.set_aside = set_aside.page(call.context, found.item.id, limit=20)
    return found


def sync_all_or_one(call: Call) -> types.Done:
    return actions.sync(call, call.body)


def sync_item(call: Call) -> types.Done:
    return actions.sync(call, types_banks.SyncRequest(item_id=call.path["id"]))


def pause(call: Call) -> types.Done:
    return _pause(call, True)


def resume(call: Call) -> types.Done:
    return _pause(call, False)


def _pause(call: Call, paused: bool) -> types.Done:
    item_id, correlation_id = views.identifier(call.path["id"]), correlation()

    def work() -> types.Done:
        answer = call.context.store.call(
            "item_pause", item=item_id, paused=paused, by=call.who, correlation=correlation_id
        )
        hint_rows(call.context.hints, answer["hints"], "resume", correlation_id)
        words = "Syncing of this bank is paused." if paused else "Syncing of this bank goes on."
        return types.Done(message=words, ids=[item_id], correlation_id=correlation_id)

    return audited(call, "item.pause" if paused else "item.resume", f"item:{item_id}", work, topic="items")


def remove(call: Call) -> types.Done:
    """Ends the link at Plaid too (its billing), and keeps the data."""
    item_id = views.identifier(call.path["id"])

    def work() -> types.Done:
        call.context.linking.remove(item_id)
        return types.Done(message="The bank link is removed; its data is kept.", ids=[item_id])

    return audited(call, "item.remove", f"item:{item_id}", work, topic="items")


def link(call: Call) -> types.Done | types_banks.LinkStart:
    """With a public token: exchange it. Without: a hosted page to open, to link or (``item_id``) to mend a link."""
    request = call.body
    if request.public_token is not None and request.item_id is not None:
        raise UsageError("A link is mended on Plaid's page; a public token always makes a new one.")
    if request.public_token is None:
        target = f"item:{views.identifier(request.item_id)}" if request.item_id else "item:new"
        started: list[types_banks.LinkStart] = []

        def start() -> types.Done:
            item_id = views.identifier(request.item_id) if request.item_id else None
            started.append(call.context.linking.start(request.user, item_id))
            return types.Done(message="A page to sign in was made.")

        audited(call, "item.link_start", target, start)
        return started[0]

    def work() -> types.Done:
        item_id = call.context.linking.link(request.public_token, request.user)
        return types.Done(message="The bank is linked; its first sync is on the way.", ids=[item_id])

    return audited(call, "item.link", "item:new", work, topic="items")


def follow(call: Call) -> types_banks.LinkState:
    return call.context.linking.follow(call.path["session"])


def routes() -> list[Route]:
    """Rows of bank links."""
    return [
        get("items", "Bank links, with counts by state.", items, types_banks.ItemPage, query=ItemsQuery),
        act(
            "items/link",
            "Link a bank by its public token, or start Plaid's hosted page.",
            link,
            body=types_banks.LinkRequest,
            answer=(types.Done, types_banks.LinkStart),
            optional=True,
            errors=(422,),
        ),
        get("items/link/{session}", "Where a hosted link session stands.", follow, types_banks.LinkState, found=True),
        get("items/{id}", "One bank link: accounts and runs.", item, types_banks.ItemDetail, found=True),
        act("items/{id}/sync", "Sync one bank now.", sync_item, errors=(422,)),
        act("items/{id}/pause", "Stop syncing one bank.", pause),
        act("items/{id}/resume", "Sync one bank again.", resume),
        act("items/{id}/remove", "End a bank link at Plaid; its data is kept.", remove, token="admin", errors=(422,)),  # noqa: S106
        *set_aside.routes(),
        act("sync", "Sync one bank or all.", sync_all_or_one, body=types_banks.SyncRequest, errors=(422,)),
    ]
