"""Webhooks: what came, who vouched for it, what came of it; a stored one can be sent through once more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QWidget

from engine.api.types_webhooks import Webhook, WebhookPage
from gui import words
from gui.client.api import Failure, path
from gui.desk import Desk
from gui.kit.choices import Tabs
from gui.kit.columns import Head, Layout, RowButton
from gui.kit.field import SearchField
from gui.kit.listview import List
from gui.models.paged import Paged
from gui.pages import webhooks_rows as rows
from gui.pages.base import Listing, ListPage, Tools, explain
from gui.pages.webhooks_detail import NEVER, WebhookPane

TABS = [
    ("all", "All", ""),
    ("processed", "Processed", ""),
    ("received", "Waiting", ""),
    ("refused", "Refused", ""),
    ("duplicate", "Duplicates", ""),
    ("unhandled", "Not handled", ""),
    ("failed", "Failed", ""),
]
EMPTY = {
    "all": ("None yet", "Plaid needs an address it can reach. Without one, backup runs fetch everything."),
    "processed": ("None processed yet", "A webhook shows here once it had its effect."),
    "received": ("None waits", "Each one was processed as it came."),
    "refused": ("None refused", "Every message that came was vouched for."),
    "duplicate": ("No duplicates", "Plaid has sent nothing twice."),
    "unhandled": ("None left over", "Every message was one that Syncdesk knows."),
    "failed": ("None failed", "Every message that was tried went through."),
}


class WebhooksPage(ListPage):
    """The inbox, newest first."""

    key = "webhooks"
    title = "Webhooks"
    # Nothing is told when a webhook comes; most begin a job, and the others are found as time goes by.
    topics = frozenset({"webhooks", "jobs", "items", "hello", "time"})

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.tabs = Tabs(TABS)
        self.search = SearchField("Bank, code, id", "Search webhooks")
        self.webhooks = Paged(
            desk.client,
            WebhookPage,
            self._address,
            lambda page: page.webhooks,
            lambda webhook: webhook.id,
            rows.sentence,
            self,
        )
        layout = Layout(lambda _row: rows.columns(self.view.viewport().width()), lambda _row: 52)
        self.view = List(self.webhooks, layout, "Webhooks")
        self.listing = Listing(self.view, Head(rows.columns))
        self.pane = WebhookPane(desk)
        self._typed = QTimer(self)
        self._typed.setSingleShot(True)
        self._typed.setInterval(250)
        tools = Tools()
        tools.line.addWidget(self.search, 1)
        self.top.addWidget(self.tabs)
        self.master.addWidget(tools)
        self.master.addWidget(self.listing, 1)
        self.set_pane(self.pane)
        self.fact.say("Newest first")
        self._wire()

    def _wire(self) -> None:
        self.tabs.chosen.connect(lambda _key: self._restart())
        self.search.textChanged.connect(lambda _text: self._typed.start())
        self._typed.timeout.connect(self._restart)
        self.webhooks.answered.connect(self._page_came)
        self.webhooks.failed.connect(self._cannot)
        self.webhooks.waiting.connect(self.listing.show_waiting)
        self.webhooks.holding = self.view.reading
        self.listing.news.link.clicked.connect(self._bring_in)
        self.listing.empty.acted.connect(self.search.clear)
        self.view.opened.connect(self._open)
        self.view.left.connect(self.close_detail)
        self.view.pressed.connect(lambda key, _action: self._replay(key))
        self.view.set_menu(self._menu)
        self.pane.done.connect(self._bring_in)
        self._key(self.view, "R", lambda: self._replay(self.view.current_key()))
        self._key(self.view, "Home", self._bring_in)
        for keys in ("/", "Ctrl+F"):
            self._key(self, keys, lambda: self.search.setFocus(Qt.FocusReason.ShortcutFocusReason))

    def _key(self, where: QWidget, keys: str, act: Callable[[], object]) -> None:
        shortcut = QShortcut(QKeySequence(keys), where)
        within = where is self
        context = Qt.ShortcutContext
        shortcut.setContext(context.WidgetWithChildrenShortcut if within else context.WidgetShortcut)
        shortcut.activated.connect(act)

    def focus_areas(self) -> Sequence[QWidget]:
        return (self.view, self.pane.copy)

    def refresh(self) -> None:
        if not self.desk.connected:
            return
        if not self.webhooks.loaded:
            self.view.wait()
        self.webhooks.refresh()
        if self.detail_open():
            self.pane.refresh()

    def link_changed(self) -> None:
        self.pane.link_changed()

    def open_target(self, target: str) -> None:
        """A state's tab, or a webhook's id."""
        if any(target == key for key, _, _ in TABS):
            self.tabs.choose(target)
        else:
            self.pane.open_id(target)
            self.show_detail()

    def escape(self) -> bool:
        if super().escape():
            return True
        cleared = bool(self.search.text())
        self.search.clear()
        return cleared

    def _address(self, after: str | None, limit: int) -> str:
        state = "" if self.tabs.current == "all" else self.tabs.current
        return path("webhooks", state=state, q=self.search.text().strip(), after=after, limit=limit)

    def _restart(self) -> None:
        self.listing.show_empty(False)
        self.view.wait()
        self.webhooks.restart()

    def _bring_in(self) -> None:
        self.view.scrollToTop()
        self.webhooks.refresh(release=True)

    def _open(self, key: str) -> None:
        webhook: Webhook | None = self.webhooks.get(key)
        if webhook is not None:
            self.pane.open(webhook)
            self.show_detail()

    def _menu(self, webhook: Webhook) -> Sequence[RowButton]:
        may = self.desk.may()[0] and webhook.state not in NEVER
        return [RowButton("replay", "Replay", enabled=may)]

    def _replay(self, key: str) -> None:
        webhook: Webhook | None = self.webhooks.get(key)
        if webhook is None:
            return
        may, reason = self.desk.may()
        never = NEVER.get(webhook.state, "")
        if may and not never:
            self.pane.send(webhook.id)
        else:
            self.desk.say(reason or never)

    def _page_came(self, _page: WebhookPage) -> None:
        self.view.ready()
        number = len(self.webhooks.rows)
        asked = self.search.text().strip()
        self.listing.show_empty(number == 0)
        if number == 0 and asked:
            self.listing.empty.tell("search", "Nothing matches", f"No webhook matches {asked}.", "Clear the filter")
        elif number == 0:
            self.listing.empty.tell("nav-webhooks", *EMPTY[self.tabs.current])
        more = "" if self.webhooks.complete else "+"
        self.counts.say(f"{words.count(number)}{more} {'webhook' if number == 1 and not more else 'webhooks'}")

    def _cannot(self, failure: Failure) -> None:
        self.view.ready()
        self.counts.say(explain(failure))
