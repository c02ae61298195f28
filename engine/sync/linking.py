"""Linking a bank: a public token becomes an item; signing in on Plaid's hosted page; removal; the daily probe."""

from __future__ import annotations

import hashlib
import time
import uuid
from datetime import timedelta
from typing import Any

from engine import clock
from engine.api.types_banks import LinkStart, LinkState
from engine.errors import Conflict, NotFound, SecretError, SettingsError, StoreUnavailable, SyncdeskError
from engine.logs import logger
from engine.plaid.errors import ItemBroken, ItemGone, PlaidError, react
from engine.plaid.pages import account_json
from engine.plaid.table import STUCK
from engine.plaid.types import Account, Exchanged, ItemInfo
from engine.sync.accounts import refresh_or_later
from engine.sync.address import point_webhooks
from engine.sync.deps import Deps
from engine.sync.inbox import tell

DEFAULT_USER = "me"
DAYS = 730
"""Days of history asked for: Plaid fixes it at the first link for good, and 730 is the most it gives."""
LOOKS, LOOK_S = 4, 1.0
"""How often, and how far apart, a link whose storing had no answer is looked for."""

log = logger("link")


def link(deps: Deps, public_token: str, user: str | None = None) -> str:
    """Exchange a public token (valid for 30 minutes), store the item, ask for its first sync; the item's id.

    Raises:
        Conflict: this login is linked already; signing in again is what mends it.
        PlaidError: the token is refused or Plaid is away; nothing was linked.
    """
    correlation = str(uuid.uuid4())
    user = user or DEFAULT_USER
    exchanged = deps.plaid.exchange(public_token)
    try:
        info, accounts = _look(deps, exchanged)
        institution = _institution(deps, info)
        _refuse_twin(deps, user, info, accounts)
        return _store(deps, user, exchanged, info, institution, accounts, correlation)
    except StoreUnavailable:
        # The answer may be all that was lost.
        stored = _stored(deps, exchanged)
        if stored is None:
            _give_back(deps, exchanged)
            raise
        log.info("A bank was linked", item=stored, correlation=correlation)
        return stored  # the reconciler asks for its first sync
    except SyncdeskError:
        # A link that we do not keep would be billed for ever.
        _give_back(deps, exchanged)
        raise


def _look(deps: Deps, exchanged: Exchanged) -> tuple[ItemInfo, list[Account]]:
    """What Plaid says about the new item; a bank that is slow to answer does not cost the link."""
    try:
        answer = deps.plaid.accounts_get(exchanged.access_token)
        info, accounts = answer.item, answer.accounts
    except PlaidError as error:
        log.warning("The accounts of a new link come with its first sync", code=error.plaid_code)
        info, accounts = deps.plaid.item_get(exchanged.access_token), []
    return info, accounts


def _institution(deps: Deps, info: ItemInfo) -> str:
    if info.institution_name:
        return info.institution_name
    if info.institution_id is None:
        return ""
    try:
        return deps.plaid.institution_name(info.institution_id)
    except PlaidError:
        return info.institution_id


def _refuse_twin(deps: Deps, user: str, info: ItemInfo, accounts: list[Account]) -> None:
    """A second item for one login is billed twice and breaks the first at some banks.

    Only with real banks: the test logins of the sandboxes all have the same accounts.
    """
    if deps.settings.plaid_env != "production" or not info.institution_id or not accounts:
        return
    answer = deps.store.call(
        "item_twins",
        user=user,
        institution_id=info.institution_id,
        accounts=[{"name": account.name, "mask": account.mask} for account in accounts],
    )
    twins = [twin for twin in answer["twins"] if twin["plaid_item_id"] != info.item_id]
    if twins:
        raise Conflict(
            "This login is linked already. Sign in again at the link you have, instead of adding a second one.",
            item_id=twins[0]["item_id"],
        )


def _store(
    deps: Deps,
    user: str,
    exchanged: Exchanged,
    info: ItemInfo,
    institution: str,
    accounts: list[Account],
    correlation: str,
) -> str:
    known = deps.store.call("item_find", plaid_item_id=exchanged.item_id)["item_id"]
    item_id = known or str(uuid.uuid4())
    sealed, key_id = deps.secrets.seal(exchanged.access_token, item_id)
    answer = deps.store.call(
        "item_link",
        id=item_id,
        user=user,
        plaid_item_id=exchanged.item_id,
        institution_id=info.institution_id,
        institution_name=institution,
        label="",
        environment=deps.settings.plaid_env,
        access_token=sealed,
        access_key_id=key_id,
        webhook_url=point_webhooks(deps, exchanged.access_token, info),
        accounts=[account_json(account) for account in accounts],
        correlation=correlation,
    )
    # Plaid sends no SYNC_UPDATES_AVAILABLE before the first /transactions/sync, so that is asked for at once.
    tell(deps, item_id, answer, "link", correlation)
    log.info("A bank was linked", item=item_id, correlation=correlation)
    return item_id


