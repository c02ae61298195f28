"""Transactions as the API shows them."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


class Transaction(Struct):
    """``flags``: ``never_posted`` (pending for more than two weeks), ``posted_by_guess`` (its pending form was named by
    Syncdesk, not by the bank), ``maybe_twice`` (another link of the same login has the same purchase)."""

    id: str
    item_id: str
    transaction_id: str
    account_id: str
    institution: str
    date: str
    authorized_date: str | None
    name: str
    merchant: str | None
    amount: str
    currency: str | None
    pending: bool
    removed: bool
    replaced_by: str | None
    category: str | None
    person_category: str | None
    note: str | None
    bill_id: str | None
    flags: list[str]


class TransactionPage(Struct):
    transactions: list[Transaction]
    next: str | None = None


class TransactionChange(Struct):
    """One line of a transaction's history: the fields that changed, with their values before and after."""

    at: str
    change: str
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    source: Literal["run", "person", "matcher"]
    run_id: str | None
    correlation_id: str | None


class TransactionDetail(Struct):
    """``state``: the row as its history tells it, at the moment that was asked for; null: it was not there yet."""

    transaction: Transaction
    state: dict[str, Any] | None
    history: list[TransactionChange]


class Annotation(Struct):
    """What a person attaches to a transaction; null leaves a field as it is, an empty text takes it away."""

    note: str | None = None
    category: str | None = None
