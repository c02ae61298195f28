"""Rows of the page Banks, and the words of links and runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.api import types_banks
from gui import icons, paint, words
from gui import theme as themes
from gui.kit.columns import Cell, Column, Layout

TRIGGERS = {"manual": "you", "cron": "cron", "probe": "daily look"}
LATE_S = 3600.0


def name(item: types_banks.Item) -> str:
    """The bank, or what the person calls the link."""
    return item.institution or item.label or "A bank"


def state_words(item: types_banks.Item) -> str:
    """The state with what matters of it."""
    label = str(themes.current().state("item", item.state)["label"])
    if item.state == "syncing" and item.progress:
        return f"Syncing, {words.count(item.progress)} so far"
    return "Paused by you" if item.state == "paused" else label


def about(item: types_banks.Item) -> str:
    """Whose link it is and how many accounts it has."""
    return " · ".join(part for part in (item.user, words.plural(item.accounts, "account")) if part)


def sentence(item: types_banks.Item) -> str:
    """A row as one sentence."""
    return f"{name(item)}, {about(item)}, {state_words(item)}, last sync {words.ago(item.last_success_at)}"


def late(item: types_banks.Item) -> bool:
    """Whether our last success is longer ago than it should be."""
    age = words.age_s(item.last_success_at)
    return item.state not in {"paused", "removed", "first_data"} and (age or 0) > LATE_S


def result(run: types_banks.Run) -> str:
    """What a run brought, in few words."""
    if run.state == "running":
        return "running"
    if run.state in {"failed", "abandoned"}:
        return (run.error_code or "did not go through").replace("_", " ").lower()
    parts = [
        f"{words.count(number)} {word}"
        for number, word in (
            (run.added, "new"),
            (run.modified, "changed"),
            (run.removed, "removed"),
            (run.skipped, "set aside"),
        )
        if number
    ]
    if run.tagged:
        parts.append(words.plural(run.tagged, "bill"))
    return ", ".join(parts) or "nothing new"


def set_aside(found: types_banks.SetAsidePage) -> str:
    """How many rows of a bank were refused, and the reasons of the newest, each once."""
    reasons = dict.fromkeys(row.sentence for row in found.rows)
    shown = list(reasons)[:3]
    more = " And other reasons." if len(reasons) > len(shown) else ""
    are = "row was" if found.total == 1 else "rows were"
    return f"{words.count(found.total)} {are} not taken in; everything else was. {' '.join(shown)}{more}"


def silent(accounts: Sequence[types_banks.Account]) -> str:
    """Which open accounts had no news for longer than is usual for them; empty where none."""
    found = [account for account in accounts if account.silent_since and not account.closed_at]
    return " ".join(
        f"{account_name(account)} has had nothing new since {words.day(account.newest_data_at) or 'it was linked'},"
        " longer than is usual for it."
        for account in found
    )


def account_name(account: types_banks.Account) -> str:
    """An account as the bank calls it, with the end of its number."""
    return f"{account.name} ••{account.mask}" if account.mask else account.name


def _bank(cell: Cell, item: types_banks.Item) -> None:
    box = cell.rect
    paint.monogram(cell.painter, cell.theme, box.x(), box.center().y() - 12, 24, words.monogram(name(item)))
    Cell(cell.painter, cell.theme, box.adjusted(36, 0, 0, 0)).two(name(item), about(item))


def _health(cell: Cell, item: types_banks.Item) -> None:
    spec = cell.theme.state("item", item.state)
    words_ = "changed" if cell.stale else state_words(item)
    paint.chip(cell.painter, cell.theme, cell.rect.x(), cell.rect.center().y(), spec, words_, cell.rect.width())


def _last(cell: Cell, item: types_banks.Item) -> None:
    said = words.ago(item.last_success_at).removesuffix(" ago")
    if late(item):
        cell.text(said, "control", "state.warn.text", right=True)
    else:
        cell.text(said, "body", "text.secondary", right=True)


def _newest(cell: Cell, item: types_banks.Item) -> None:
    cell.text(words.day(item.newest_data_at) or "none yet", "body", "text.secondary", right=True)


COLUMNS = [
    Column("Bank", 0, _bank),
    Column("Health", 184, _health, sorted=True),
    Column("Our last sync", 104, _last, right=True),
    Column("Newest data", 108, _newest, right=True),
]


def layout() -> Layout:
    """How the list looks."""
    return Layout(lambda _row: COLUMNS, lambda _row: 52)


_RUN = {"done": ("state-done", "ok"), "running": ("state-running", "active")}


def _run_time(cell: Cell, run: types_banks.Run) -> None:
    recent = words.short_date(run.started_at) == "today"
    cell.text(words.time(run.started_at) if recent else words.short_date(run.started_at))


def _run_by(cell: Cell, run: types_banks.Run) -> None:
    cell.text(TRIGGERS.get(run.trigger, run.trigger), "body", "text.secondary")


def _run_result(cell: Cell, run: types_banks.Run) -> None:
    icon, tone = _RUN.get(run.state, ("state-failed", "error"))
    middle = cell.rect.center().y()
    icons.draw(cell.painter, icon, cell.theme.color(f"state.{tone}.solid"), cell.rect.x(), middle - 7, 14)
    paint.text(cell.painter, cell.theme, cell.rect.adjusted(20, 0, 0, 0), result(run))


def _run_took(cell: Cell, run: types_banks.Run) -> None:
    cell.text(words.duration(run.duration_ms), "body", "text.muted", right=True)


RUNS: list[Any] = [
    Column("", 64, _run_time),
    Column("", 84, _run_by),
    Column("", 0, _run_result),
    Column("", 64, _run_took, right=True),
]
