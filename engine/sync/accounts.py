"""The full list of a link's accounts: those that appear, vanish or take another's place; and silence of one."""

from __future__ import annotations

from typing import Any

from engine.errors import SyncdeskError
from engine.logs import logger
from engine.plaid.pages import account_json
from engine.sync import postings
from engine.sync.address import point_webhooks
from engine.sync.deps import Deps
from engine.sync.rematch import rematch

log = logger("sync")


def refresh(deps: Deps, item_id: str, correlation: str) -> dict[str, Any]:
    """Read the accounts at Plaid (cached there, free); ids that appeared, vanished, were replaced.

    Plaid is told our webhook address if the item still has another one.

    Raises:
        PlaidError: Plaid did not give the list; nothing changed.
    """
    item = deps.store.call("item_token", item=item_id)
    token = deps.token(item, item_id)
    answer = deps.plaid.accounts_get(token)
    seen: dict[str, Any] = deps.store.call(
        "accounts_seen", item=item_id, accounts=[account_json(account) for account in answer.accounts]
    )
    address = point_webhooks(deps, token, answer.item)
    if address != answer.item.webhook:
        deps.store.call("item_webhook", item=item_id, url=address)
    if seen["rematch"]:
        rematch(deps.store, seen["user_id"], correlation=correlation, mode=deps.settings.matching)
    if deps.publish is not None and (seen["appeared"] or seen["vanished"]):
        deps.publish("items", item_id)
    return seen


def refresh_or_later(deps: Deps, item_id: str, correlation: str) -> bool:
    """The same, where nothing depends on it: the daily look comes anyway. Whether it came through."""
    try:
        refresh(deps, item_id, correlation)
    except SyncdeskError as error:
        log.warning("The accounts of a bank are read later", item=item_id, code=error.code)
        return False
    return True


def watch(deps: Deps, correlation: str, limit: int = 50) -> int:
    """The hourly look after all links: accounts, silence, when news usually comes; how many accounts fell silent."""
    for item_id in deps.store.call("accounts_due", limit=limit)["items"]:
        refresh_or_later(deps, item_id, correlation)
        postings.guess(deps, item_id, None, correlation)
    deps.store.call("items_learn")
    told: int = deps.store.call("accounts_silent", correlation=correlation)["told"]
    return told
