"""A raw page of /transactions/sync becomes rows for the database, with exact amounts.

The quick path decodes the page into structs. A page that holds a row we cannot read, or text
that Postgres cannot store, goes the careful way: its good rows go in, the others are set
aside with the reason.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from engine.plaid.errors import not_plaid
from engine.plaid.types import (
    Account,
    Balances,
    Counterparty,
    Location,
    LooseSyncPage,
    PaymentMeta,
    Removed,
    SyncPage,
    Transaction,
)

#: Escapes that Postgres may not store: NUL, and halves of surrogate pairs.
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2})")


#: More than any sum; well below what Postgres stores and decimals are added up in.
MOST_MONEY = Decimal("1e30")


class Extra(Struct, omit_defaults=True):
    """What is kept without being looked at (column ``extra``)."""

    location: Location | None = None
    payment_meta: PaymentMeta | None = None
    counterparties: list[Counterparty] | None = None
    logo_url: str | None = None
    website: str | None = None
    account_owner: str | None = None
    transaction_code: str | None = None


_NOWHERE, _NO_META, _NO_EXTRA = Location(), PaymentMeta(), Extra()


class Row(Struct, omit_defaults=True):
    """A transaction in the words of the table ``syncdesk.transactions``; money as text."""

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
    category_primary: str | None = None
    category_detailed: str | None = None
    category_confidence: str | None = None
    category_version: str | None = None
    extra: Extra | None = None


class Gone(Struct):
    transaction_id: str


class Body(Struct, omit_defaults=True):
    """What ``syncdesk_sync_stage`` and ``syncdesk_sync_commit`` take as a page."""

    added: list[Row] = field(default_factory=list)
    modified: list[Row] = field(default_factory=list)
    removed: list[Gone] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """One page, ready for the database. ``skipped``: rows set aside, each with reason and body."""

    body: Body
    accounts: list[Account]
    status: str
    next_cursor: str
    has_more: bool
    request_id: str
    skipped: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return len(self.body.added) + len(self.body.modified) + len(self.body.removed)

    def text(self) -> str:
        """The rows as JSON text for the database."""
        return msgspec.json.encode(self.body).decode()


def read(raw: bytes) -> Page:
    """Rows of one raw answer.

    Raises:
        PlaidUnreachable: it is no answer of /transactions/sync at all.
    """
    if not _is_suspect(raw):
        try:
            page = msgspec.json.decode(raw, type=SyncPage)
            body = Body(
                [to_row(row) for row in page.added],
                [to_row(row) for row in page.modified],
                [Gone(row.transaction_id) for row in page.removed],
            )
            return _page(page, body, page.accounts, [])
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
            pass
    return _read_carefully(raw)


def _is_suspect(raw: bytes) -> bool:
    """Whether some text may hold a NUL or half a surrogate pair. A pair that is whole is nothing to worry about."""
    waiting = -1
    for found in _SUSPECT.finditer(raw):
        escape = found.group()
        if escape[2:3] == b"0":
            return True
        low = escape[3:4] in b"cdefCDEF"
        if low != (waiting == found.start()):
            return True
        waiting = -1 if low else found.end()
        if not low and raw[waiting : waiting + 2] != b"\\u":
            return True
    return waiting != -1


def to_row(row: Transaction) -> Row:
    """Plaid's transaction in the table's words.

    Raises:
        ValueError: a date that is none, or an amount that no money has.
    """
    _check_date(row.date)
    if not _is_money(row.amount):
        raise ValueError("an amount that is no sum of money")
    if row.authorized_date is not None:
        _check_date(row.authorized_date)
    category = row.personal_finance_category
    extra = Extra(
        row.location if row.location != _NOWHERE else None,
        row.payment_meta if row.payment_meta != _NO_META else None,
        row.counterparties or None,
        row.logo_url,
        row.website,
        row.account_owner,
        row.transaction_code,
    )
    return Row(
        row.transaction_id,
        row.account_id,
        row.amount,
        row.date,
        row.name,
        row.iso_currency_code,
        row.unofficial_currency_code,
        row.authorized_date,
        row.datetime,
        row.authorized_datetime,
        row.merchant_name,
        row.merchant_entity_id,
        row.original_description,
        row.payment_channel,
        row.check_number,
        row.pending,
        row.pending_transaction_id,
        category.primary if category else None,
        category.detailed if category else None,
        category.confidence_level if category else None,
        (category.version if category else None) or row.personal_finance_category_version,
        extra if extra != _NO_EXTRA else None,
    )


def account_json(account: Account) -> dict[str, Any]:
    """An account in the words of ``syncdesk.put_accounts``; balances as text."""
    return {
        "account_id": account.account_id,
        "persistent_account_id": account.persistent_account_id,
        "name": account.name,
        "official_name": account.official_name,
        "mask": account.mask,
        "type": account.type,
        "subtype": account.subtype,
        "iso_currency_code": account.balances.iso_currency_code,
        "unofficial_currency_code": account.balances.unofficial_currency_code,
        "current": _text(account.balances.current),
        "available": _text(account.balances.available),
        "limit": _text(account.balances.limit),
    }


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None or not _is_money(amount) else str(amount)


def _is_money(amount: Decimal) -> bool:
    """Neither NaN nor infinite nor of a size that only a mistake has."""
    return amount.is_finite() and -MOST_MONEY < amount < MOST_MONEY


def _check_date(text: str) -> None:
    if len(text) != 10:
        raise ValueError("a date that is none")
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValueError("a date that is none") from None


def _page(page: SyncPage | LooseSyncPage, body: Body, accounts: list[Account], skipped: list[dict[str, Any]]) -> Page:
    return Page(
        _once(body),
        accounts,
        page.transactions_update_status,
        page.next_cursor or "",
        page.has_more,
        page.request_id,
        skipped,
    )


def _once(body: Body) -> Body:
    """Each id once a page: the last word counts, and "removed" is the last word of all."""
    total = len(body.added) + len(body.modified) + len(body.removed)
    ids = {row.transaction_id for row in body.added}
    ids.update(row.transaction_id for row in body.modified)
    ids.update(row.transaction_id for row in body.removed)
    if len(ids) == total:
        return body
    removed = {row.transaction_id: row for row in body.removed}
    modified = {row.transaction_id: row for row in body.modified if row.transaction_id not in removed}
    added = {
        row.transaction_id: row
        for row in body.added
        if row.transaction_id not in removed and row.transaction_id not in modified
    }
    return Body(list(added.values()), list(modified.values()), list(removed.values()))


def _read_carefully(raw: bytes) -> Page:
    try:
        tree = json.loads(raw.decode("utf-8", "replace"), parse_float=Decimal, parse_constant=str)
        page = msgspec.convert(tree, LooseSyncPage)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        failure = not_plaid("/transactions/sync", 200, raw)
    else:
        skipped: list[dict[str, Any]] = []
        added = [row for entry in page.added if (row := _careful_row(entry, skipped)) is not None]
        modified = [row for entry in page.modified if (row := _careful_row(entry, skipped)) is not None]
        removed = [Gone(entry.transaction_id) for entry in _sound(page.removed, Removed)]
        return _page(page, Body(added, modified, removed), _careful_accounts(page.accounts), skipped)
    raise failure


def _careful_row(entry: Any, skipped: list[dict[str, Any]]) -> Row | None:
    reason = _unstorable(entry)
    if reason is None:
        try:
            return to_row(msgspec.json.decode(_encode(entry), type=Transaction))
        except msgspec.ValidationError as error:
            reason = _where(error)
        except msgspec.MsgspecError:
            reason = "fields of types that they cannot have"
        except ValueError as error:
            reason = str(error)
    clean = _clean(entry)
    identity = clean.get("transaction_id") if isinstance(clean, dict) else None
    identity = identity if isinstance(identity, str) else None
    skipped.append({"transaction_id": identity, "reason": reason, "body": clean, "raw": _whole(entry)})
    return None


def again(raw: str) -> Row | str:
    """A row that was set aside as it came (``raw`` of `Page.skipped`), read anew: the row, or why it is refused."""
    refused: list[dict[str, Any]] = []
    row = _careful_row(json.loads(raw, parse_float=Decimal, parse_constant=str), refused)
    return row if row is not None else str(refused[0]["reason"])


def _whole(value: Any) -> str:
    """JSON text in which nothing is lost: numbers by their own digits, and what no database takes as an escape."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_whole(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_whole, value)) + "]"
    return json.dumps(value)


