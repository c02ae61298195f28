"""The detail of a bank link: what is wrong and its cure, two clocks, accounts, runs, what can be done."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal

from engine.api import types, types_banks
from gui import words
from gui.client.api import Failure, Query, path
from gui.desk import Desk
from gui.kit.button import Button
from gui.kit.chart import RunStrip
from gui.kit.detail import Facts, Pane
from gui.kit.dialog import Confirm
from gui.kit.notes import Banner
from gui.kit.table import Table
from gui.kit.text import Label
from gui.linking import MENDS, NEW, Linking
from gui.pages import banks_rows as rows

RUNS = 8


class BankPane(Pane):
    """One bank link. ``synced`` carries item and correlation of a sync that was asked for here."""

    synced = Signal(str, str)
    done = Signal()

    def __init__(self, desk: Desk, linking: Linking) -> None:
        super().__init__("Bank link")
        self._desk, self._linking = desk, linking
        self.query = Query(desk.client, types_banks.ItemDetail, "", self)
        self.query.arrived.connect(self._show)
        self.item: types_banks.Item | None = None
        self.acts.setContentsMargins(16, 12, 16, 14)
        self.banner = Banner(stacked=True)
        self.banner.acted.connect(self._cure)
        self.acts.addWidget(self.banner)
        self.facts = Facts()
        self.section().addWidget(self.facts)
        self.quiet, quiet = self.part("Silent")
        self._silent = Label("", "body", "state.warn.text", wrap=True)
        quiet.addWidget(self._silent)
        self.quiet.hide()
        self.aside, aside = self.part("Set aside")
        self._refused_rows = Label("", "body", "text.secondary", wrap=True)
        self.retry = Button("Try again", "state-retrying")
        self.retry.clicked.connect(self._try_again)
        aside.addWidget(self._refused_rows)
        aside.addWidget(self.retry, 0, Qt.AlignmentFlag.AlignLeft)
        self.aside.hide()
        self._last = Label("", "small", "text.muted", shrink=False)
        runs = self.section("Runs", self._last)
        self.strip = RunStrip()
        self.runs = Table(rows.RUNS, 28, "Runs", rows.result, tip_of=_run_tip)
        runs.addWidget(self.strip)
        runs.addWidget(self.runs)
        self.sync = Button("Sync now", "state-syncing")
        self.sync.clicked.connect(self.sync_now)
        self.pause = Button("Pause", "pause")
        self.pause.clicked.connect(self._pause)
        self.remove = Button("Remove…", kind="danger")
        self.remove.clicked.connect(self._remove)
        self.foot.addWidget(self.sync)
        self.foot.addWidget(self.pause)
        self.foot.addStretch(1)
        self.foot.addWidget(self.remove)
        self.show_foot()

    def open(self, item: types_banks.Item) -> None:
        """Show an item: what the list knows at once, the rest when it comes."""
        if self.item is None or self.item.id != item.id:
            self.aside.hide()
            self.quiet.hide()
            self.runs.show_rows([])
            self.strip.show_runs([])
        self._show_item(item)
        self.query.ask(path("items", item.id))

    def open_id(self, item_id: str) -> None:
        """Show an item that the list does not know yet."""
        self.query.ask(path("items", item_id))

    def refresh(self) -> None:
        """Fetch it again."""
        if self.query.address:
            self.query.refresh()

    def link_changed(self) -> None:
        """What can be done changed."""
        if self.item is not None:
            self._show_actions(self.item)

    def sync_now(self) -> None:
        """Sync this bank now; the page says how it ends."""
        if self.item is None or not self.sync.isEnabled():
            return
        item_id = self.item.id

        def began(answer: types.Done) -> None:
            self.synced.emit(item_id, answer.correlation_id or "")
            self.refresh()

        self._desk.act("POST", path("items", item_id, "sync"), done=began, failed=self._refused)

    def _pause(self) -> None:
        if self.item is not None:
            verb = "resume" if self.item.state == "paused" else "pause"
            self._send(self.item.id, verb, "pause" if verb == "resume" else "resume")

    def _send(self, item_id: str, verb: str, back: str = "") -> None:
        def worked(_answer: types.Done) -> None:
            self.done.emit()
            self.refresh()

        undo = (lambda: self._send(item_id, back)) if back else None
        self._desk.act("POST", path("items", item_id, verb), done=worked, failed=self._refused, undo=undo)

    def _try_again(self) -> None:
        if self.item is not None:
            self._desk.act(
                "POST",
                path("items", self.item.id, "set-aside", "retry"),
                types_banks.TryAgain(),
                done=lambda _answer: self.refresh(),
                failed=self._refused,
            )

    def _refused(self, _failure: Failure) -> None:
        self.refresh()

    def _remove(self) -> None:
        detail: types_banks.ItemDetail | None = self.query.data
        if detail is None:
            return
        item = detail.item
        asked = Confirm(self, f"Remove {rows.name(item)}?", detail.removes, "Remove")
        asked.accepted.connect(lambda: self._send(item.id, "remove"))
        asked.open()

    def _cure(self) -> None:
        item = self.item
        if item is not None and item.action in MENDS:
            self._linking.begin(item.id)
        elif item is not None and item.action in NEW:
            self._linking.begin(None)

    def _show(self, detail: types_banks.ItemDetail) -> None:
        item = detail.item
        self._show_item(item)
        shown = [rows.account_name(account) for account in detail.accounts]
        more = f", +{len(shown) - 2}" if len(shown) > 2 else ""
        self.facts.tell("Accounts", ", ".join(shown[:2]) + more, "\n".join(shown))
        silent = rows.silent(detail.accounts)
        self._silent.say(silent)
        self.quiet.setVisible(bool(silent))
        self._show_aside(detail.set_aside)
        self.strip.show_runs(detail.runs)
        self.runs.show_rows(detail.runs[:RUNS])
        self._last.say(f"last {len(detail.runs)}" if detail.runs else "none yet")

    def _show_aside(self, found: types_banks.SetAsidePage | None) -> None:
        number = found.total if found is not None else 0
        self.aside.setVisible(number > 0)
        if found is not None and number:
            self._refused_rows.say(rows.set_aside(found))

    def _show_item(self, item: types_banks.Item) -> None:
        self.item = item
        self.monogram.say(words.monogram(rows.name(item)))
        self.title.say(rows.name(item))
        self.chip.show_state("item", item.state, rows.state_words(item))
        self.subtitle.say(rows.about(item))
        self._show_banner(item)
        at = item.last_success_at
        last = f"{words.day_and_time(at)} · {words.ago(at)}" if at else "never"
        self.facts.tell("Our last sync", last, words.exact(at))
        self.facts.tell("Newest data", words.day(item.newest_data_at) or "none yet")
        self.facts.tell("Usual delay", words.duration(item.lag_s * 1000) if item.lag_s is not None else "")
        self.facts.tell("Transactions", words.count(item.transactions))
        self.facts.tell("Next sync", words.until(item.next_sync_at), words.exact(item.next_sync_at))
        self._show_actions(item)

    def _show_banner(self, item: types_banks.Item) -> None:
        spec = self._theme.state("item", item.state)
        quiet = item.state in {"healthy", "syncing"} and item.action is None
        self.banner.setVisible(not quiet)
        tone = "warn" if item.action is not None and spec["tone"] == "ok" else str(spec["tone"])
        action = item.action if item.action in MENDS or item.action in NEW else ""
        self.banner.tell(tone, str(spec["icon"]), item.title, item.sentence, action or "", "filled")

    def _show_actions(self, item: types_banks.Item) -> None:
        may, reason = self._desk.may()
        self.banner.button.allow(may, reason)
        paused, gone = item.state == "paused", item.state == "removed"
        blocked = {
            "paused": "Syncing of this bank is paused. Resume it first.",
            "removed": "This link was removed.",
            "needs_you": "The bank wants you to sign in first.",
        }.get(item.state, "")
        self.sync.allow(may and not blocked, reason or blocked)
        self.pause.set_words("Resume" if paused else "Pause", "play" if paused else "pause")
        self.pause.allow(may and not gone, reason or "This link was removed.")
        self.retry.allow(may and not gone, reason or "This link was removed.")
        admin, why = self._desk.may("admin")
        self.remove.allow(admin and not gone, why or "This link was removed.")
        filled = self.banner.isVisibleTo(self) and self.banner.button.isVisibleTo(self.banner)
        self.sync.set_kind("outline" if filled or blocked else "filled")


def _run_tip(run: types_banks.Run) -> str:
    return f"{words.exact(run.started_at)}\n{words.plural(run.pages, 'page')}, {rows.result(run)}"
