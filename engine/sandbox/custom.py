"""Custom users: Plaid's ``user_custom`` JSON (``override_accounts``) as accounts and transactions.

All accounts and all transactions of the file are taken, whatever their age. Keys that are not
known, and the nulls of Plaid's blank template, are passed over. What an ``inflow_model``
would add is not made up: a test must find exactly what its file says.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from engine.sandbox.model import Account, Balances, Transaction, currency, identifier
from engine.sandbox.refusals import TABLE, Refusal

_DEFAULT_SUBTYPE = {
    "depository": "checking",
    "credit": "credit card",
    "loan": "student",
    "investment": "brokerage",
    "brokerage": "brokerage",
    "other": "other",
}
#: Names that Plaid gives accounts whose file names none.
_NAMES = {"checking": "Plaid Checking", "savings": "Plaid Saving", "credit card": "Plaid Credit Card"}


def parse(override: object) -> dict[str, Any]:
    """The user of an ``override_password``: JSON text, or the object itself.

    Raises:
        Refusal: it is no such JSON, or the user forces an error.
    """
    user: object = override
    if isinstance(override, str):
        try:
            user = json.loads(override, parse_float=Decimal)
        except ValueError:
            raise Refusal("INVALID_FIELD", "override_password must be valid JSON for user_custom") from None
    if not isinstance(user, dict) or not isinstance(user.get("override_accounts"), list):
        raise Refusal("INVALID_FIELD", "override_password must be an object with override_accounts")
    forced = user.get("force_error")
    if isinstance(forced, str) and forced in TABLE:
        raise Refusal(forced)
    return user


def accounts(item_id: str, user: Mapping[str, Any], money: str) -> tuple[list[Account], list[Transaction]]:
    """Accounts and posted transactions of a custom user; ``money`` is the currency where none is named.

    Raises:
        Refusal: a transaction has a date or an amount that is none.
    """
    made: list[Account] = []
    rows: list[Transaction] = []
    for number, entry in enumerate(user["override_accounts"]):
        if not isinstance(entry, dict):
            raise Refusal("INVALID_FIELD", f"override_accounts[{number}] must be an object")
        account = _account(item_id, number, entry, money)
        made.append(account)
        usual = account.balances.iso_currency_code or account.balances.unofficial_currency_code or money
        for index, each in enumerate(entry.get("transactions") or []):
            row = _transaction(item_id, account.account_id, (number, index), each, usual)
            if row is not None:
                rows.append(row)
    return made, rows


def _account(item_id: str, number: int, entry: Mapping[str, Any], money: str) -> Account:
    kind = entry.get("type") or "depository"
    subtype = entry.get("subtype") or _DEFAULT_SUBTYPE.get(kind, "other")
    meta = entry.get("meta") or {}
    digits = str((entry.get("numbers") or {}).get("account") or "")
    iso, unofficial = currency(entry.get("currency") or money)
    current = _decimal(entry.get("starting_balance"), f"override_accounts[{number}].starting_balance")
    if current is None:
        current = Decimal(random.Random(f"{item_id}:{number}").randrange(10_000, 900_000)) / 100  # noqa: S311 - a balance
    available = _decimal(entry.get("force_available_balance"), f"override_accounts[{number}].force_available_balance")
    limit = _decimal(meta.get("limit"), f"override_accounts[{number}].meta.limit")
    if available is None and kind == "depository":
        available = current
    name = meta.get("name") or _NAMES.get(subtype) or f"Plaid {subtype.title()}"
    return Account(
        account_id=identifier(item_id, "account", number),
        balances=Balances(available, current, limit, iso, unofficial),
        name=str(name),
        official_name=meta.get("official_name"),
        mask=digits[-4:] if len(digits) >= 4 else f"{number * 1111 % 10000:04d}",
        type=kind,
        subtype=subtype,
    )


def _transaction(
    item_id: str, account_id: str, place: tuple[int, int], entry: object, usual: str
) -> Transaction | None:
    where = f"override_accounts[{place[0]}].transactions[{place[1]}]"
    if not isinstance(entry, dict):
        raise Refusal("INVALID_FIELD", f"{where} must be an object")
    amount = _decimal(entry.get("amount"), f"{where}.amount")
    posted = _day(entry.get("date_posted"), f"{where}.date_posted")
    happened = _day(entry.get("date_transacted"), f"{where}.date_transacted")
    if amount is None or (posted is None and happened is None):
        return None
    iso, unofficial = currency(entry.get("currency") or usual)
    description = str(entry.get("description") or "")
    return Transaction(
        transaction_id=identifier(item_id, "custom", *place),
        account_id=account_id,
        amount=amount,
        date=str(posted or happened),
        authorized_date=happened,
        name=description,
        original_description=description,
        iso_currency_code=iso,
        unofficial_currency_code=unofficial,
    )


def _decimal(value: object, where: str) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Decimal(str(value))
    raise Refusal("INVALID_FIELD", f"{where} must be a number")


def _day(value: object, where: str) -> str | None:
    if value is None:
        return None
    try:
        return date.fromisoformat(str(value)[:10]).isoformat()
    except ValueError:
        raise Refusal("INVALID_FIELD", f"{where} must be a date in YYYY-MM-DD format") from None
