"""Rows of the page Bills: matches to review with their reasons, and bills with what was due."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QRectF

from engine.api import types_bills
from gui import icons, paint, words
from gui.kit.columns import Cell, Column, Layout, RowButton
from gui.kit.table import Table

SHORT = {"amount": "Amount", "name": "Name", "category": "Category", "date": "Day", "account": "Account"}
SHORT |= {"currency": "Currency", "rejected": "Rejected before", "taken": "Pays another"}
FITS = {
    "amount": "The amount fits",
    "name": "The name fits",
    "category": "The category fits",
    "date": "It came when the bill is due",
    "account": "Same account as before",
    "currency": "The currency fits",
}
NOT = {
    "amount": "The amount is unusual",
    "name": "The name does not say it",
    "category": "The category is another one",
    "date": "It came at another time",
    "account": "Another account than before",
    "currency": "Another currency",
    "rejected": "You rejected this before",
    "taken": "It pays another bill",
}
MATCH = {
    "suggested": ("Suggested, not tagged yet", "state-waiting", "idle"),
    "auto": ("Tagged by Syncdesk", "state-done", "ok"),
    "confirmed": ("Confirmed by you", "state-done", "ok"),
    "rejected": ("Rejected by you", "state-discarded", "idle"),
    "assigned": ("Assigned by you", "state-done", "ok"),
}
STATES: dict[str, dict[str, object]] = {
    "paid": {"icon": "state-done", "tone": "ok", "fill": False, "label": "Paid"},
    "due": {"icon": "state-delayed", "tone": "idle", "fill": False, "label": "Due"},
    "overdue": {"icon": "state-degraded", "tone": "warn", "fill": True, "label": "Late"},
    "upcoming": {"icon": "state-waiting", "tone": "idle", "fill": False, "label": "Upcoming"},
    "ended": {"icon": "state-removed", "tone": "idle", "fill": False, "label": "Ended"},
}


def percent(score: float) -> str:
    """How sure, as a whole percentage."""
    return f"{round(score * 100)} %"


def match_sentence(match: types_bills.Match) -> str:
    """A match as one sentence."""
    amount = words.money(match.amount, match.currency)
    paid = f"{match.description}, {amount}, {words.day(match.date)}"
    return f"{paid}, seems to pay {match.bill}, {percent(match.score)} sure"


def bill_sentence(bill: types_bills.Bill) -> str:
    """A bill as one sentence."""
    return f"{bill.name}, {usual(bill)}, {bill_words(bill)}, due {words.day(bill.due)}"


def usual(bill: types_bills.Bill) -> str:
    """What it usually costs."""
    if bill.amount is not None:
        return words.money(bill.amount, bill.currency)
    if bill.amount_min is not None and bill.amount_max is not None:
        return f"{words.money(bill.amount_min, bill.currency)} to {words.money(bill.amount_max, bill.currency)}"
    return "any amount"


def bill_words(bill: types_bills.Bill) -> str:
    """The state of its current period, with days where they matter."""
    if bill.state == "overdue" and bill.days_late:
        return f"{words.plural(bill.days_late, 'day')} late"
    days = words.days_from_now(bill.due)
    if bill.state in {"due", "upcoming"} and days is not None:
        if days == 0:
            return "Due today"
        return f"Due in {words.plural(days, 'day')}" if days > 0 else "Due"
    return str(STATES[bill.state]["label"])


# ---------------------------------------------------------------- matches


def _payment(cell: Cell, match: types_bills.Match) -> None:
    cell.two(match.description, f"{words.money(match.amount, match.currency)} · {words.day(match.date)}")


def _arrow(cell: Cell, _match: types_bills.Match) -> None:
    icons.draw(
        cell.painter, "arrow-right", cell.theme.color("text.muted"), cell.rect.x(), cell.rect.center().y() - 8, 16
    )


def glyph(evidence: types_bills.Evidence) -> tuple[str, str]:
    """Drawing and tone of a reason: speaks for it, against it, or hardly matters."""
    if evidence.fits:
        return "check", "ok"
    return (
        ("close", "warn") if evidence.weight >= 0.1 or evidence.feature in {"rejected", "taken"} else ("minus", "idle")
    )


def _bill(cell: Cell, match: types_bills.Match) -> None:
    painter, theme, box = cell.painter, cell.theme, cell.rect
    middle = box.center().y()
    upper = QRectF(box.x(), middle - 29, box.width(), 20)
    paint.text(painter, theme, upper, match.bill, "control")
    said = f"due {words.day(match.period)}"
    paint.text(painter, theme, QRectF(box.x(), middle - 9, box.width(), 16), said, "small", "text.muted")
    at = box.x()
    if cell.stale:
        paint.tag(painter, theme, at, middle + 19, "changed")
        return
    for reason in match.evidence:
        label = SHORT.get(reason.feature, reason.feature)
        wide = 15 + theme.metrics("label").horizontalAdvance(label)
        if at + wide > box.right():
            break
        icon, tone = glyph(reason)
        icons.draw(painter, icon, theme.color(f"state.{tone}.solid"), at, middle + 13, 12)
        room = QRectF(at + 15, middle + 9, wide, 20)
        paint.text(painter, theme, room, label, "label", "text.secondary")
        at += wide + 12


def _sure(cell: Cell, match: types_bills.Match) -> None:
    said = percent(match.score)
    cell.text(said, "control", right=True)
    bar = QRectF(cell.rect.right() - 98, cell.rect.center().y() - 3, 56, 6)
    paint.meter(cell.painter, cell.theme, bar, match.score)


def match_buttons(match: Any) -> Sequence[RowButton]:
    """What can be decided of a match in its row."""
    if match.state in {"suggested", "auto"}:
        return [RowButton("confirm", icon="check"), RowButton("reject", icon="close", kind="plain")]
    return [RowButton("undo", "Undo")]


MATCHES = [
    Column("Payment", 188, _payment),
    Column("", 32, _arrow),
    Column("Seems to pay", 0, _bill),
    Column("Sure", 128, _sure, right=True, sorted=True),
    Column("", 94, None, right=True, buttons=match_buttons),
]


def matches() -> Layout:
    """How the review list looks."""
    return Layout(lambda _row: MATCHES, lambda _row: 80)


# ---------------------------------------------------------------- bills


def _name(cell: Cell, bill: types_bills.Bill) -> None:
    cell.two(bill.name, bill.cadence.replace("_", " "))


def _state(cell: Cell, bill: types_bills.Bill) -> None:
    middle = cell.rect.center().y()
    paint.chip(cell.painter, cell.theme, cell.rect.x(), middle, STATES[bill.state], bill_words(bill), cell.rect.width())


def _due(cell: Cell, bill: types_bills.Bill) -> None:
    cell.text(words.day(bill.due), "body", "text.secondary", right=True)


def _paid(cell: Cell, bill: types_bills.Bill) -> None:
    if bill.paid_on:
        cell.two(words.money(bill.paid_amount, bill.currency), words.day(bill.paid_on), right=True)
    else:
        cell.text("not yet", "body", "text.muted", right=True)


def _usual(cell: Cell, bill: types_bills.Bill) -> None:
    cell.text(usual(bill), right=True)


BILLS = [
    Column("Bill", 0, _name),
    Column("State", 136, _state),
    Column("Usually", 136, _usual, right=True),
    Column("Due", 80, _due, right=True),
    Column("Paid", 120, _paid, right=True),
]


def bills() -> Layout:
    """How the list of bills looks."""
    return Layout(lambda _row: BILLS, lambda _row: 52)


# ---------------------------------------------------------------- reasons


def _reason(cell: Cell, reason: types_bills.Evidence) -> None:
    painter, theme, box = cell.painter, cell.theme, cell.rect
    icon, tone = glyph(reason)
    icons.draw(painter, icon, theme.color(f"state.{tone}.solid"), box.x(), box.center().y() - 8, 16)
    title = (FITS if reason.fits else NOT).get(reason.feature, reason.feature)
    Cell(painter, theme, box.adjusted(28, 0, -76, 0)).two(title, reason.text)
    wide = max(3.0, min(64.0, reason.weight * 130))
    color = "chart.line" if reason.fits else "state.warn.solid" if tone == "warn" else "chart.line"
    bar = QRectF(box.right() - 64, box.center().y() - 3, wide, 6)
    paint.rounded(painter, bar, 3, theme.color(color))


def reasons(name: str) -> Table:
    """A table of reasons, 50 a row; the whole sentence is its tooltip."""
    return Table(
        [Column("", 0, _reason)], 50, name, lambda reason: reason.text, rules=False, tip_of=lambda reason: reason.text
    )
