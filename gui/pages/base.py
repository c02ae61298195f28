"""What a page is to the shell, and the frame of pages that are a list with a detail pane."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QScrollArea, QSplitter, QStackedWidget, QVBoxLayout, QWidget

from gui import theme as themes
from gui.client.api import Failure
from gui.desk import Desk
from gui.kit.boxes import Fill, column, row
from gui.kit.button import Button, Link
from gui.kit.choices import Tabs
from gui.kit.columns import Head
from gui.kit.detail import Pane
from gui.kit.listview import List
from gui.kit.notes import Empty
from gui.kit.text import Label

WIDE, WIDE_DETAIL = 1600, 480
"""From this width of the window the detail has so much of it."""


class Page(QWidget):
    """One page. The shell calls `refresh` when it is shown and when something of ``topics`` changed."""

    key = ""
    title = ""
    topics: frozenset[str] = frozenset()
    headed = Signal()
    """The buttons of the header changed their state."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.theme = themes.current()

    def buttons(self) -> Sequence[Button]:
        """What stands at the right of the header."""
        return ()

    def refresh(self) -> None:
        """Fetch what is shown."""

    def link_changed(self) -> None:
        """The engine came or went: what can be done changed."""

    def open_target(self, target: str) -> None:
        """Go to one thing of this page: an id, or the name of a tab."""

    def set_narrow(self, narrow: bool) -> None:
        """The window is below 1100 wide, or no longer."""

    def escape(self) -> bool:
        """Esc was pressed; True where something was closed."""
        return False

    def focus_areas(self) -> Sequence[QWidget]:
        """Where F6 goes within the page."""
        return ()


