"""Bank links with their accounts, runs and rows set aside, in the manner of `engine.api.types`."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

ItemState = Literal[
    "healthy", "syncing", "first_data", "bank_trouble", "needs_you", "expiring", "paused", "error", "removed"
]


class Item(Struct):
    id: str
    plaid_item_id: str
    user_id: str
    user: str
    institution_id: str | None
    institution: str
    label: str
    state: ItemState
    state_code: str | None
    title: str
    sentence: str
    action: str | None
    accounts: int
    transactions: int
    last_success_at: str | None
    newest_data_at: str | None
    next_sync_at: str | None
    lag_s: float | None
    progress: int | None = None


class ItemPage(Struct):
    items: list[Item]
    counts: dict[str, int]
    next: str | None = None


class Run(Struct):
    id: str
    trigger: str
    started_at: str
    duration_ms: float | None
    state: Literal["running", "done", "failed", "abandoned"]
    pages: int
    added: int
    modified: int
    removed: int
    skipped: int
    tagged: int
    error_code: str | None = None
    correlation_id: str = ""


class Account(Struct):
    """Two clocks: ``last_success_at`` is ours (null where it is closed), ``newest_data_at`` the bank's.

    ``silent_since``: without news for longer than is usual for it. ``replaced_by``: the account that took its place.
    """

    id: str
    name: str
    mask: str | None
    type: str
    currency: str | None
    balance: str | None
    newest_data_at: str | None
    last_success_at: str | None = None
    silent_since: str | None = None
    closed_at: str | None = None
    replaced_by: str | None = None


class SetAside(Struct):
    """A row that the database or its reader refused. ``reason`` is for programs, ``sentence`` for people."""

    id: str
    transaction_id: str | None
    reason: str
    sentence: str
    at: str
    tries: int = 0
    tried_at: str | None = None


class SetAsidePage(Struct):
    rows: list[SetAside]
    total: int
    next: str | None = None


class TryAgain(Struct):
    """``ids`` of rows that were set aside; null: all of the bank."""

    ids: list[str] | None = None


class ItemDetail(Struct):
    item: Item
    accounts: list[Account]
    runs: list[Run]
    removes: str
    set_aside: SetAsidePage | None = None


class LinkState(Struct):
    """``GET /api/items/link/{session}``: where a hosted link session stands."""

    session: str
    state: Literal["waiting", "done", "gave_up", "expired"]
    message: str
    ids: list[str] = field(default_factory=list)


class LinkStart(Struct):
    """``POST /api/items/link`` without a token: the page to open and the session to follow."""

    session: str
    url: str


class SyncRequest(Struct):
    item_id: str | None = None
    all: bool = False


class LinkRequest(Struct):
    public_token: str | None = None
    user: str | None = None
    item_id: str | None = None
