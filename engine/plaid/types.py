"""Plaid's answers, as far as Syncdesk uses them.

Shapes follow Plaid's public OpenAPI description (2020-09-14). Money is an exact `Decimal`
taken from the JSON number's own digits, never a float. Unknown fields are ignored by the
decoder; the ones kept without being looked at go to a transaction's ``extra``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from msgspec import Struct, field


class Category(Struct, frozen=True):
    primary: str | None = None
    detailed: str | None = None
    confidence_level: str | None = None
    version: str | None = None


class Location(Struct, frozen=True, omit_defaults=True):
    """Where a purchase was made; kept in ``extra`` without its nulls, as are the next two."""

    address: str | None = None
    city: str | None = None
    region: str | None = None
    postal_code: str | None = None
    country: str | None = None
    lat: Decimal | None = None
    lon: Decimal | None = None
    store_number: str | None = None


class PaymentMeta(Struct, frozen=True, omit_defaults=True):
    by_order_of: str | None = None
    payee: str | None = None
    payer: str | None = None
    payment_method: str | None = None
    payment_processor: str | None = None
    ppd_id: str | None = None
    reason: str | None = None
    reference_number: str | None = None


class Counterparty(Struct, frozen=True, omit_defaults=True):
    name: str | None = None
    type: str | None = None
    logo_url: str | None = None
    website: str | None = None
    entity_id: str | None = None
    confidence_level: str | None = None
    phone_number: str | None = None


class Transaction(Struct):
    """One row of ``added`` or ``modified``. ``amount``: positive is money out of the account."""

    transaction_id: str
    account_id: str
    amount: Decimal
    date: str
    name: str | None = None
    iso_currency_code: str | None = None
    unofficial_currency_code: str | None = None
    authorized_date: str | None = None
    datetime: str | None = None
    authorized_datetime: str | None = None
    merchant_name: str | None = None
    merchant_entity_id: str | None = None
    original_description: str | None = None
    payment_channel: str | None = None
    check_number: str | None = None
    pending: bool = False
    pending_transaction_id: str | None = None
    personal_finance_category: Category | None = None
    personal_finance_category_version: str | None = None
    location: Location | None = None
    payment_meta: PaymentMeta | None = None
    counterparties: list[Counterparty] | None = None
    logo_url: str | None = None
    website: str | None = None
    account_owner: str | None = None
    transaction_code: str | None = None


class Removed(Struct):
    transaction_id: str
    account_id: str | None = None


class Balances(Struct):
    available: Decimal | None = None
    current: Decimal | None = None
    limit: Decimal | None = None
    iso_currency_code: str | None = None
    unofficial_currency_code: str | None = None


class Account(Struct):
    account_id: str
    name: str = ""
    balances: Balances = field(default_factory=Balances)
    mask: str | None = None
    official_name: str | None = None
    type: str = "other"
    subtype: str | None = None
    persistent_account_id: str | None = None


class SyncPage(Struct):
    """One answer of /transactions/sync. An empty ``next_cursor`` means "not ready yet"."""

    has_more: bool
    next_cursor: str | None
    added: list[Transaction] = field(default_factory=list)
    modified: list[Transaction] = field(default_factory=list)
    removed: list[Removed] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    transactions_update_status: str = "TRANSACTIONS_UPDATE_STATUS_UNKNOWN"
    request_id: str = ""


class LooseSyncPage(Struct):
    """The same answer with its rows left as they are: for pages that hold a row we cannot read."""

    has_more: bool
    next_cursor: str | None
    added: list[Any] = field(default_factory=list)
    modified: list[Any] = field(default_factory=list)
    removed: list[Any] = field(default_factory=list)
    accounts: list[Any] = field(default_factory=list)
    transactions_update_status: str = "TRANSACTIONS_UPDATE_STATUS_UNKNOWN"
    request_id: str = ""


class ErrorBody(Struct):
    """The body of every refusal. ``display_message`` is the only text meant for end users."""

    error_code: str
    error_type: str = ""
    error_message: str = ""
    display_message: str | None = None
    request_id: str | None = None


class ItemInfo(Struct):
    item_id: str
    institution_id: str | None = None
    institution_name: str | None = None
    webhook: str | None = None
    error: ErrorBody | None = None
    consent_expiration_time: str | None = None


class ItemAnswer(Struct):
    item: ItemInfo
    request_id: str = ""


class AccountsAnswer(Struct):
    accounts: list[Account]
    item: ItemInfo
    request_id: str = ""


class Exchanged(Struct):
    """``access_token`` is a password: seal it at once, never log it."""

    access_token: str
    item_id: str
    request_id: str = ""


class Institution(Struct):
    institution_id: str
    name: str


class InstitutionAnswer(Struct):
    institution: Institution


class LinkToken(Struct):
    link_token: str
    expiration: str
    hosted_link_url: str | None = None


class LinkAddResult(Struct):
    public_token: str


class LinkResults(Struct):
    item_add_results: list[LinkAddResult] = field(default_factory=list)


class LinkSuccess(Struct):
    public_token: str


class LinkSession(Struct):
    link_session_id: str
    finished_at: str | None = None
    results: LinkResults | None = None
    on_success: LinkSuccess | None = None


class LinkTokenAnswer(Struct):
    link_token: str
    link_sessions: list[LinkSession] = field(default_factory=list)


class VerificationKey(Struct):
    """A JWK: P-256 point, with the time it was made and, once retired, expired (unix seconds)."""

    kid: str
    x: str
    y: str
    kty: str = "EC"
    crv: str = "P-256"
    alg: str = "ES256"
    created_at: int | None = None
    expired_at: int | None = None


class VerificationKeyAnswer(Struct):
    key: VerificationKey


class Ok(Struct):
    request_id: str = ""


class Webhook(Struct):
    """A webhook's body: what decides the reaction. All else stays in the stored body."""

    webhook_type: str = ""
    webhook_code: str = ""
    item_id: str | None = None
    error: ErrorBody | None = None
    reason: str | None = None
    consent_expiration_time: str | None = None
    disconnect_time: str | None = None
    account_id: str | None = None
    link_token: str | None = None
    link_session_id: str | None = None
    status: str | None = None
    public_token: str | None = None
    public_tokens: list[str] = field(default_factory=list)
    new_webhook_url: str | None = None
    environment: str | None = None


UpdateStatus = Literal[
    "TRANSACTIONS_UPDATE_STATUS_UNKNOWN", "NOT_READY", "INITIAL_UPDATE_COMPLETE", "HISTORICAL_UPDATE_COMPLETE"
]