def _stored(deps: Deps, exchanged: Exchanged) -> str | None:
    """The item of a link whose storing had no answer; None where there is none, or the database stays away."""
    for again in range(LOOKS):
        if again:
            time.sleep(LOOK_S)
        try:
            found: str | None = deps.store.call("item_find", plaid_item_id=exchanged.item_id)["item_id"]
            return found
        except StoreUnavailable:
            continue
    return None


def _give_back(deps: Deps, exchanged: Exchanged) -> None:
    try:
        deps.plaid.item_remove(exchanged.access_token)
    except PlaidError as error:
        log.warning("A link that was not kept could not be removed at Plaid", code=error.plaid_code)


# ---------------------------------------------------------------- hosted link


def start(deps: Deps, user: str | None = None, item_id: str | None = None) -> LinkStart:
    """A page of Plaid's to open in the browser: for a new bank, or to sign in again at ``item_id``.

    Raises:
        NotFound, Conflict: no such item, or it was removed.
        PlaidError: Plaid gave no page.
    """
    request: dict[str, Any] = {
        "client_name": "Syncdesk",
        "language": "en",
        "country_codes": ["US", "CA"],
        "user": {"client_user_id": hashlib.sha256((user or DEFAULT_USER).encode()).hexdigest()[:32]},
        "hosted_link": {},
    }
    if deps.settings.webhook_url:
        request["webhook"] = deps.settings.webhook_url
    if item_id is None:
        request["products"] = ["transactions"]
        request["transactions"] = {"days_requested": DAYS}
    else:
        item = deps.store.call("item_token", item=item_id)
        if item["removed"]:
            raise Conflict("This bank link was removed; link the bank anew.")
        request["access_token"] = deps.token(item, item_id)
        # A link that is well is only updated to choose among its accounts, as after NEW_ACCOUNTS_AVAILABLE.
        chooses = item["state"] == "healthy" or item["state_code"] in _CHOOSE
        request["update"] = {"account_selection_enabled": chooses}
    made = deps.plaid.link_token_create(request)
    if not made.hosted_link_url:
        raise Conflict("Plaid gave no page to sign in on; its dashboard shows whether Hosted Link is enabled.")
    session = str(uuid.uuid4())
    deps.store.call("link_session_put", session=session, link_token=made.link_token, user=user, item=item_id)
    return LinkStart(session=session, url=made.hosted_link_url)


_CHOOSE = ("ACCESS_NOT_GRANTED", "NO_ACCOUNTS", "NO_AUTH_ACCOUNTS", "USER_ACCOUNT_REVOKED")


def follow(deps: Deps, session: str) -> LinkState:
    """How a sign-in stands; exchanges what it brought. Poll it while the browser is open.

    Raises:
        NotFound: no such session.
    """
    known = deps.store.call("link_session_get", session=session, link_token=None)
    if known is None:
        raise NotFound("There is no such sign-in.")
    answer = deps.plaid.link_token_get(known["link_token"])
    tokens: list[str] = []
    for one in answer.link_sessions:
        found = [result.public_token for result in one.results.item_add_results] if one.results else []
        if one.on_success is not None:
            found.append(one.on_success.public_token)
        tokens += [token for token in found if token not in tokens]
    over = any(one.finished_at for one in answer.link_sessions)
    finish(deps, known["link_token"], tokens, over=over, status="SUCCESS" if tokens else None)
    known = deps.store.call("link_session_get", session=session, link_token=None)
    if known["items"]:
        return LinkState(session, "done", "The bank is linked; its first sync has begun.", known["items"])
    if over:
        return LinkState(session, "gave_up", "The sign-in ended without a bank.")
    return LinkState(session, "waiting", "Waiting for you to sign in on Plaid's page.")


