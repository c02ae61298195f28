"""An item of the bank: one person's login at one institution, with what Plaid keeps about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from engine.sandbox import custom
from engine.sandbox.institutions import Institution, find
from engine.sandbox.ledger import Ledger
from engine.sandbox.model import Account, Category, Transaction, identifier
from engine.sandbox.refusals import Refusal
from engine.sandbox.world import Household, primary

NOT_READY, INITIAL, HISTORICAL = "NOT_READY", "INITIAL_UPDATE_COMPLETE", "HISTORICAL_UPDATE_COMPLETE"
INITIAL_DAYS = 30


class Opening(msgspec.Struct, kw_only=True):
    """All that an item is made from; the same opening makes the same item."""

    item_id: str
    access_token: str
    public_token: str
    institution_id: str
    products: list[str]
    webhook: str | None = None
    username: str = "user_good"
    custom_user: str | None = None
    days: int = 90
    today: str
    created_at: str
    seed: str
    bulk: int = 0


@dataclass
class Item:
    """State of an item. ``error`` is the code of the trouble that only the person can mend.

    ``fixed``: accounts whose available balance stays as it is.
    """

    opening: Opening
    institution: Institution
    ledger: Ledger
    accounts: list[Account]
    history: list[Transaction]
    household: Household | None
    access_token: str
    webhook: str | None
    status: str = NOT_READY
    error: str | None = None
    exchanged: bool = False
    removed: bool = False
    sync_called: bool = False
    living: bool = False
    consent_expires: str | None = None
    billed_until: str = ""
    last_update: str | None = None
    last_webhook: tuple[str, str] | None = None
    pending: dict[str, Transaction] = field(default_factory=dict)
    used_accounts: set[str] = field(default_factory=set)
    fixed: frozenset[str] = frozenset()

    @property
    def item_id(self) -> str:
        return self.opening.item_id

    def stage(self, status: str) -> int:
        """Bring the history in, as Plaid does in two steps; returns how many transactions came."""
        border = (date.fromisoformat(self.opening.today) - timedelta(days=INITIAL_DAYS)).isoformat()
        if status == INITIAL:
            arriving = [row for row in self.history if row.date >= border]
            self.history = [row for row in self.history if row.date < border]
        else:
            arriving, self.history = self.history, []
        self.ledger.add(arriving)
        self.used_accounts.update(row.account_id for row in arriving)
        self.pending |= {row.transaction_id: row for row in arriving if row.pending}
        self.status = status
        return len(arriving)

    def add(self, rows: list[Transaction]) -> None:
        """New transactions, with what they do to the balances."""
        self.ledger.add(rows)
        self.used_accounts.update(row.account_id for row in rows)
        for row in rows:
            if row.pending:
                self.pending[row.transaction_id] = row
            else:
                self._book(row)

    def modify(self, rows: list[Transaction]) -> None:
        for row in rows:
            self.ledger.modify(row)
            if row.transaction_id in self.pending:
                self.pending[row.transaction_id] = row

    def remove(self, transaction_ids: list[str]) -> None:
        for transaction_id in transaction_ids:
            self.ledger.remove(transaction_id)
            self.pending.pop(transaction_id, None)

    def account(self, account_id: str) -> Account | None:
        return next((each for each in self.accounts if each.account_id == account_id), None)

    def listed_accounts(self, account_ids: set[str]) -> list[Account]:
        return [each for each in self.accounts if each.account_id in account_ids]

    def change_accounts(self, close: list[str], opened: list[dict[str, Any]]) -> None:
        """Accounts that the person no longer shares go, new ones come; transactions stay as they are."""
        kept = [each for each in self.accounts if each.account_id not in close]
        self.accounts = kept + msgspec.convert(opened, list[Account], strict=False)

    def _book(self, row: Transaction) -> None:
        account = self.account(row.account_id)
        if account is None:
            return
        balances = account.balances
        owed = account.type in ("credit", "loan")
        if balances.current is not None:
            balances.current += row.amount if owed else -row.amount
        if balances.available is not None and row.account_id not in self.fixed:
            balances.available -= row.amount


def open_item(opening: Opening) -> Item:
    """Make an item and its history from its opening.

    Raises:
        Refusal: the institution is unknown, or the custom user is malformed.
    """
    institution = find(opening.institution_id)
    household: Household | None = None
    today = date.fromisoformat(opening.today)
    user = custom.parse(opening.custom_user) if opening.custom_user is not None else {}
    fixed: frozenset[str] = frozenset()
    if user.get("override_accounts") is not None:
        holder = custom.holder(opening.item_id, user, institution.currency, today)
        accounts, history, fixed = holder.accounts, holder.rows, holder.fixed
    else:
        household = Household(opening.item_id, institution, str(user.get("seed") or opening.seed))
        accounts = household.accounts
        history = _bulk(opening, accounts[0].account_id, institution) if opening.bulk else []
        history = history or household.history(today, opening.days)
    if not accounts:
        raise Refusal("NO_ACCOUNTS")
    return Item(
        opening=opening,
        institution=institution,
        ledger=Ledger(opening.item_id),
        accounts=accounts,
        history=history,
        household=household,
        access_token=opening.access_token,
        webhook=opening.webhook,
        billed_until=(today - timedelta(days=1)).isoformat(),
        fixed=fixed,
    )


def _bulk(opening: Opening, account_id: str, institution: Institution) -> list[Transaction]:
    """Very many plain transactions, made quickly: for measuring first syncs."""
    today = date.fromisoformat(opening.today)
    days = [(today - timedelta(days=back)).isoformat() for back in range(730)]
    detailed = "GENERAL_MERCHANDISE_SUPERSTORES"
    category = Category(primary(detailed), detailed)
    places = Decimal(1) if institution.currency == "JPY" else Decimal("0.01")
    return [
        Transaction(
            transaction_id=identifier(opening.item_id, "bulk", number),
            account_id=account_id,
            amount=(Decimal(101 + number * 7919 % 98_765) / 100).quantize(places),
            date=days[number * 730 // opening.bulk],
            authorized_date=days[number * 730 // opening.bulk],
            name=f"PURCHASE {number:06d} STORE {number * 31 % 9973:04d}",
            merchant_name=f"Store {number * 31 % 9973}",
            iso_currency_code=institution.currency,
            payment_channel="in store",
            personal_finance_category=category,
        )
        for number in range(opening.bulk)
    ]


def item_view(item: Item) -> dict[str, Any]:
    """The item as /item/get and /accounts/get give it."""
    return {
        "item_id": item.item_id,
        "institution_id": item.institution.institution_id,
        "institution_name": item.institution.name,
        "webhook": item.webhook,
        "auth_method": None,
        "error": Refusal(item.error).error() if item.error else None,
        "available_products": sorted({"balance", "identity", "transactions"} - set(item.opening.products)),
        "billed_products": item.opening.products,
        "products": item.opening.products,
        "consented_products": item.opening.products,
        "consent_expiration_time": item.consent_expires,
        "update_type": "background",
    }
