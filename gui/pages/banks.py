"""Banks: every link with its health and two clocks, broken ones first; sync now, followed to its end."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QWidget

from engine.api import types_banks
from gui import words
from gui.client.api import Failure, path
from gui.desk import Desk
from gui.kit.button import Button
from gui.kit.choices import Tabs
from gui.kit.columns import Head, RowButton
from gui.kit.listview import List
from gui.linking import Linking
from gui.models.paged import Paged
from gui.pages import banks_rows as rows
from gui.pages.banks_detail import BankPane
from gui.pages.base import Listing, ListPage, explain

TABS = [
    ("all", "All", ""),
    ("needs_you", "Needs you", "warn"),
    ("error", "Error", "error"),
    ("bank_trouble", "Trouble", ""),
    ("expiring", "Expiring", ""),
    ("syncing", "Syncing", ""),
    ("healthy", "Healthy", ""),
    ("paused", "Paused", ""),
]


class BanksPage(ListPage):
    """The list of bank links."""

    key = "banks"
    title = "Banks"
    topics = frozenset({"items", "runs", "hello", "time"})

    def __init__(self, desk: Desk, linking: Linking) -> None:
        super().__init__(desk)
        self._linking = linking
        self.sync_all = Button("Sync all", "state-syncing")
        self.sync_all.clicked.connect(lambda: desk.act("POST", path("sync"), types_banks.SyncRequest(all=True)))
        self.link = Button("Link a bank", "plus")
        self.link.clicked.connect(lambda: linking.begin(None))
        self.tabs = Tabs(TABS)
        self.items = Paged(
            desk.client,
            types_banks.ItemPage,
            self._address,
            lambda page: page.items,
            lambda item: item.id,
            rows.sentence,
            self,
        )
        self.view = List(self.items, rows.layout(), "Banks")
        self.listing = Listing(self.view, Head(rows.COLUMNS))
        self.pane = BankPane(desk, linking)
        self._followed: dict[str, str] = {}
        self.top.addWidget(self.tabs)
        self.master.addWidget(self.listing, 1)
        self.set_pane(self.pane)
        self._wire()
        self.link_changed()

    def _wire(self) -> None:
        self.tabs.chosen.connect(lambda _key: self._restart())
        self.items.answered.connect(self._page_came)
        self.items.failed.connect(self._cannot)
        self.items.waiting.connect(self.listing.show_waiting)
        self.items.holding = self.view.reading
        self.listing.news.link.clicked.connect(self._bring_in)
        self.listing.empty.acted.connect(lambda: self._linking.begin(None))
        self.view.opened.connect(self._open)
        self.view.left.connect(self.close_detail)
        self.view.pressed.connect(self._press)
        self.view.set_menu(self._menu)
        self.pane.synced.connect(self._follow)
        self.pane.done.connect(lambda: self.items.refresh(release=True))
        self._linking.ended.connect(lambda _words: self.refresh())
        home = QShortcut(QKeySequence("Home"), self.view)
        home.setContext(Qt.ShortcutContext.WidgetShortcut)
        home.activated.connect(self._bring_in)

    def buttons(self) -> Sequence[Button]:
        return (self.sync_all, self.link)

    def focus_areas(self) -> Sequence[QWidget]:
        return (self.view, self.pane.sync)

    def refresh(self) -> None:
        if not self.desk.connected:
            return
        if not self.items.loaded:
            self.view.wait()
        self.items.refresh()
        if self.detail_open():
            self.pane.refresh()
        for correlation in list(self._followed):
            self._look(correlation)

    def link_changed(self) -> None:
        may, reason = self.desk.may()
        self.sync_all.allow(may, reason)
        self.link.allow(may, reason)
        self.pane.link_changed()

    def open_target(self, target: str) -> None:
        """A state's tab, or an item's id."""
        if any(target == key for key, _, _ in TABS):
            self.tabs.choose(target)
        else:
            if self.items.find(target) >= 0:
                self.view.choose(target, tell=False)
            self.pane.open_id(target)
            self.show_detail()

    def sync_chosen(self) -> bool:
        """F5 on this page: sync the selected bank; False where none is."""
        if not self.detail_open() or self.pane.item is None:
            return False
        self.pane.sync_now()
        return True

    def _address(self, after: str | None, limit: int) -> str:
        state = "" if self.tabs.current == "all" else self.tabs.current
        return path("items", state=state, after=after, limit=limit)

    def _bring_in(self) -> None:
        self.view.scrollToTop()
        self.items.refresh(release=True)

    def _restart(self) -> None:
        self.listing.show_empty(False)
        self.view.wait()
        self.items.restart()

    def _open(self, key: str) -> None:
        item = self.items.get(key)
        if item is not None:
            self.pane.open(item)
            self.show_detail()

    def _menu(self, item: types_banks.Item) -> Sequence[RowButton]:
        may = self.desk.may()[0] and item.state not in {"paused", "removed", "needs_you"}
        return [RowButton("sync", "Sync now", enabled=may)]

    def _press(self, key: str, _action: str) -> None:
        self._open(key)
        self.pane.sync_now()

    def _page_came(self, page: types_banks.ItemPage) -> None:
        self.view.ready()
        counts = dict(page.counts)
        every = sum(number for state, number in counts.items() if state != "removed")
        self.tabs.set_counts({key: counts.get(key, 0) for key, _, _ in TABS} | {"all": every})
        number = len(self.items.rows)
        self.listing.show_empty(number == 0)
        if number == 0 and self.tabs.current == "all":
            said = "Link one, and its transactions arrive by themselves."
            self.listing.empty.tell("nav-banks", "No bank yet", said, "Link a bank")
        elif number == 0:
            self.listing.empty.tell("state-done", "None in this state", "Look at all banks under All.")
        accounts = sum(item.accounts for item in self.items.rows)
        transactions = sum(item.transactions for item in self.items.rows)
        parts = [words.plural(number, "bank"), words.plural(accounts, "account")]
        self.counts.say(", ".join([*parts, words.plural(transactions, "transaction")]))
        known = self.desk.known
        nxt = known.bank_data.next_run_at if known is not None else None
        self.fact.say(f"Next backup run {words.time(nxt)}" if nxt else "")

    def _cannot(self, failure: Failure) -> None:
        self.view.ready()
        self.counts.say(explain(failure))

    # ------------------------------------------------------------ a sync that was asked for

    def _follow(self, item_id: str, correlation: str) -> None:
        if correlation:
            self._followed[correlation] = item_id
            self._look(correlation)

    def _look(self, correlation: str) -> None:
        """Say how a sync ended once its run did."""

        def came(detail: types_banks.ItemDetail) -> None:
            run = next((run for run in detail.runs if run.correlation_id == correlation), None)
            if run is not None and run.state != "running" and self._followed.pop(correlation, ""):
                self.desk.say(f"{rows.name(detail.item)}: {rows.result(run)}")

        item_id = self._followed[correlation]
        self.desk.client.get(path("items", item_id), types_banks.ItemDetail, came, lambda _failure: None)
