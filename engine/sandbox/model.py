"""The bank's things in Plaid's shapes: transactions and accounts, encoded with exact decimals."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any

import msgspec

_ALPHABET = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ123456789"

#: Money is written as a JSON number with all its digits.
ENCODER = msgspec.json.Encoder(decimal_format="number")
_DECODER = msgspec.json.Decoder(float_hook=Decimal)


def encode(value: Any) -> bytes:
    """JSON, decimals as numbers."""
    return ENCODER.encode(value)


def decode(content: bytes) -> Any:
    """JSON with exact decimals.

    Raises:
        ValueError: it is none, or has what JSON only seems to allow: NaN, half a character, a number or a
            depth without end.
    """
    try:
        return _DECODER.decode(content)
    except (RecursionError, ArithmeticError) as error:
        raise ValueError("JSON without end") from error


def identifier(*parts: object) -> str:
    """An id of 37 characters as Plaid's look, always the same for the same parts."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=27).digest()
    number, letters = int.from_bytes(digest, "big"), []
    for _ in range(37):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)


NO_LOCATION = msgspec.Raw(
    b'{"address":null,"city":null,"region":null,"postal_code":null,"country":null,"lat":null,"lon":null,'
    b'"store_number":null}'
)
NO_PAYMENT_META = msgspec.Raw(
    b'{"reference_number":null,"ppd_id":null,"payee":null,"by_order_of":null,"payer":null,"payment_method":null,'
    b'"payment_processor":null,"reason":null}'
)
NO_PARTIES = msgspec.Raw(b"[]")


class Category(msgspec.Struct, frozen=True):
    """``personal_finance_category``."""

    primary: str
    detailed: str
    confidence_level: str | None = "HIGH"


class Transaction(msgspec.Struct, kw_only=True):
    """A transaction as /transactions/sync gives it. ``amount``: positive is money out of the account."""

    transaction_id: str
    account_id: str
    amount: Decimal
    date: str
    name: str
    iso_currency_code: str | None = "USD"
    unofficial_currency_code: str | None = None
    authorized_date: str | None = None
    authorized_datetime: str | None = None
    datetime: str | None = None
    merchant_name: str | None = None
    merchant_entity_id: str | None = None
    original_description: str | None = None
    payment_channel: str = "other"
    pending: bool = False
    pending_transaction_id: str | None = None
    personal_finance_category: Category | None = None
    personal_finance_category_icon_url: str = "https://plaid-category-icons.plaid.com/PFC_OTHER.png"
    transaction_type: str = "special"
    transaction_code: str | None = None
    account_owner: str | None = None
    category: list[str] | None = None
    category_id: str | None = None
    check_number: str | None = None
    logo_url: str | None = None
    website: str | None = None
    location: msgspec.Raw = NO_LOCATION
    payment_meta: msgspec.Raw = NO_PAYMENT_META
    counterparties: msgspec.Raw = NO_PARTIES


class Balances(msgspec.Struct):
    available: Decimal | None
    current: Decimal | None
    limit: Decimal | None = None
    iso_currency_code: str | None = "USD"
    unofficial_currency_code: str | None = None


class Account(msgspec.Struct, kw_only=True, omit_defaults=False):
    """An account as /accounts/get gives it."""

    account_id: str
    balances: Balances
    name: str
    mask: str | None
    official_name: str | None
    type: str
    subtype: str | None
    holder_category: str | None = "personal"
    persistent_account_id: str | msgspec.UnsetType = msgspec.UNSET


_UNOFFICIAL = frozenset(["BTC", "ETH", "XRP", "LTC", "BCH", "DOGE", "USDT", "USDC", "ADA", "SOL", "XLM", "BNB", "DOT"])


def currency(code: str | None) -> tuple[str | None, str | None]:
    """(iso_currency_code, unofficial_currency_code) of a currency's name: exactly one of them is set."""
    name = (code or "USD").strip() or "USD"
    if len(name) == 3 and name.isascii() and name.isalpha() and name.upper() not in _UNOFFICIAL:
        return name.upper(), None
    return None, name
