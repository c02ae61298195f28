"""Where Plaid sends an item's webhooks: to the address of the settings, also after that changed."""

from __future__ import annotations

from engine.logs import logger
from engine.plaid.errors import PlaidError
from engine.plaid.types import ItemInfo
from engine.sync.deps import Deps

log = logger("sync")


def point_webhooks(deps: Deps, access_token: str, info: ItemInfo) -> str | None:
    """Tell Plaid our address where ``info`` has another one; the address that holds now."""
    wanted = deps.settings.webhook_url
    if not wanted or info.webhook == wanted:
        return info.webhook
    try:
        return deps.plaid.item_webhook_update(access_token, wanted).webhook
    except PlaidError as error:
        # The schedule still finds every change.
        log.warning("Plaid did not take our webhook address for a link", code=error.plaid_code)
        return info.webhook
