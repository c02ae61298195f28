"""Custom users: Plaid's ``user_custom`` JSON (``override_accounts``) as accounts and transactions.

All accounts and all transactions of the file are taken, whatever their age. Keys that are not
known, and the nulls of Plaid's blank template, are passed over. What an ``inflow_model``
would add is not made up: a test must find exactly what its file says. The fields' meaning is told
by Plaid's own client library (``UserCustomPassword``, ``OverrideAccounts``, ``Meta``).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from engine.sandbox.model import Account, Balances, Transaction, currency, decode, identifier
from engine.sandbox.refusals import TABLE, Refusal

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}($|T)", re.ASCII)
_DEFAULT_SUBTYPE = {
    "depository": "checking",
    "credit": "credit card",
    "loan": "student",
    "investment": "brokerage",
    "brokerage": "brokerage",
    "payroll": "payroll",
    "other": "other",
}
#: Types of accounts that answers have.
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
_SUBTYPE = {each.lower(): each for each in SUBTYPES}
_MASK = re.compile(r"([A-Za-z0-9]{2,4})?", re.ASCII)
#: Dates of what happened, by their names in a test user; the latest is the one that ``roll_dates_forward`` moves.
_ACTIVITY = frozenset([
    "date_transacted", "date", "institution_price_as_of", "pay_day", "end_date", "last_payment_date",
    "last_statement_issue_date",
])  # fmt: skip
MOST = Decimal("1e15")
"""More than any account holds."""
#: Names that Plaid gives accounts whose file names none.
_NAMES = {"checking": "Plaid Checking", "savings": "Plaid Saving", "credit card": "Plaid Credit Card"}


@dataclass(frozen=True)
class Holder:
    """What a test user has. ``fixed``: accounts whose available balance no transaction moves."""

    accounts: list[Account]
    rows: list[Transaction]
    fixed: frozenset[str]


def parse(override: object) -> dict[str, Any]:
    """The user of an ``override_password``: JSON text, or the object itself. Every key may be missing.

    Raises:
        Refusal: it is no such JSON, or the user forces an error.
    """
    user: object = override
    if isinstance(override, str):
        try:
            user = decode(override.encode())
        except ValueError:
            raise _wrong("override_password must be valid JSON for user_custom") from None
    if not isinstance(user, dict):
        raise _wrong("override_password must be an object")
    if user.get("recaptcha") == "bad":
        raise Refusal("RECAPTCHA_BAD")
    forced = _text(user.get("force_error"), "force_error")
    if forced:
        raise Refusal(forced) if forced in TABLE else _wrong("force_error is no error of Plaid's")
    if not isinstance(user.get("override_accounts"), list | None):
        raise _wrong("override_accounts must be an array")
    return user


def holder(item_id: str, user: Mapping[str, Any], money: str, today: date) -> Holder:
    """Accounts and transactions of a test user; ``money`` is the currency where none is named.

    A transaction that posts after ``today`` (the day of linking) is pending.

    Raises:
        Refusal: a field has a type or a value that it cannot have; says which.
    """
    accounts: list[Account] = []
    rows: list[Transaction] = []
    fixed: set[str] = set()
    rolled = _rolled(user, today)
    for number, given in enumerate(user["override_accounts"]):
        where = f"override_accounts[{number}]"
        entry = _object(given, where)
        account = _account(item_id, number, entry, money, str(user.get("seed") or item_id))
        accounts.append(account)
        if entry.get("force_available_balance") is not None:
            fixed.add(account.account_id)
        usual = account.balances.iso_currency_code or account.balances.unofficial_currency_code or money
        transactions = entry.get("transactions") or []
        if not isinstance(transactions, list):
            raise _wrong(f"{where}.transactions must be an array")
        for index, each in enumerate(transactions):
            row = _transaction(account.account_id, f"{where}.transactions[{index}]", each, usual, (today, rolled))
            if row is not None:
                row.transaction_id = identifier(item_id, "custom", number, index)
                rows.append(row)
    return Holder(accounts, rows, frozenset(fixed))


def _rolled(user: Mapping[str, Any], today: date) -> timedelta:
    """How far ``roll_dates_forward`` moves the dates: the latest thing that happened did so today."""
    if user.get("roll_dates_forward") is not True:
        return timedelta(0)
    latest = max(_activity(user["override_accounts"]), default=today)
    return today - latest


def _activity(value: object) -> Iterator[date]:
    if isinstance(value, list):
        for each in value:
            yield from _activity(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key in _ACTIVITY and isinstance(each, str) and _DAY.match(each):
                yield date.fromisoformat(_day(each, key) or "")
            elif key != "loan_status":  # its end is planned, nothing that happened
                yield from _activity(each)


def _account(item_id: str, number: int, entry: Mapping[str, Any], money: str, seed: str) -> Account:
    where = f"override_accounts[{number}]"
    kind, subtype = _kind(entry, where)
    meta = _object(entry.get("meta") or {}, f"{where}.meta")
    numbers = _object(entry.get("numbers") or {}, f"{where}.numbers")
    digits = str(numbers.get("account") or numbers.get("international_iban") or "")
    mask = _text(meta.get("mask"), f"{where}.meta.mask")
    if mask is not None and not _MASK.fullmatch(mask):
        raise _wrong(f"{where}.meta.mask must be empty or 2 to 4 letters and digits")
    if mask is None:
        mask = digits[-4:] if len(digits) >= 4 and digits.isalnum() else f"{number * 1111 % 10000:04d}"
    return Account(
        account_id=identifier(item_id, "account", number),
        balances=_balances(entry, where, kind, money, random.Random(f"{seed}:{number}")),  # noqa: S311 - a balance
        name=_text(meta.get("name"), f"{where}.meta.name") or _NAMES.get(subtype) or f"Plaid {subtype.title()}",
        official_name=_text(meta.get("official_name"), f"{where}.meta.official_name"),
        mask=mask or None,
        type=kind,
        subtype=subtype,
    )


def _kind(entry: Mapping[str, Any], where: str) -> tuple[str, str]:
    """Type and subtype. Test users have a type ``payroll``, which answers do not have."""
    kind = _text(entry.get("type"), f"{where}.type") or "depository"
    if kind not in _DEFAULT_SUBTYPE:
        raise _wrong(f"{where}.type must be one of {', '.join(sorted(_DEFAULT_SUBTYPE))}")
    given = _text(entry.get("subtype"), f"{where}.subtype") or _DEFAULT_SUBTYPE[kind]
    subtype = _SUBTYPE.get(given.lower())
    if subtype is None:
        raise _wrong(f"{where}.subtype is not a subtype of accounts")
    return ("other" if kind == "payroll" else kind), subtype


def _balances(entry: Mapping[str, Any], where: str, kind: str, money: str, chance: random.Random) -> Balances:
    meta = _object(entry.get("meta") or {}, f"{where}.meta")
    iso, unofficial = currency(_text(entry.get("currency"), f"{where}.currency") or money)
    current = _decimal(entry.get("starting_balance"), f"{where}.starting_balance")
    if current is None:
        current = Decimal(chance.randrange(10_000, 900_000)) / 100
    available = _decimal(entry.get("force_available_balance"), f"{where}.force_available_balance")
    without = entry.get("has_null_available_balance") is True
    if without and available is not None:
        raise _wrong(f"{where}: force_available_balance and has_null_available_balance cannot be set together")
    if available is None and kind == "depository" and not without:
        available = current
    return Balances(available, current, _decimal(meta.get("limit"), f"{where}.meta.limit"), iso, unofficial)


def _transaction(
    account_id: str, where: str, given: object, usual: str, days: tuple[date, timedelta]
) -> Transaction | None:
    """A row without its id; None for the nulls of the blank template. ``days``: today, and how far dates move."""
    entry, (today, rolled) = _object(given, where), days
    amount = _decimal(entry.get("amount"), f"{where}.amount")
    posted = _day(entry.get("date_posted"), f"{where}.date_posted", rolled)
    happened = _day(entry.get("date_transacted"), f"{where}.date_transacted", rolled)
    if amount is None or (posted is None and happened is None):
        return None
    pending = posted is not None and posted > today.isoformat()
    iso, unofficial = currency(_text(entry.get("currency"), f"{where}.currency") or usual)
    description = _text(entry.get("description"), f"{where}.description") or ""
    return Transaction(
        transaction_id="",
        account_id=account_id,
        amount=amount,
        date=(happened if pending else posted) or posted or happened or "",
        authorized_date=happened,
        name=description,
        original_description=description,
        pending=pending,
        iso_currency_code=iso,
        unofficial_currency_code=unofficial,
    )


def _wrong(what: str) -> Refusal:
    """Plaid takes a test user that it cannot read for wrong credentials; here the field is said too."""
    refusal = Refusal("INVALID_CREDENTIALS", f"the provided credentials were not correct: {what}")
    refusal.display = "The provided credentials were not correct. Please try again."
    return refusal


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(f"{where} must be an object")
    return value


def _text(value: object, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise _wrong(f"{where} must be a string")
    return value


def _decimal(value: object, where: str) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = Decimal(str(value))
    if not isinstance(value, Decimal) or not value.is_finite() or abs(value) >= MOST:
        raise _wrong(f"{where} must be a number")
    return value


def _day(value: object, where: str, rolled: timedelta = timedelta(0)) -> str | None:
    if value is None:
        return None
    try:
        if isinstance(value, str) and _DAY.match(value):
            return (date.fromisoformat(value[:10]) + rolled).isoformat()
    except (ValueError, OverflowError):
        pass
    raise _wrong(f"{where} must be a date in YYYY-MM-DD format")