def _encode(entry: Any) -> bytes:
    # Decimals go out as JSON numbers with their own digits.
    return msgspec.json.Encoder(decimal_format="number").encode(entry)


def _careful_accounts(entries: list[Any]) -> list[Account]:
    accounts = []
    for account in _sound(entries, Account):
        account.balances = account.balances or Balances()
        accounts.append(account)
    return accounts


def _sound(entries: list[Any], kind: type[Any]) -> list[Any]:
    found = []
    for entry in entries:
        try:
            found.append(msgspec.json.decode(_encode(_clean(entry)), type=kind))
        except (msgspec.MsgspecError, ValueError):
            continue
    return found


def _unstorable(value: Any) -> str | None:
    """Why Postgres cannot store a text inside ``value``, or None."""
    if isinstance(value, str):
        if "\0" in value:
            return "text with a NUL character"
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            return "text with half a character (lone surrogate)"
        return None
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((reason for part in parts if (reason := _unstorable(part)) is not None), None)


def _clean(value: Any) -> Any:
    """The same with what cannot be stored replaced, to be kept beside the reason."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_clean(part) for part in value]
    # Money stays exact in JSON as text.
    return str(value) if isinstance(value, Decimal) else value


def _where(error: msgspec.ValidationError) -> str:
    """msgspec names the field and what was expected, never the value."""
    return str(error)[:200]