class CardPage(Page):
    """A page of cards on the canvas that scrolls as a whole."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.body: QVBoxLayout = column(16, (24, 16, 24, 24))
        self._canvas = Fill("bg.canvas")
        self._canvas.setLayout(self.body)
        self._scroll = QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setWidget(self._canvas)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        layout = column(0)
        layout.addWidget(self._scroll)
        self.setLayout(layout)

    def set_narrow(self, narrow: bool) -> None:
        """Less padding below 1100."""
        pad = self.theme.size("page.padding.narrow" if narrow else "page.padding")
        self.body.setContentsMargins(pad, 16, pad, pad)


class Listing(QWidget):
    """Head, list, "n new" strip, and what is said where the list is empty."""

    def __init__(self, view: List, head: Head | None) -> None:
        super().__init__()
        self.view, self.head = view, head
        self.empty = Empty()
        self.news = _News()
        self.news.hide()
        self._stack = QStackedWidget()
        self._stack.addWidget(view)
        self._stack.addWidget(self.empty)
        layout = column(0)
        layout.addWidget(self.news)
        if head is not None:
            head.over = view
            layout.addWidget(head)
        layout.addWidget(self._stack, 1)
        self.setLayout(layout)

    def show_empty(self, empty: bool) -> None:
        """Say that there is nothing, or show the list."""
        self._stack.setCurrentIndex(1 if empty else 0)

    def is_empty(self) -> bool:
        """Whether the empty state is shown."""
        return self._stack.currentIndex() == 1

    def show_waiting(self, number: int) -> None:
        """How many new rows wait until the reader is done."""
        self.news.link.setText(f"{number} new")
        self.news.link.setAccessibleName(f"Show {number} new rows")
        self.news.link.updateGeometry()
        self.news.setVisible(number > 0)


class Tools(Fill):
    """The line of filters over a list, 48 high."""

    def __init__(self) -> None:
        super().__init__("bg.surface", "b")
        self.setFixedHeight(themes.current().size("toolbar"))
        self.line = row(8, (24, 0, 24, 1))
        self.setLayout(self.line)

    def set_edge(self, pad: int) -> None:
        """Room at both sides."""
        self.line.setContentsMargins(pad, 0, pad, 1)


class _News(Fill):
    def __init__(self) -> None:
        super().__init__("bg.subtle", "b", "border.subtle")
        self.link = Link("")
        self.setFixedHeight(32)
        layout = row(0)
        layout.addStretch(1)
        layout.addWidget(self.link)
        layout.addStretch(1)
        self.setLayout(layout)


class ListPage(Page):
    """Master at the left, detail at the right; below 1100 the detail takes the list's place."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.top: QVBoxLayout = column(0)
        self.master: QVBoxLayout = column(0)
        self.counts = Label("", "small", "text.muted")
        self.fact = Label("", "small", "text.muted", align=Qt.AlignmentFlag.AlignRight)
        self._foot_row = foot = row(16, (24, 0, 24, 0))
        foot.addWidget(self.counts, 1)
        foot.addWidget(self.fact, 1)
        self._foot = Fill("bg.surface", "t")
        self._foot.setFixedHeight(self.theme.size("statusbar"))
        self._foot.setLayout(foot)
        self._left = Fill("bg.surface")
        self._left.setMinimumWidth(320)
        self._holder = column(0)
        self._holder.addLayout(self.master, 1)
        self._holder.addWidget(self._foot)
        self._left.setLayout(self._holder)
        self._split = QSplitter(Qt.Orientation.Horizontal)
        self._split.setHandleWidth(1)
        self._split.setChildrenCollapsible(False)
        self._split.addWidget(self._left)
        self._pane: QWidget | None = None
        layout = column(0)
        layout.addLayout(self.top)
        layout.addWidget(self._split, 1)
        self.setLayout(layout)

    def set_pane(self, pane: QWidget) -> None:
        """Give the page its detail pane, hidden at first."""
        self._pane = pane
        pane.setMinimumWidth(self.theme.size("detail.min"))
        pane.setMaximumWidth(self.theme.size("detail.max"))
        self._split.addWidget(pane)
        self._split.setStretchFactor(0, 1)
        self._split.setStretchFactor(1, 0)
        pane.hide()
        if isinstance(pane, Pane):
            pane.closed.connect(self.close_detail)

    def set_narrow(self, narrow: bool) -> None:
        """Everything at the edges moves in: tabs, tools, lists, foot."""
        pad = self.theme.size("page.padding.narrow" if narrow else "page.padding")
        self._foot_row.setContentsMargins(pad, 0, pad, 0)
        for tabs in self.findChildren(Tabs):
            tabs.set_edge(pad)
        for tools in self.findChildren(Tools):
            tools.set_edge(pad)
        for view in self.findChildren(List):
            view.set_edge(pad)
        for head in self.findChildren(Head):
            head.edge = pad
            head.update()
        self._fit()

    def show_detail(self) -> None:
        """Show the detail pane."""
        if self._pane is not None and not self._pane.isVisibleTo(self):
            self._pane.show()
            wide = WIDE_DETAIL if self.window().width() >= WIDE else self.theme.size("detail.width")
            self._split.setSizes([max(320, self.width() - wide - 1), wide])
        self._fit()

    def close_detail(self) -> None:
        """Hide the detail pane; the list gets the focus."""
        if self._pane is not None:
            self._pane.hide()
        self._fit()

    def detail_open(self) -> bool:
        """Whether the detail pane is shown."""
        return self._pane is not None and self._pane.isVisibleTo(self)

    def escape(self) -> bool:
        if self.detail_open():
            self.close_detail()
            return True
        return False

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """Narrow: one of both. ``detail.breakpoint`` counts the window, so take the narrow rail off it."""
        narrow = self.window().width() < self.theme.size("breakpoint.detail")
        self._left.setVisible(not (narrow and self.detail_open()))
        if self._pane is not None:
            self._pane.setMaximumWidth(16_777_215 if narrow else self.theme.size("detail.max"))


def explain(failure: Failure) -> str:
    """What to say where a list could not be fetched."""
    return "The engine does not answer. What you see may be old." if failure.no_answer else failure.message
