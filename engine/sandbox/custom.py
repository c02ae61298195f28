"""Custom users: Plaid's ``user_custom`` JSON (``override_accounts``) as accounts and transactions.

All accounts and all transactions of the file are taken, whatever their age. Keys that are not
known, and the nulls of Plaid's blank template, are passed over. What an ``inflow_model``
would add is not made up: a test must find exactly what its file says.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from engine.sandbox.model import Account, Balances, Transaction, currency, identifier
from engine.sandbox.refusals import TABLE, Refusal

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}($|T)", re.ASCII)
_DEFAULT_SUBTYPE = {
    "depository": "checking",
    "credit": "credit card",
    "loan": "student",
    "investment": "brokerage",
    "brokerage": "brokerage",
    "other": "other",
}
TYPES = frozenset(["investment", "credit", "depository", "loan", "brokerage", "other"])
#: Plaid's description, AccountSubtype.
SUBTYPES = frozenset([
    "401a", "401k", "403B", "457b", "529", "auto", "brokerage", "business", "cash isa", "cash management", "cd",
    "checking", "commercial", "construction", "consumer", "credit card", "crypto exchange", "ebt",
    "education savings account", "fhsa", "fixed annuity", "gic", "health reimbursement arrangement", "home equity",
    "hsa", "isa", "ira", "keogh", "lif", "life insurance", "limited purpose checking", "line of credit", "lira",
    "loan", "lrif", "lrsp", "money market", "mortgage", "mutual fund", "non-custodial wallet",
    "non-taxable brokerage account", "other", "other insurance", "other annuity", "overdraft", "paypal", "payroll",
    "pension", "prepaid", "prif", "profit sharing plan", "qshr", "rdsp", "resp", "retirement", "rlif", "roth",
    "roth 401k", "roth 403B", "roth 457b", "roth pension", "roth profit sharing plan", "roth thrift savings plan",
    "rrif", "rrsp", "sarsep", "savings", "sep ira", "simple ira", "sipp", "stock plan", "student",
    "thrift savings plan", "tfsa", "trust", "ugma", "utma", "variable annuity",
])  # fmt: skip
MOST = Decimal("1e15")
"""More than any account holds."""
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
            user = json.loads(override, parse_float=Decimal, parse_constant=str)
        except (ValueError, RecursionError):
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
        Refusal: a field has a type or a value that it cannot have; says which.
    """
    made: list[Account] = []
    rows: list[Transaction] = []
    for number, given in enumerate(user["override_accounts"]):
        where = f"override_accounts[{number}]"
        entry = _object(given, where)
        account = _account(item_id, number, entry, money)
        made.append(account)
        usual = account.balances.iso_currency_code or account.balances.unofficial_currency_code or money
        transactions = entry.get("transactions") or []
        if not isinstance(transactions, list):
            raise Refusal("INVALID_FIELD", f"{where}.transactions must be an array")
        for index, each in enumerate(transactions):
            row = _transaction(item_id, account.account_id, (number, index), each, usual)
            if row is not None:
                rows.append(row)
    return made, rows


def _account(item_id: str, number: int, entry: Mapping[str, Any], money: str) -> Account:
    where = f"override_accounts[{number}]"
    kind = _text(entry.get("type"), f"{where}.type") or "depository"
    if kind not in TYPES:
        raise Refusal("INVALID_FIELD", f"{where}.type must be one of {', '.join(sorted(TYPES))}")
    subtype = _text(entry.get("subtype"), f"{where}.subtype") or _DEFAULT_SUBTYPE.get(kind, "other")
    if subtype not in SUBTYPES:
        raise Refusal("INVALID_FIELD", f"{where}.subtype is not a subtype of accounts")
    meta = _object(entry.get("meta") or {}, f"{where}.meta")
    numbers = _object(entry.get("numbers") or {}, f"{where}.numbers")
    digits = str(numbers.get("account") or "")
    iso, unofficial = currency(_text(entry.get("currency"), f"{where}.currency") or money)
    current = _decimal(entry.get("starting_balance"), f"{where}.starting_balance")
    if current is None:
        current = Decimal(random.Random(f"{item_id}:{number}").randrange(10_000, 900_000)) / 100  # noqa: S311 - a balance
    available = _decimal(entry.get("force_available_balance"), f"{where}.force_available_balance")
    limit = _decimal(meta.get("limit"), f"{where}.meta.limit")
    if available is None and kind == "depository":
        available = current
    return Account(
        account_id=identifier(item_id, "account", number),
        balances=Balances(available, current, limit, iso, unofficial),
        name=_text(meta.get("name"), f"{where}.meta.name") or _NAMES.get(subtype) or f"Plaid {subtype.title()}",
        official_name=_text(meta.get("official_name"), f"{where}.meta.official_name"),
        mask=digits[-4:] if len(digits) >= 4 and digits.isalnum() else f"{number * 1111 % 10000:04d}",
        type=kind,
        subtype=subtype,
    )


def _transaction(
    item_id: str, account_id: str, place: tuple[int, int], given: object, usual: str
) -> Transaction | None:
    where = f"override_accounts[{place[0]}].transactions[{place[1]}]"
    entry = _object(given, where)
    amount = _decimal(entry.get("amount"), f"{where}.amount")
    posted = _day(entry.get("date_posted"), f"{where}.date_posted")
    happened = _day(entry.get("date_transacted"), f"{where}.date_transacted")
    if amount is None or (posted is None and happened is None):
        return None
    iso, unofficial = currency(_text(entry.get("currency"), f"{where}.currency") or usual)
    description = _text(entry.get("description"), f"{where}.description") or ""
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


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Refusal("INVALID_FIELD", f"{where} must be an object")
    return value


def _text(value: object, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise Refusal("INVALID_FIELD", f"{where} must be a string")
    return value


def _decimal(value: object, where: str) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = Decimal(str(value))
    if not isinstance(value, Decimal) or not value.is_finite() or abs(value) >= MOST:
        raise Refusal("INVALID_FIELD", f"{where} must be a number")
    return value


def _day(value: object, where: str) -> str | None:
    if value is None:
        return None
    try:
        if isinstance(value, str) and _DAY.match(value):
            return date.fromisoformat(value[:10]).isoformat()
    except ValueError:
        pass
    raise Refusal("INVALID_FIELD", f"{where} must be a date in YYYY-MM-DD format")