def finish(deps: Deps, link_token: str, public_tokens: list[str], *, over: bool, status: str | None) -> bool:
    """Take what a hosted session brought, each token once; False for a session that is not ours.

    ``status`` is Plaid's word for how it ended. Without one an update of a link proves nothing, since it also ends
    where the person gives up: Plaid is asked about the item.
    """
    known = deps.store.call("link_session_get", session=None, link_token=link_token)
    if known is None:
        return False
    session = known["session"]
    if known["item_id"] is not None:
        # Update mode: the access token stays, so there is nothing to exchange.
        if over and (status or "").upper() != "EXITED" and _first(deps, session, "over"):
            well = status is not None or probe(deps, known["item_id"]) is None
            if status is not None:
                mended(deps, known["item_id"], "link")
            if well:
                # Update mode may have chosen other accounts.
                refresh_or_later(deps, known["item_id"], str(uuid.uuid4()))
            # Of one that was given up, the page may be opened again.
            deps.store.call("link_session_take", session=session, digest="over", made=known["item_id"] if well else "")
        return True
    for token in public_tokens:
        digest = hashlib.sha256(token.encode()).hexdigest()
        if _first(deps, session, digest):
            try:
                item_id = link(deps, token, known["user"])
            except SyncdeskError as error:
                # Empty: the next poll or the job's next attempt exchanges it. None: it was used, or its time is over.
                made = "" if error.retryable else "none"
                deps.store.call("link_session_take", session=session, digest=digest, made=made)
                raise
            deps.store.call("link_session_take", session=session, digest=digest, made=item_id)
    return True


def _first(deps: Deps, session: str, digest: str) -> bool:
    return bool(deps.store.call("link_session_take", session=session, digest=digest, made=None)["first"])


# ---------------------------------------------------------------- afterwards


def mended(deps: Deps, item_id: str, trigger: str) -> None:
    """The person signed in again, or a probe found the item well: back to work."""
    correlation = str(uuid.uuid4())
    answer = deps.store.call(
        "item_state",
        item=item_id,
        state="healthy",
        code=None,
        expires=None,
        want=True,
        trigger=trigger,
        correlation=correlation,
    )
    tell(deps, item_id, answer, trigger, correlation)


def remove(deps: Deps, item_id: str, by: str = "person") -> None:
    """End the link at Plaid (and its billing) and stop syncing it; transactions stay.

    Raises:
        NotFound: no such item.
        PlaidError: Plaid could not be told, so nothing was removed.
    """
    item = deps.store.call("item_token", item=item_id)
    if not item["removed"]:
        token = deps.token(item, item_id)
        try:
            deps.plaid.item_remove(token)
        except (ItemGone, ItemBroken) as error:
            log.info("The link was gone at Plaid already", item=item_id, code=error.plaid_code)
    deps.store.call("item_remove", item=item_id, by=by, correlation=str(uuid.uuid4()))
    tell(deps, item_id, {}, "remove", "")


def probe(deps: Deps, item_id: str) -> str | None:
    """Ask Plaid (free) whether an item in trouble is well again; the error code it still has, or None.

    Raises:
        PlaidError: Plaid could not be asked, or refused for the whole install.
    """
    item = deps.store.call("item_token", item=item_id)
    token = deps.token(item, item_id)
    try:
        info = deps.plaid.item_get(token)
    except (ItemGone, ItemBroken) as refusal:
        deps.store.call("item_probed", item=item_id)
        return refusal.plaid_code
    code = info.error.error_code if info.error else None
    if info.error is None or react(info.error.error_code, info.error.error_type) not in STUCK:
        code = item["state_code"] if item["state"] == "expiring" and not renewed(item["expires_at"], info) else None
    if code is None:
        mended(deps, item_id, "probe")
    else:
        deps.store.call("item_probed", item=item_id)
    return code


def renewed(expires_at: str | None, info: ItemInfo) -> bool:
    """Whether what would have expired does not any more: consent reaches further, or the day went by without harm."""
    if expires_at is None:
        return False
    known = clock.parse(expires_at)
    try:
        told = clock.parse(info.consent_expiration_time) if info.consent_expiration_time else known
    except ValueError:
        told = known
    return told - known > A_LITTLE or known < clock.now()


A_LITTLE = timedelta(hours=1)
"""By less, the time of consent is the same one told in other words."""


def probe_due(deps: Deps, limit: int = 50) -> int:
    """Probe the items whose daily look is due; how many were well again."""
    well = 0
    for item_id in deps.store.call("items_probe", limit=limit)["items"]:
        try:
            well += probe(deps, item_id) is None
        except (PlaidError, SecretError, SettingsError) as error:
            code = error.plaid_code if isinstance(error, PlaidError) else error.code
            log.warning("A bank link could not be probed", item=item_id, code=code)
    return well
