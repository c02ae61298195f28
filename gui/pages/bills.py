"""Bills: matches to review with their reasons, what was decided, and every bill with what is due."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QStackedWidget, QWidget

from engine.api import types, types_bills
from gui import words
from gui.client.api import Failure, Query, path
from gui.desk import Desk
from gui.kit.boxes import Fill, column, row
from gui.kit.choices import Tabs
from gui.kit.columns import Head, RowButton
from gui.kit.listview import List
from gui.kit.text import Label
from gui.models.paged import Paged
from gui.pages import bills_rows as rows
from gui.pages.base import Listing, ListPage, explain
from gui.pages.bills_detail import BillPane, MatchPane

TABS = [
    ("suggested", "Review", ""),
    ("auto", "Tagged", ""),
    ("confirmed", "Confirmed", ""),
    ("rejected", "Rejected", ""),
    ("bills", "Bills", ""),
    ("archived", "Archived", ""),
]
EMPTY = {
    "suggested": ("Nothing to review", "Payments that seem to pay a bill, but not surely, wait here."),
    "auto": ("Nothing tagged yet", "Payments that surely pay a bill are tagged by themselves."),
    "confirmed": ("Nothing confirmed yet", "Matches that you confirmed are kept here, and can be undone."),
    "rejected": ("Nothing rejected", "Matches that you rejected are kept here, and can be undone."),
    "bills": ("No bill yet", "Bills that you import show here with what is due: syncdeskctl bills import FILE.csv."),
    "archived": ("Nothing archived", "Bills that are put away are kept here."),
}


class BillsPage(ListPage):
    """Review first."""

    key = "bills"
    title = "Bills"
    topics = frozenset({"bills", "runs", "hello", "time"})

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.tabs = Tabs(TABS)
        self.matches = Paged(
            desk.client, types_bills.MatchPage, self._matches_at, lambda page: page.matches, lambda match: match.id,
            rows.match_sentence, self,
        )  # fmt: skip
        self.bills = Paged(
            desk.client, types_bills.BillPage, self._bills_at, lambda page: page.bills, lambda bill: bill.id,
            rows.bill_sentence, self,
        )  # fmt: skip
        self.match_list = List(self.matches, rows.matches(), "Matches")
        self.bill_list = List(self.bills, rows.bills(), "Bills")
        self.review = Listing(self.match_list, Head(rows.MATCHES))
        self.all = Listing(self.bill_list, Head(rows.BILLS))
        self.sums = Query(desk.client, types_bills.BillPage, path("bills", state="overdue", limit=3), self)
        self.match_pane, self.bill_pane = MatchPane(desk), BillPane(desk)
        self._panes = QStackedWidget()
        self._panes.addWidget(self.match_pane)
        self._panes.addWidget(self.bill_pane)
        self._counts: dict[str, int] = {}
        self._bill_counts: dict[str, int] = {}
        self.stats = {name: _Stat(label) for name, label in (("paid", "Paid"), ("due", "Due"), ("late", "Late"))}
        self._arrange()
        self._wire()

    def _arrange(self) -> None:
        strip = Fill("bg.surface", "b")
        line = row(0, (0, 0, 0, 1))
        for stat in self.stats.values():
            line.addWidget(stat, 1)
        strip.setLayout(line)
        self._stack = QStackedWidget()
        self._stack.addWidget(self.review)
        self._stack.addWidget(self.all)
        self.top.addWidget(self.tabs)
        self.master.addWidget(strip)
        self.master.addWidget(self._stack, 1)
        self.set_pane(self._panes)
        self.fact.say("J next, K back, C confirm, X reject")

    def _wire(self) -> None:
        self.tabs.chosen.connect(lambda _key: self._restart())
        self.sums.arrived.connect(self._show_sums)
        lists = ((self.matches, self.match_list, self.review), (self.bills, self.bill_list, self.all))
        for model, view, listing in lists:
            model.answered.connect(self._page_came)
            model.failed.connect(self._cannot)
            model.waiting.connect(listing.show_waiting)
            model.holding = view.reading
            listing.news.link.clicked.connect(lambda _=False, model=model: model.refresh(release=True))
            view.left.connect(self.close_detail)
        self.match_list.opened.connect(self._open_match)
        self.match_list.pressed.connect(self._decide)
        self.match_list.set_menu(self._menu)
        self.bill_list.opened.connect(self._open_bill)
        self.match_pane.decided.connect(self._decide)
        self.bill_pane.changed.connect(lambda: self.bills.refresh(release=True))
        for pane in (self.match_pane, self.bill_pane):
            pane.closed.connect(self.close_detail)
        self._key("J", lambda: self.match_list.step(1))
        self._key("K", lambda: self.match_list.step(-1))
        self._key("C", lambda: self._decide_current("confirm"))
        self._key("X", lambda: self._decide_current("reject"))

    def _key(self, keys: str, act: Callable[[], object]) -> None:
        shortcut = QShortcut(QKeySequence(keys), self.match_list)
        shortcut.setContext(Qt.ShortcutContext.WidgetShortcut)
        shortcut.activated.connect(act)

    def focus_areas(self) -> Sequence[QWidget]:
        return (self.match_list, self.bill_list, self.match_pane.confirm)

    # ------------------------------------------------------------ what is shown

    @property
    def _reviewing(self) -> bool:
        return self.tabs.current not in {"bills", "archived"}

    @property
    def _model(self) -> Paged:
        return self.matches if self._reviewing else self.bills

    def _matches_at(self, after: str | None, limit: int) -> str:
        return path("bills", "review", state=self.tabs.current, after=after, limit=limit)

    def _bills_at(self, after: str | None, limit: int) -> str:
        state = "archived" if self.tabs.current == "archived" else ""
        return path("bills", state=state, after=after, limit=limit)

    def refresh(self) -> None:
        if not self.desk.connected:
            return
        if not self._model.loaded:
            (self.match_list if self._reviewing else self.bill_list).wait()
        self._model.refresh()
        self.sums.refresh()
        if self.detail_open() and not self._reviewing:
            self.bill_pane.refresh()

    def _restart(self) -> None:
        self.close_detail()
        self._stack.setCurrentIndex(0 if self._reviewing else 1)
        self._panes.setCurrentWidget(self.match_pane if self._reviewing else self.bill_pane)
        (self.review if self._reviewing else self.all).show_empty(False)
        (self.match_list if self._reviewing else self.bill_list).wait()
        self._model.restart()
        self.fact.say("J next, K back, C confirm, X reject" if self._reviewing else "")

    def link_changed(self) -> None:
        self.match_pane.link_changed()

    def open_target(self, target: str) -> None:
        """A tab's name, or a bill's id."""
        if any(target == key for key, _, _ in TABS):
            self.tabs.choose(target)
        else:
            self.tabs.choose("bills")
            self._panes.setCurrentWidget(self.bill_pane)
            self.bill_pane.query.ask(path("bills", target))
            self.show_detail()

    def _page_came(self, page: types_bills.MatchPage | types_bills.BillPage) -> None:
        self.match_list.ready()
        self.bill_list.ready()
        if isinstance(page, types_bills.MatchPage):
            states = ("suggested", "auto", "confirmed", "rejected")
            self._counts = {state: page.counts.get(state, 0) for state in states}
            self._tell_counts()
            current = self.match_list.current_key()
            found = self.matches.get(current) if current else None
            if found is not None and self.detail_open():
                self.match_pane.open(found)
        number = len(self._model.rows)
        listing = self.review if self._reviewing else self.all
        listing.show_empty(number == 0)
        icon = "state-done" if self._reviewing else "nav-bills"
        listing.empty.tell(icon, *EMPTY[self.tabs.current])
        more = "" if self._model.complete else "+"
        kind = "suggestion" if self.tabs.current == "suggested" else "match" if self._reviewing else "bill"
        many = {"match": "matches"}.get(kind, f"{kind}s")
        self.counts.say(f"{words.count(number)}{more} {kind if number == 1 else many}")

    def _tell_counts(self) -> None:
        self.tabs.set_counts(self._counts | self._bill_counts)

    def _show_sums(self, page: types_bills.BillPage) -> None:
        counts = page.counts
        every = sum(number for state, number in counts.items() if state != "archived")
        self._bill_counts = {"bills": every, "archived": counts.get("archived", 0)}
        self._tell_counts()
        self.stats["paid"].tell(f"{counts.get('paid', 0)} of {every}", "this period")
        self.stats["due"].tell(words.count(counts.get("due", 0)), "")
        late = counts.get("overdue", 0)
        names = ", ".join(bill.name for bill in page.bills)
        self.stats["late"].tell(words.count(late), names, "state.warn.text" if late else "text.primary")

    def _cannot(self, failure: Failure) -> None:
        self.match_list.ready()
        self.bill_list.ready()
        self.counts.say(explain(failure))

    def _open_match(self, key: str) -> None:
        match = self.matches.get(key)
        if match is not None:
            self._panes.setCurrentWidget(self.match_pane)
            self.match_pane.open(match)
            self.show_detail()

    def _open_bill(self, key: str) -> None:
        bill = self.bills.get(key)
        if bill is not None:
            self._panes.setCurrentWidget(self.bill_pane)
            self.bill_pane.open(bill)
            self.show_detail()

    # ------------------------------------------------------------ decisions

    def _menu(self, match: types_bills.Match) -> Sequence[RowButton]:
        may = self.desk.may()[0]
        labels = {"confirm": "Confirm", "reject": "Reject", "undo": "Undo"}
        return [RowButton(button.name, labels[button.name], enabled=may) for button in rows.match_buttons(match)]

    def _decide_current(self, decision: str) -> None:
        match = self.matches.get(self.match_list.current_key())
        if match is not None and any(button.name == decision for button in rows.match_buttons(match)):
            self._decide(match.id, decision)

    def _decide(self, match_id: str, decision: str) -> None:
        match = self.matches.get(match_id) or self.match_pane.match
        may, reason = self.desk.may()
        if not may or match is None:
            self.desk.say(reason or "This match changed meanwhile.")
            return

        def worked(_answer: types.Done) -> None:
            if self.match_list.current_key() == match_id:
                self._next_after(match_id)
            self.matches.refresh(release=True)

        def refused(_failure: Failure) -> None:
            self.matches.refresh(release=True)

        undo = None if decision == "undo" else lambda: self._undo(match_id)
        body = {"version": match.version} if match.id == match_id else {}
        self.desk.act("POST", path("matches", match_id, decision), body, done=worked, failed=refused, undo=undo)

    def _undo(self, match_id: str) -> None:
        released = lambda _answer: self.matches.refresh(release=True)  # noqa: E731
        self.desk.act("POST", path("matches", match_id, "undo"), {}, done=released)

    def _next_after(self, match_id: str) -> None:
        """Go on with the next match, so that a list can be reviewed without the mouse."""
        place = self.matches.find(match_id)
        if place + 1 < self.matches.rowCount():
            self.match_list.step(1)
        elif place > 0:
            self.match_list.step(-1)
        else:
            self.close_detail()


class _Stat(Fill):
    """A figure over the list."""

    def __init__(self, label: str) -> None:
        super().__init__("bg.surface", "r", "border.subtle")
        self._label = label
        self.value = Label("", "title", shrink=False)
        self.more = Label("", "small", "text.secondary")
        line = row(8)
        line.addWidget(self.value)
        line.addWidget(self.more, 1, Qt.AlignmentFlag.AlignBottom)
        layout = column(0, (24, 12, 16, 11))
        layout.addWidget(Label(label, "small", "text.muted"))
        layout.addLayout(line)
        self.setLayout(layout)

    def tell(self, value: str, more: str, tone: str = "text.primary") -> None:
        """Change the figure."""
        self.value.say(value, tone)
        self.more.say(more)
        self.setAccessibleName(f"{self._label}: {value} {more}".strip())
