"""The window: rail, header, one page at a time, what is said at the bottom, keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PySide6.QtCore import QByteArray, QPoint, QSettings, Qt, QTimer
from PySide6.QtGui import QCloseEvent, QKeySequence, QResizeEvent, QShortcut
from PySide6.QtWidgets import QApplication, QMenu, QStackedWidget, QWidget

from engine.api import types_banks, types_operation, types_overview
from gui import icons, words
from gui import theme as themes
from gui.catalogue import pages
from gui.client.api import Failure, path
from gui.desk import Desk
from gui.kit.boxes import Fill, column, row
from gui.kit.notes import Banner, Toast
from gui.kit.text import Label
from gui.linking import Linking
from gui.notices import Notices
from gui.pages.base import Page
from gui.rail import Rail

OVERVIEW_S = 1.0
"""Other pages need badges and state alone: the overview is fetched at most this often for them."""


class Shell(Fill):
    """The console's window."""

    def __init__(self, desk: Desk, name: str = "This computer", memory: QSettings | None = None) -> None:
        super().__init__("bg.canvas")
        self.desk, self._name, self._memory = desk, name, memory
        self._theme = themes.current()
        self.linking = Linking(desk)
        self._made = {made.entry.key: made for made in pages(desk, self.linking)}
        self.pages: dict[str, Page] = {}
        self.current = ""
        self._stale: set[str] = set()
        self._news: frozenset[str] = frozenset()
        self.rail = Rail([made.entry for made in self._made.values()])
        self._title = Label("", "title", shrink=False)
        self._actions = row(8)
        self.banner = Banner()
        self._stack = QStackedWidget()
        self.toast = Toast(self)
        self.notices = Notices(desk, self.toast)
        self._trouble = ""
        self._arrange()
        self._wire()
        self._keys()
        self.setWindowTitle("Syncdesk")
        self.setMinimumSize(self._theme.size("window.min.width"), self._theme.size("window.min.height"))
        self.resize(self._theme.size("window.width"), self._theme.size("window.height"))
        self._remember()
        self.open("overview")

    # ------------------------------------------------------------ parts

    def _arrange(self) -> None:
        head = Fill("bg.surface", "b")
        head.setFixedHeight(self._theme.size("header"))
        self._head = row(8, (24, 0, 24, 1))
        self._head.addWidget(self._title)
        self._head.addStretch(1)
        self._head.addLayout(self._actions)
        head.setLayout(self._head)
        self._banner_holder = Fill("bg.surface")
        inner = column(0, (24, 12, 24, 12))
        inner.addWidget(self.banner)
        self._banner_holder.setLayout(inner)
        self._banner_holder.hide()
        main = column(0)
        main.addWidget(head)
        main.addWidget(self._banner_holder)
        main.addWidget(self._stack, 1)
        layout = row(0)
        layout.addWidget(self.rail)
        layout.addLayout(main, 1)
        self.setLayout(layout)

    def _wire(self) -> None:
        desk = self.desk
        self.rail.chosen.connect(self.open)
        self.rail.engine.clicked.connect(self._engine_menu)
        desk.go.connect(self.open)
        desk.said.connect(self.toast.say)
        desk.topics.connect(self._hear)
        desk.overview.arrived.connect(self._show_overview)
        desk.overview.failed.connect(self._show_trouble)
        desk.connection.changed.connect(self._link_changed)
        desk.connection.tick.connect(self._show_banner)
        self.banner.acted.connect(self._cure)
        self._theme.changed.connect(self._repaint)
        self._pace = QTimer(self)
        self._pace.setSingleShot(True)
        self._pace.setInterval(round(OVERVIEW_S * 1000))
        self._pace.timeout.connect(desk.overview.refresh)
        self._link_changed()

    def _keys(self) -> None:
        for place, key in enumerate(self._made):
            self._key(f"Ctrl+{place + 1}", partial(self.open, key))
        self._key("F5", self._sync)
        self._key("Ctrl+P", self._pause_or_resume)
        self._key("F6", self._next_area)
        self._key("Esc", self._escape)
        self._key("Ctrl+Z", self._undo)
        self._key("Ctrl+\\", lambda: self._fit(not self._narrow))

    def _key(self, keys: str, act: Callable[[], object]) -> None:
        QShortcut(QKeySequence(keys), self).activated.connect(act)

    # ------------------------------------------------------------ pages

    def open(self, key: str, target: str = "") -> None:
        """Show a page, and one thing of it."""
        made = self._made.get(key)
        if made is None:
            return
        if key not in self.pages:
            page = made.make()
            self.pages[key] = page
            self._stack.addWidget(page)
            page.headed.connect(self._show_head)
            self._stale.add(key)
        page = self.pages[key]
        changed = key != self.current
        self.current = key
        self._stack.setCurrentWidget(page)
        self.rail.choose(key)
        if changed:
            self._show_head()
            self._show_banner()
            self._fit(self._narrow)
        page.link_changed()
        if changed and (key in self._stale or self.desk.connected):
            self._stale.discard(key)
            page.refresh()
        if target:
            page.open_target(target)

    @property
    def page(self) -> Page:
        """The page shown."""
        return self.pages[self.current]

    def _show_head(self) -> None:
        page = self.pages.get(self.current)
        if page is None:
            return
        self._title.say(page.title)
        wanted = list(page.buttons())
        items = [self._actions.itemAt(place) for place in range(self._actions.count())]
        present = [item.widget() for item in items if item is not None]
        if present == wanted:
            return
        for widget in present:
            if widget is not None and widget not in wanted:
                self._actions.removeWidget(widget)
                widget.hide()
                widget.setParent(None)
        for button in wanted:
            self._actions.addWidget(button)
            button.show()

    def _hear(self, topics: frozenset[str]) -> None:
        """Something changed. Pages out of sight are only marked; a hidden window waits until it is seen."""
        if not self.desk.connected:
            return
        for key, page in self.pages.items():
            if topics & (page.topics | {"hello"}):
                self._stale.add(key)
        if not self.isVisible() or self.isMinimized():
            self._news |= topics
            return
        self._refresh(topics)

    def _refresh(self, topics: frozenset[str]) -> None:
        if self.current in self._stale:
            self._stale.discard(self.current)
            self.page.refresh()
        if self.current != "overview" and not self._pace.isActive():
            self._pace.start()
        if topics & {"notices", "hello"}:
            self.notices.refresh()

    def showEvent(self, event: object) -> None:
        super().showEvent(event)  # type: ignore[arg-type]
        if self._news:
            topics, self._news = self._news, frozenset()
            self._refresh(topics)

    # ------------------------------------------------------------ state

    def _link_changed(self) -> None:
        link = self.desk.connection
        if link.state == "connected":
            self.rail.engine.tell(self._name, "running")
        elif link.state in {"unreachable", "stopped"}:
            self.rail.engine.tell(self._name, link.state)
        else:
            self.rail.engine.tell(self._name, "starting")
        for page in self.pages.values():
            page.link_changed()
        if link.state != "connected":
            for item in self.rail.items.values():
                item.set_badge(0)
        self._show_banner()
        self._show_head()

    def _show_trouble(self, failure: Failure) -> None:
        """The engine answers, but cannot say how things are: its database is away."""
        if failure.no_answer or not self.desk.connected:
            return
        self._trouble = failure.message
        self.rail.engine.tell(self._name, "degraded", "Trouble")
        self._show_banner()

    def _show_overview(self, known: types_overview.Overview) -> None:
        self._trouble = ""
        engine = known.engine
        state = engine.state if engine.state in {"running", "starting", "paused", "degraded", "stopped"} else "stopped"
        said = {"paused": f"Paused until {words.time(engine.paused_until)}" if engine.paused_until else "Paused"}
        said["degraded"] = engine.cause or "Trouble"
        said["stopping"] = "Stopping"
        self.rail.engine.tell(self._name, state, said.get(engine.state, ""))
        if engine.state == "stopping":
            self.desk.connection.was_stopped = True
        names = {"simulated": "Simulated banks", "sandbox": "Plaid sandbox", "production": "Plaid production"}
        environment = names[engine.environment]
        if engine.plaid_url and engine.environment != "simulated":
            environment = f"Plaid at {engine.plaid_url}"
        self.rail.say_environment(environment, engine.environment == "production")
        self._show_badges(known)
        self._show_banner()

    def _show_badges(self, known: types_overview.Overview) -> None:
        items = self.rail.items
        failed = sum(queue.failed - queue.muted for queue in known.queues)
        items["jobs"].set_badge(failed, "error")
        items["banks"].set_badge(sum(need.kind == "item" for need in known.needs), "warn")
        items["bills"].set_badge(known.suggestions)
        unserved = sum(cause.code in {"NO_WORKERS", "CRASH_LOOP"} for cause in known.causes)
        paused = known.engine.state == "paused" or any(queue.paused for queue in known.queues)
        items["workers"].set_badge(unserved or int(paused), "error" if unserved else "warn")

    def _show_banner(self) -> None:
        """One banner at most, over pages other than Overview, which has its own card for it."""
        link, known = self.desk.connection, self.desk.known
        shown = self.current != "overview"
        if link.state in {"unreachable", "stopped"}:
            title = "The engine is stopped" if link.state == "stopped" else "The engine is not answering"
            said = link.message or "Nothing is lost. What you see may be old."
            said += f" Looking for it again in {max(0, link.retry_in_s)} s."
            tone = "idle" if link.state == "stopped" else "error"
            icon = "state-stopped" if link.state == "stopped" else "state-unreachable"
            self.banner.tell(tone, icon, title, said, "Start engine" if link.can_start else "", "filled")
        elif link.state in {"starting", "looking"}:
            self.banner.tell("active", "state-starting", "The engine is starting", f"{link.step or 'Looking for it'}.")
        elif self._trouble:
            shown = True
            said = f"{self._trouble} Nothing is lost. What you see may be old; it goes on by itself."
            self.banner.tell("error", "state-degraded", "The engine is in trouble", said)
        elif known is not None and known.engine.state == "paused":
            until = words.time(known.engine.paused_until) or "you resume"
            self.banner.tell("idle", "state-paused", "Paused", f"Nothing syncs until {until}.", "Resume")
        else:
            shown = False
        self._banner_holder.setVisible(shown)

    def _cure(self) -> None:
        if self.desk.connected:
            self.desk.act("POST", path("engine", "resume"))
        else:
            self.desk.connection.start_engine()

    # ------------------------------------------------------------ actions

    def _engine_menu(self) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.fill_engine_menu(menu)
        menu.popup(self.rail.engine.mapToGlobal(QPoint(0, self.rail.engine.height() + 4)))

    def fill_engine_menu(self, menu: QMenu) -> None:
        """What can be done to the engine now."""
        desk, known = self.desk, self.desk.known
        may, _ = desk.may()
        paused = known is not None and known.engine.state == "paused"

        def add(label: str, icon: str, act: Callable[[], object], allowed: bool) -> None:
            action = menu.addAction(icons.icon(icon), label)
            action.setEnabled(allowed)
            action.triggered.connect(lambda _=False: act())

        if paused:
            add("Resume", "play", lambda: desk.act("POST", path("engine", "resume")), may)
        else:
            hour = types_operation.EnginePause(minutes=60)
            add("Pause for 1 hour", "pause", lambda: desk.act("POST", path("engine", "pause"), hour), may)
            add("Pause", "pause", lambda: desk.act("POST", path("engine", "pause"), types_operation.EnginePause()), may)
        add("Sync all", "state-syncing", self._sync_all, may)
        menu.addSeparator()
        if desk.connection.can_start and desk.connection.state in {"unreachable", "stopped"}:
            add("Start engine", "play", desk.connection.start_engine, True)
        add("Stop engine", "stop", self._stop_engine, desk.may("admin")[0])
        add("Quit, engine keeps running", "close", self.close, True)

    def _stop_engine(self) -> None:
        link = self.desk.connection
        link.was_stopped = True  # before the answer: the engine may be gone sooner than its answer is read

        def refused(_failure: object) -> None:
            link.was_stopped = link.state != "connected"

        self.desk.act("POST", path("engine", "stop"), failed=refused)

    def _sync_all(self) -> None:
        if self.desk.may()[0]:
            self.desk.act("POST", path("sync"), types_banks.SyncRequest(all=True))

    def _sync(self) -> None:
        sync_chosen = getattr(self.page, "sync_chosen", None)
        if sync_chosen is None or not sync_chosen():
            self._sync_all()

    def _pause_or_resume(self) -> None:
        known = self.desk.known
        if self.desk.may()[0] and known is not None:
            verb = "resume" if known.engine.state == "paused" else "pause"
            self.desk.act("POST", path("engine", verb))

    # ------------------------------------------------------------ window

    def _undo(self) -> None:
        if self.toast.undoable():
            self.toast.act()

    def _next_area(self) -> None:
        """F6: rail, then the areas of the page."""
        areas: list[QWidget] = [self.rail.items[self.current]]
        areas += [area for area in self.page.focus_areas() if area.isVisible()]
        focused = QApplication.focusWidget()
        place = next(
            (at for at, area in enumerate(areas) if focused is area or (focused and area.isAncestorOf(focused))), -1
        )
        areas[(place + 1) % len(areas)].setFocus(Qt.FocusReason.ShortcutFocusReason)

    def _escape(self) -> None:
        self.page.escape()

    @property
    def _narrow(self) -> bool:
        return self.rail.width() < 100

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit(self.width() < self._theme.size("breakpoint.rail"))

    def _fit(self, narrow: bool) -> None:
        if narrow != self._narrow:
            self.rail.set_narrow(narrow)
        small = self.width() < self._theme.size("breakpoint.rail")
        pad = self._theme.size("page.padding.narrow" if small else "page.padding")
        self._head.setContentsMargins(pad, 0, pad, 1)
        page = self.pages.get(self.current)
        if page is not None:
            page.set_narrow(small)

    def _repaint(self) -> None:
        for widget in self.findChildren(QWidget):
            widget.update()
        self.update()

    def _remember(self) -> None:
        if self._memory is not None:
            kept = self._memory.value("window")
            if isinstance(kept, QByteArray):
                self.restoreGeometry(kept)

    def closeEvent(self, event: QCloseEvent) -> None:
        if self._memory is not None:
            self._memory.setValue("window", self.saveGeometry())
        self.desk.connection.close()
        super().closeEvent(event)
