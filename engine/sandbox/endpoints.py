"""Plaid's endpoints: each a function from the bank and a checked request to the answer's JSON."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec

from engine import clock
from engine.sandbox.bank import Bank
from engine.sandbox.institutions import find
from engine.sandbox.items import NOT_READY, Item, item_view
from engine.sandbox.linking import Links
from engine.sandbox.model import Account, Transaction, currency, encode, identifier
from engine.sandbox.refusals import Refusal
from engine.sandbox.streams import recurring

MAX_CREATED = 10
CREATED_WITHIN_DAYS = 730


class Desk:
    """Who answers: the bank with its link sessions. ``client_id`` is the caller's."""

    def __init__(self, bank: Bank, links: Links) -> None:
        self.bank = bank
        self.links = links
        self.routes: Mapping[str, Callable[[dict[str, Any], str], dict[str, Any] | bytes]] = {
            "/transactions/sync": self.transactions_sync,
            "/transactions/refresh": self.transactions_refresh,
            "/transactions/recurring/get": self.transactions_recurring,
            "/item/get": self.item_get,
            "/item/remove": self.item_remove,
            "/item/webhook/update": self.item_webhook_update,
            "/item/access_token/invalidate": self.invalidate,
            "/item/public_token/exchange": self.exchange,
            "/accounts/get": self.accounts_get,
            "/institutions/get_by_id": self.institution,
            "/link/token/create": self.link_token_create,
            "/link/token/get": self.link_token_get,
            "/webhook_verification_key/get": self.verification_key,
            "/sandbox/public_token/create": self.public_token_create,
            "/sandbox/item/fire_webhook": self.fire_webhook,
            "/sandbox/item/reset_login": self.reset_login,
            "/sandbox/transactions/create": self.transactions_create,
            "/categories/get": self.categories,
        }

    # -- transactions

    def transactions_sync(self, body: dict[str, Any], client_id: str) -> bytes:
        item = self._working(body)
        options = self.bank.options
        self.bank.limits.count(((item.item_id, options.item_limit), (f"client:{client_id}", options.client_limit)))
        if not item.sync_called:
            self.bank.set(item, sync_called=True)
        wishes = body.get("options") or {}
        account_id = wishes.get("account_id")
        if account_id is not None and item.account(account_id) is None:
            raise Refusal("INVALID_ACCOUNT_ID")
        cursor = body.get("cursor")
        if item.status == NOT_READY:
            item.ledger.read(cursor)
            return encode(_page([], [], [], [], "", False, item.status))
        page = item.ledger.page(cursor, body.get("count", 100), account_id)
        rows = (page.added, page.modified)
        if not wishes.get("include_original_description"):
            rows = (_plain(page.added), _plain(page.modified))
        removed = [{"transaction_id": row.transaction_id, "account_id": row.account_id} for row in page.removed]
        accounts = item.listed_accounts(item.used_accounts)
        return encode(_page(accounts, *rows, removed, page.next_cursor, page.has_more, item.status))

    def transactions_refresh(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        item = self._working(body)
        self.bank.at(0.0, lambda: self._refreshed(item))
        return {}

    def _refreshed(self, item: Item) -> None:
        alive = item.living or item.household is None
        posted = [self.bank.post(item, row) for row in list(item.pending.values()) if alive]
        self.bank.tell_news(item, len(posted))

    def transactions_recurring(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        item = self._working(body)
        if item.status == NOT_READY:
            raise Refusal("PRODUCT_NOT_READY")
        inflow, outflow = recurring(item.ledger.live(), body.get("account_ids"))
        return {
            "inflow_streams": inflow,
            "outflow_streams": outflow,
            "updated_datetime": item.last_update or clock.iso(clock.now()),
        }

    def transactions_create(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        item = self._working(body)
        entries = body["transactions"]
        if len(entries) > MAX_CREATED:
            raise _said("The request contains too many transactions.")
        today = clock.now().date()
        oldest = (today - timedelta(days=CREATED_WITHIN_DAYS)).isoformat()
        rows = []
        for entry in entries:
            happened, posted = entry["date_transacted"], entry["date_posted"]
            # One day of grace: the caller's today may be ahead of UTC's.
            if not oldest <= happened <= posted <= (today + timedelta(days=1)).isoformat():
                raise _said(
                    f"Transaction and posted dates must be within the last {CREATED_WITHIN_DAYS} days. "
                    "The posted date cannot be before the transaction date."
                )
            rows.append(made_by_hand(item, entry))
        self.bank.add(item, rows)
        self.bank.tell_news(item, len(rows))
        return {}

    # -- items

    def item_get(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        item = self.bank.item(body["access_token"])
        sent = item.last_webhook
        return {
            "item": {**item_view(item), "created_at": item.opening.created_at},
            "status": {
                "transactions": {"last_successful_update": item.last_update, "last_failed_update": None},
                "last_webhook": {"sent_at": sent[0], "code_sent": sent[1]} if sent else None,
            },
        }

    def item_remove(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        self.bank.set(self.bank.item(body["access_token"]), removed=True)
        return {}

    def item_webhook_update(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        item = self.bank.item(body["access_token"])
        self.bank.set(item, webhook=body.get("webhook"))
        self.bank.tell(item, "ITEM", "WEBHOOK_UPDATE_ACKNOWLEDGED", new_webhook_url=item.webhook, error=None)
        return {"item": item_view(item)}

    def invalidate(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        return {"new_access_token": self.bank.rotate_token(self.bank.item(body["access_token"]))}

    def exchange(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        token = body["public_token"]
        if not token.startswith("public-"):
            raise Refusal(
                "INVALID_PUBLIC_TOKEN",
                "provided public token is in an invalid format. expected format: public-<environment>-<identifier>",
            )
        item = self.bank.exchange(token)
        return {"access_token": item.access_token, "item_id": item.item_id}

    def accounts_get(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        item = self._working(body)
        wanted = (body.get("options") or {}).get("account_ids")
        accounts = item.accounts
        if wanted is not None:
            if any(item.account(each) is None for each in wanted):
                raise Refusal("INVALID_ACCOUNT_ID")
            accounts = item.listed_accounts(set(wanted))
        return {"accounts": accounts, "item": item_view(item)}

    def institution(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        found = find(body["institution_id"])
        options = body.get("options") or {}
        view: dict[str, Any] = {
            "institution_id": found.institution_id,
            "name": found.name,
            "products": ["transactions", "identity", "balance"],
            "country_codes": list(found.countries),
            "routing_numbers": [],
            "dtc_numbers": [],
            "oauth": found.oauth,
            "connection_availability": "SUPPORTED",
        }
        if options.get("include_optional_metadata"):
            view |= {"url": None, "primary_color": found.color, "logo": None}
        return {"institution": view}

    # -- linking

    def link_token_create(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        return self.links.create(body)

    def link_token_get(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        return self.links.get(body["link_token"])

    # -- webhooks and the sandbox

    def verification_key(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        return {"key": self.bank.keys.jwk(body["key_id"])}

    def public_token_create(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        options = body.get("options") or {}
        item = self.bank.create_item(
            body["institution_id"],
            body["initial_products"],
            webhook=options.get("webhook"),
            username=options.get("override_username") or "user_good",
            password=options.get("override_password"),
            days=(options.get("transactions") or {}).get("days_requested", 90),
        )
        return {"public_token": item.opening.public_token}

    def fire_webhook(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        item = self.bank.item(body["access_token"])
        if item.webhook is None:
            raise Refusal("SANDBOX_WEBHOOK_INVALID")
        fire(self.bank, item, body["webhook_code"])
        return {"webhook_fired": True}

    def reset_login(self, body: dict[str, Any], _: str) -> dict[str, Any]:
        self.bank.break_item(self.bank.item(body["access_token"]))
        return {"reset_login": True}

    def categories(self, _body: dict[str, Any], _: str) -> dict[str, Any]:
        tree = [
            ("13005000", "place", ["Food and Drink", "Restaurants"]),
            ("19047000", "place", ["Shops", "Supermarkets"]),
        ]
        return {"categories": [{"category_id": each[0], "group": each[1], "hierarchy": each[2]} for each in tree]}

    def _working(self, body: dict[str, Any]) -> Item:
        item = self.bank.item(body["access_token"])
        if item.error is not None:
            raise Refusal(item.error)
        return item


def made_by_hand(item: Item, entry: Mapping[str, Any]) -> Transaction:
    """A transaction from a description's date, amount, text and currency.

    It is of the account that ``account_id`` names; without one of the first checking account, else the first
    depository one, else the first.

    Raises:
        Refusal: the item has no such account.
    """
    account = _taker(item, entry.get("account_id"))
    amount = entry["amount"] if isinstance(entry["amount"], Decimal) else Decimal(str(entry["amount"]))
    usual = account.balances
    iso, unofficial = currency(
        entry.get("iso_currency_code") or usual.iso_currency_code or usual.unofficial_currency_code
    )
    return Transaction(
        transaction_id=identifier(item.item_id, "made", secrets.token_hex(8)),
        account_id=account.account_id,
        amount=amount,
        date=entry["date_posted"],
        authorized_date=entry["date_transacted"],
        name=entry["description"],
        original_description=entry["description"],
        iso_currency_code=iso,
        unofficial_currency_code=unofficial,
    )


def _taker(item: Item, account_id: str | None) -> Account:
    if account_id is not None:
        found = item.account(account_id)
        if found is None:
            raise Refusal("INVALID_ACCOUNT_ID")
        return found
    if not item.accounts:
        raise Refusal("NO_ACCOUNTS")
    return min(item.accounts, key=lambda each: (each.subtype != "checking", each.type != "depository"))


def fire(bank: Bank, item: Item, code: str) -> None:
    """Send the webhook of a code, with the fields that Plaid's have; the item itself does not change."""
    later = clock.iso(clock.now() + timedelta(days=7))
    if code == "SYNC_UPDATES_AVAILABLE":
        bank.tell_news(item, always=True)
    elif code == "DEFAULT_UPDATE":
        bank.tell(item, "TRANSACTIONS", code, error=None, new_transactions=len(item.pending))
    elif code == "RECURRING_TRANSACTIONS_UPDATE":
        bank.tell(item, "TRANSACTIONS", code, account_ids=[each.account_id for each in item.accounts])
    elif code == "PENDING_DISCONNECT":
        bank.tell(item, "ITEM", code, reason="INSTITUTION_MIGRATION", disconnect_time=later)
    elif code == "PENDING_EXPIRATION":
        bank.tell(item, "ITEM", code, consent_expiration_time=later)
    elif code == "USER_ACCOUNT_REVOKED":
        bank.tell(item, "ITEM", code, account_id=item.accounts[-1].account_id)
    elif code == "USER_PERMISSION_REVOKED":
        bank.tell(item, "ITEM", code, error=Refusal("USER_PERMISSION_REVOKED").error())
    elif code == "ERROR":
        bank.tell(item, "ITEM", code, error=Refusal(item.error or "ITEM_LOGIN_REQUIRED").error())
    elif code in ("SMS_MICRODEPOSITS_VERIFICATION", "AUTHORIZATION_GRANTED"):
        bank.tell(item, "AUTH", code, account_id=item.accounts[0].account_id)
    else:
        bank.tell(item, "ITEM", code, error=None)


def _plain(rows: list[Transaction]) -> list[Transaction]:
    return [
        row if row.original_description is None else msgspec.structs.replace(row, original_description=None)
        for row in rows
    ]


def _said(message: str) -> Refusal:
    refusal = Refusal("INVALID_FIELD", message)
    refusal.display = message
    return refusal


def _page(
    accounts: list[Any],
    added: list[Transaction],
    modified: list[Transaction],
    removed: list[Any],
    next_cursor: str,
    has_more: bool,
    status: str,
) -> dict[str, Any]:
    return {
        "transactions_update_status": status,
        "accounts": accounts,
        "added": added,
        "modified": modified,
        "removed": removed,
        "next_cursor": next_cursor,
        "has_more": has_more,
    }
