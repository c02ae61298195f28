"""Details of the page Bills: why a payment seems to pay a bill, and a bill with its history and near misses."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QWidget

from engine.api import types, types_bills
from gui import icons, words
from gui.client.api import Query, path
from gui.desk import Desk
from gui.kit.boxes import Well, column, row
from gui.kit.button import Button
from gui.kit.columns import Cell, Column
from gui.kit.detail import Facts, Pane, clear
from gui.kit.table import Table
from gui.kit.text import Label
from gui.pages import bills_rows as rows

NEAR = 3


class _Side(Well):
    """One side of the question: a small label, a strong line, a sentence."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.first = Label("", "strong")
        self.second = Label("", "small", "text.secondary")
        layout = column(0, (11, 9, 11, 9))
        layout.addWidget(Label(label, "small", "text.muted"))
        layout.addWidget(self.first)
        layout.addWidget(self.second)
        self.setLayout(layout)


class MatchPane(Pane):
    """Is this your bill? ``decided`` carries the match's id and the decision."""

    decided = Signal(str, str)

    def __init__(self, desk: Desk) -> None:
        super().__init__("Bill match")
        self._desk = desk
        self.match: types_bills.Match | None = None
        self.monogram.hide()
        self.chip.hide()
        self.payment, self.bill = _Side("Payment"), _Side("Bill")
        self.acts.setSpacing(12)
        self.acts.addWidget(self.payment, 1)
        self.acts.addWidget(self.bill, 1)
        self.score = Label("", "control", shrink=False)
        why = self.section("Why", self.score)
        self.reasons = rows.reasons("Reasons")
        why.addWidget(self.reasons)
        self._others_box = QWidget()
        others = column(4)
        others.addWidget(Label("Also weighed", "label", "text.muted"))
        self.others = Table(
            [Column("", 0, _other), Column("", 104, _other_amount, right=True)], 44, "Other payments that were weighed",
            lambda other: other.description, tip_of=_why_not,
        )  # fmt: skip
        others.addWidget(self.others)
        self._others_box.setLayout(others)
        self.section(rule=False).addWidget(self._others_box)
        self.confirm = Button("Confirm", "check", "filled", key="C")
        self.reject = Button("Reject", key="X")
        self.undo = Button("Undo", "undo")
        for name, button in (("confirm", self.confirm), ("reject", self.reject), ("undo", self.undo)):
            button.clicked.connect(lambda _=False, name=name: self._decide(name))
            self.foot.addWidget(button)
        self.foot.addStretch(1)
        self.show_foot()

    def open(self, match: types_bills.Match) -> None:
        """Show a match."""
        self.match = match
        said, _, _ = rows.MATCH[match.state]
        question = match.state in {"suggested", "auto"}
        self.title.say(f"Is this your {match.bill} bill?" if question else match.bill)
        self.subtitle.say(said)
        self.payment.first.say(match.description)
        amount = words.money(match.amount, match.currency)
        self.payment.second.say(f"{amount} · {words.day(match.date)} · {match.institution}")
        self.bill.first.say(match.bill)
        self.bill.second.say(f"due {words.day(match.period)}")
        self.score.say(f"{rows.percent(match.score)} sure")
        self.reasons.show_rows(match.evidence)
        self.others.show_rows(match.others[:NEAR])
        self._others_box.setVisible(bool(match.others))
        self.link_changed()

    def link_changed(self) -> None:
        """What can be done changed."""
        match = self.match
        if match is None:
            return
        may, reason = self._desk.may()
        open_ = match.state in {"suggested", "auto"}
        self.confirm.setVisible(open_)
        self.reject.setVisible(open_)
        self.undo.setVisible(not open_)
        for button in (self.confirm, self.reject, self.undo):
            button.allow(may, reason)

    def _decide(self, decision: str) -> None:
        if self.match is not None:
            self.decided.emit(self.match.id, decision)


class BillPane(Pane):
    """One bill: what is due, what paid it, and for an open period the nearest payments and why not."""

    changed = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__("Bill")
        self._desk = desk
        self.query = Query(desk.client, types_bills.BillDetail, "", self)
        self.query.arrived.connect(self._show)
        self.monogram.hide()
        self.chip.hide()
        self.facts = Facts()
        self.section().addWidget(self.facts)
        self._near, near = self.part("Nearest payments, and why they did not match")
        self._near_layout = column(8)
        near.addLayout(self._near_layout)
        self._near.hide()
        self._past, past = self.part("Payments")
        self.past = Table(
            [Column("", 0, _paid_by), Column("", 110, _paid_amount, right=True)], 44, "Payments of this bill",
            rows.match_sentence, tip_of=lambda match: rows.MATCH[match.state][0],
        )  # fmt: skip
        past.addWidget(self.past)

    def open(self, bill: types_bills.Bill) -> None:
        """Show a bill: what the list knows at once, the rest when it comes."""
        self._show_bill(bill)
        self.query.ask(path("bills", bill.id))

    def refresh(self) -> None:
        """Fetch it again."""
        if self.query.address:
            self.query.refresh()

    def _show_bill(self, bill: types_bills.Bill) -> None:
        self.title.say(bill.name)
        self.subtitle.say(f"{bill.cadence.replace('_', ' ')} · {rows.bill_words(bill)}")
        self.facts.tell("Usually", rows.usual(bill))
        self.facts.tell("Due", words.day(bill.due))
        paid = f"{words.money(bill.paid_amount, bill.currency)} · {words.day(bill.paid_on)}" if bill.paid_on else ""
        self.facts.tell("Paid", paid)
        self.facts.tell("Next due", words.day(bill.next_due))
        self.facts.tell("Category", (bill.category or "").replace("_", " ").lower())

    def _show(self, detail: types_bills.BillDetail) -> None:
        self._show_bill(detail.bill)
        self.past.show_rows(detail.history[:12])
        self._past.setVisible(bool(detail.history))
        clear(self._near_layout)
        near = detail.nearest[:NEAR]
        self._near.setVisible(bool(near))
        may, reason = self._desk.may()
        for candidate in near:
            head = row(8)
            head.addWidget(Label(candidate.description, "control"), 1)
            amount = f"{words.money(candidate.amount, candidate.currency)} · {words.day(candidate.date)}"
            head.addWidget(Label(amount, "small", "text.secondary", shrink=False))
            assign = Button("Assign", small=True, name=f"Assign {candidate.description} to {detail.bill.name}")
            assign.allow(may, reason)
            assign.clicked.connect(lambda _=False, c=candidate: self._assign(detail.bill, c))
            head.addWidget(assign, 0, Qt.AlignmentFlag.AlignVCenter)
            self._near_layout.addLayout(head)
            table = rows.reasons(f"Why {candidate.description} did not match")
            table.show_rows(candidate.evidence)
            self._near_layout.addWidget(table)

    def _assign(self, bill: types_bills.Bill, candidate: types_bills.Candidate) -> None:
        def worked(answer: types.Done) -> None:
            self.changed.emit()
            self.refresh()

        body = types_bills.MatchAssign(bill_id=bill.id, transaction_id=candidate.transaction_id, period=bill.due or "")
        self._desk.act("POST", path("matches"), body, done=worked)


def _other(cell: Cell, other: types_bills.Candidate) -> None:
    cell.two(other.description, _why_not(other))


def _other_amount(cell: Cell, other: types_bills.Candidate) -> None:
    cell.two(words.money(other.amount, other.currency), words.day(other.date), right=True)


def _why_not(other: types_bills.Candidate) -> str:
    return " ".join(reason.text for reason in other.evidence if not reason.fits)


def _paid_by(cell: Cell, match: types_bills.Match) -> None:
    said, icon, tone = rows.MATCH[match.state]
    box = cell.rect
    icons.draw(cell.painter, icon, cell.theme.color(f"state.{tone}.solid"), box.x(), box.center().y() - 8, 16)
    Cell(cell.painter, cell.theme, box.adjusted(28, 0, 0, 0)).two(match.description, said)


def _paid_amount(cell: Cell, match: types_bills.Match) -> None:
    cell.two(words.money(match.amount, match.currency), f"for {words.day(match.period)}", right=True)
