"""Jobs: failures by cause with their cure, every job by state, one job from webhook to rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QStackedWidget, QWidget

from engine.api import types_bulk, types_jobs
from gui import words
from gui.client.api import Failure, Query, path
from gui.desk import Desk
from gui.kit.button import Button
from gui.kit.choices import Drop, Segments, Tabs
from gui.kit.columns import Head, RowButton
from gui.kit.field import SearchField
from gui.kit.listview import List
from gui.linking import MENDS, NEW, Linking
from gui.models.paged import Continued, Paged
from gui.pages import jobs_rows as rows
from gui.pages.base import Listing, ListPage, Tools, explain
from gui.pages.jobs_bulk import Bulks, BulkStrip
from gui.pages.jobs_detail import LABELS, JobPane
from gui.pages.overview import SPANS

TABS = [
    ("all", "All", ""),
    ("waiting", "Waiting", ""),
    ("delayed", "Delayed", ""),
    ("running", "Running", ""),
    ("retrying", "Retrying", ""),
    ("failed", "Failed", "error"),
    ("discarded", "Discarded", ""),
    ("done", "Done", ""),
]
QUEUES = [
    ("", "All queues"),
    ("transactions", "Transaction sync"),
    ("webhooks", "Webhooks"),
    ("notifications", "Notifications"),
]
FIRST, MORE = 5, 50
EMPTY = {
    "failed": ("state-done", "No failed jobs", "Everything that was tried went through."),
    "waiting": ("state-waiting", "Nothing waits", "Jobs start as soon as they arrive."),
    "delayed": ("state-delayed", "Nothing is delayed", "No job waits for a later time."),
    "running": ("state-running", "Nothing runs", "A running job shows here while it runs."),
    "retrying": ("state-retrying", "Nothing is retried", "A job that failed once shows here until its next try."),
    "discarded": ("state-discarded", "Nothing discarded", "Discarded jobs stay here and can be restored."),
    "done": ("state-done", "No finished jobs yet", "The last ones of each queue are kept here."),
    "all": ("nav-jobs", "No jobs yet", "Link a bank, and its first sync shows here."),
}


class JobsPage(ListPage):
    """Opens on failures by cause."""

    key = "jobs"
    title = "Jobs"
    topics = frozenset({"jobs", "bulks", "queues", "hello", "time"})

    def __init__(self, desk: Desk, linking: Linking) -> None:
        super().__init__(desk)
        self._linking = linking
        self.tabs = Tabs(TABS)
        self.tabs.choose("failed")
        self.search = SearchField("Bank, error, job id", "Search jobs")
        self.queue = Drop(QUEUES, "", "Queue")
        self.view = Drop([("cause", "By cause"), ("job", "One by one")], "cause", "View of failed jobs")
        self.span = Segments(SPANS, "24h", "Span of the causes")
        self.groups = Paged(
            desk.client,
            types_jobs.FailureGroups,
            lambda after, limit: path("failures", span=self.span.current, after=after, limit=limit),
            lambda page: page.groups,
            lambda group: group.fingerprint,
            lambda group: group.title,
            self,
        )
        self.causes = Continued(self.groups, rows.key, rows.sentence, self)
        self.kept = Query(desk.client, types_jobs.JobPage, path("jobs", state="failed", limit=1), self)
        self.jobs = Paged(
            desk.client,
            types_jobs.JobPage,
            self._address,
            lambda page: page.jobs,
            lambda job: job.id,
            rows.job_sentence,
            self,
        )
        self.cause_list = List(self.causes, rows.by_cause(), "Failed jobs by cause", uniform=False)
        self.job_list = List(self.jobs, rows.plain(), "Jobs")
        self.by_cause = Listing(self.cause_list, None)
        self.by_job = Listing(self.job_list, Head(rows.PLAIN))
        self.pane = JobPane(desk, linking)
        self.strip = BulkStrip(desk, self._let_go)
        self.bulks = Bulks(self, desk, self.strip, self.refresh)
        self.retry_all = Button("Retry all…", "state-retrying")
        self.discard_all = Button("Discard all…", "trash")
        self._failed = 0
        self._opened: dict[str, int] = {}
        self._found: dict[str, types_jobs.JobPage] = {}
        self._asked: dict[str, Any] = {}
        self._typed = QTimer(self)
        self._typed.setSingleShot(True)
        self._typed.setInterval(250)
        self._arrange()
        self._wire()

    # ------------------------------------------------------------ frame

    def _arrange(self) -> None:
        self.top.addWidget(self.tabs)
        tools = Tools()
        tools.line.addWidget(self.search, 1)
        for widget in (self.queue, self.view, self.span):
            tools.line.addWidget(widget)
        self._stack = QStackedWidget()
        self._stack.addWidget(self.by_cause)
        self._stack.addWidget(self.by_job)
        self.master.addWidget(tools)
        self.master.addWidget(self._stack, 1)
        self.master.addWidget(self.strip)
        self.set_pane(self.pane)
        self.fact.say("Last 50 of each queue kept, causes 30 days")

    def _wire(self) -> None:
        self.tabs.chosen.connect(self._filters_changed)
        self.queue.chosen.connect(self._filters_changed)
        self.view.chosen.connect(self._filters_changed)
        self.span.chosen.connect(lambda _span: self.groups.restart())
        self.search.textChanged.connect(lambda _text: self._typed.start())
        self._typed.timeout.connect(self._filters_changed)
        self.groups.answered.connect(lambda _page: self._show_causes())
        self.groups.failed.connect(self._cannot)
        self.kept.arrived.connect(self._counts)
        self.jobs.answered.connect(self._page_came)
        self.jobs.failed.connect(self._cannot)
        self.jobs.waiting.connect(self.by_job.show_waiting)
        self.jobs.holding = self.job_list.reading
        self.by_job.news.link.clicked.connect(self._bring_in)
        self.cause_list.opened.connect(self._open_row)
        self.cause_list.pressed.connect(self._press)
        self.cause_list.set_menu(self._cause_menu)
        self.job_list.opened.connect(self._open_job)
        self.job_list.left.connect(self.close_detail)
        self.job_list.pressed.connect(self._act_on)
        self.job_list.set_menu(self._job_menu)
        self.pane.done.connect(self._let_go)
        self.by_job.empty.acted.connect(self._clear_filters)
        for view in (self.cause_list, self.job_list):
            view.can_tick = self._can_tick
            view.ticked.connect(self._show_buttons)
            view.rows.shown.connect(self._show_buttons)
        self.retry_all.clicked.connect(lambda: self._ask_all("retry"))
        self.discard_all.clicked.connect(lambda: self._ask_all("discard"))
        self._key("Ctrl+Shift+R", lambda: self._ask_all("retry"))
        for keys, act in (("R", "retry"), ("Del", "discard"), ("Ctrl+Return", "run")):
            self._key(keys, partial(self._by_key, act))
        self._key("Left", lambda: self._fold(False))
        self._key("Right", lambda: self._fold(True))
        self._key("Home", self._bring_in)
        for keys in ("/", "Ctrl+F"):
            shortcut = QShortcut(QKeySequence(keys), self)
            shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
            shortcut.activated.connect(lambda: self.search.setFocus(Qt.FocusReason.ShortcutFocusReason))

    def _key(self, keys: str, act: Callable[[], object]) -> None:
        """A key that acts while a list has the focus, so that it never gets in the way of typing."""
        for view in (self.cause_list, self.job_list):
            shortcut = QShortcut(QKeySequence(keys), view)
            shortcut.setContext(Qt.ShortcutContext.WidgetShortcut)
            shortcut.activated.connect(act)

    def buttons(self) -> Sequence[Button]:
        return (self.discard_all, self.retry_all) if self.tabs.current == "failed" and self._failed else ()

    def _ask_all(self, verb: types_bulk.Verb) -> None:
        """All that match the filter as it is now, or those that are ticked."""
        may, reason = self.desk.may()
        if self.tabs.current != "failed":
            return
        if not may:
            self.desk.say(reason)
            return
        chosen = self._chosen()
        if chosen and verb == "retry":
            self.bulks.retry_seen(types_bulk.JobFilter(ids=chosen), len(chosen))
            self._list.untick()
            return
        if chosen:
            self.bulks.ask(verb, types_bulk.JobFilter(ids=chosen))
            return
        asked = types_bulk.JobFilter(queue=self.queue.current or None, q=self.search.text().strip() or None)  # type: ignore[arg-type]
        self.bulks.ask(verb, asked)

    def _show_buttons(self) -> None:
        """What they are about: all, or all that match."""
        filtered = bool(self.search.text().strip() or self.queue.current)
        what = "all that match…" if filtered else f"all {words.count(self._failed)}…"
        chosen = len(self._chosen())
        may, reason = self.desk.may()
        for button, verb in ((self.retry_all, "Retry"), (self.discard_all, "Discard")):
            ends = "…" if verb == "Discard" else ""
            button.set_words(f"{verb} {words.count(chosen)} ticked{ends}" if chosen else f"{verb} {what}")
            button.allow(may, reason)
        self.headed.emit()

    def focus_areas(self) -> Sequence[QWidget]:
        return (self.cause_list, self.job_list, self.pane.copy)

    # ------------------------------------------------------------ what is shown

    @property
    def _list(self) -> List:
        return self.cause_list if self._causes_shown else self.job_list

    def _can_tick(self, row: Any) -> bool:
        return self.tabs.current == "failed" and not isinstance(row, rows.CauseRow | rows.MoreRow)

    def _chosen(self) -> list[str]:
        """Ids of the jobs that are ticked."""
        return sorted(key.removeprefix("job:") for key in self._list.rows.ticked)

    @property
    def _causes_shown(self) -> bool:
        plain = not self.search.text().strip() and not self.queue.current
        return self.tabs.current == "failed" and self.view.current == "cause" and plain

    def _address(self, after: str | None, limit: int) -> str:
        state = "" if self.tabs.current == "all" else self.tabs.current
        asked = self.search.text().strip()
        return path("jobs", state=state, queue=self.queue.current, q=asked, after=after, limit=limit)

    def refresh(self) -> None:
        if not self.desk.connected:
            return
        self.strip.refresh()
        if self._causes_shown:
            if not self.groups.loaded:
                self.cause_list.wait()
            self.groups.refresh()
            self.kept.refresh()
            for fingerprint in list(self._opened):
                self._fetch_group(fingerprint)
        else:
            if not self.jobs.loaded:
                self.job_list.wait()
            self.jobs.refresh()
        if self.detail_open():
            self.pane.refresh()

    def set_narrow(self, narrow: bool) -> None:
        super().set_narrow(narrow)
        self.strip.set_edge(self.theme.size("page.padding.narrow" if narrow else "page.padding"))

    def escape(self) -> bool:
        return super().escape() or self._list.untick()

    def link_changed(self) -> None:
        self.pane.link_changed()
        self.strip.allow()
        self._show_buttons()

    def open_target(self, target: str) -> None:
        """``failed``, ``queue:NAME``, ``job:ID`` or a job's id."""
        kind, _, found = target.partition(":")
        if any(target == key for key, _, _ in TABS):
            self.tabs.choose(target)
        elif kind == "queue":
            self.tabs.choose("all")
            self.queue.choose(found)
        else:
            self.pane.open_id(found or target)
            self.show_detail()

    def _filters_changed(self, _value: str = "") -> None:
        causes = self._causes_shown
        self._stack.setCurrentIndex(0 if causes else 1)
        self.view.setVisible(self.tabs.current == "failed")
        self.span.setVisible(causes)
        self._show_buttons()
        if causes:
            self.refresh()
        else:
            self.by_job.show_empty(False)
            self.job_list.wait()
            self.jobs.restart()

    def _clear_filters(self) -> None:
        self.search.clear()
        self.queue.choose("")

    def _bring_in(self) -> None:
        self.job_list.scrollToTop()
        self.jobs.refresh(release=True)

    def _counts(self, page: types_jobs.JobPage) -> None:
        counts = dict(page.counts)
        self._failed = counts.get("failed", 0)
        self.tabs.set_counts(counts | {"all": sum(counts.values()) - counts.get("discarded", 0)})
        self._show_buttons()
        self._say_causes()

    def _page_came(self, page: types_jobs.JobPage) -> None:
        self.job_list.ready()
        self._counts(page)
        number = len(self.jobs.rows)
        filtered = bool(self.search.text().strip() or self.queue.current)
        self.by_job.show_empty(number == 0)
        if number == 0 and filtered:
            said = f"No job matches {self.search.text().strip() or 'this queue'}."
            self.by_job.empty.tell("search", "Nothing matches", said, "Clear the filter")
        elif number == 0:
            self.by_job.empty.tell(*EMPTY[self.tabs.current])
        counts = page.counts
        every = sum(counts.values()) - counts.get("discarded", 0)
        known = every if self.tabs.current == "all" else counts.get(self.tabs.current, number)
        if filtered or self.jobs.complete:
            known = number
        more = "" if self.jobs.complete or not filtered else "+"
        self.counts.say(f"{words.count(known)}{more} {'job' if known == 1 else 'jobs'}")

    def _cannot(self, failure: Failure) -> None:
        self.cause_list.ready()
        self.job_list.ready()
        self.counts.say(explain(failure))

    # ------------------------------------------------------------ causes

    def _show_causes(self) -> None:
        if not self.groups.loaded:
            return
        self.cause_list.ready()
        shown: list[rows.Row] = []
        for group in self.groups.rows:
            opened = group.fingerprint in self._opened
            shown.append(rows.CauseRow(group, opened))
            page = self._found.get(group.fingerprint) if opened else None
            if page is None:
                continue
            shown += [rows.JobRow(job) for job in page.jobs]
            left = group.open_jobs - len(page.jobs)
            if page.next is not None and left > 0:
                shown.append(rows.MoreRow(group.fingerprint, left))
        self.causes.show(shown)
        self.by_cause.show_empty(not shown)
        self.by_cause.empty.tell(*EMPTY["failed"])
        self._say_causes()

    def _say_causes(self) -> None:
        if self.groups.loaded and self._causes_shown:
            number = len(self.groups.rows)
            causes = words.plural(number, "cause") if self.groups.complete else f"{words.count(number)}+ causes"
            self.counts.say(f"{words.plural(self._failed, 'failed job')}, {causes}")

    def _fetch_group(self, fingerprint: str) -> None:
        def came(page: types_jobs.JobPage) -> None:
            self._found[fingerprint] = page
            self._counts(page)
            self._show_causes()

        limit = self._opened.get(fingerprint, FIRST)
        address = path("jobs", state="failed", group=fingerprint, limit=min(limit, 500))
        former = self._asked.get(fingerprint)
        if former is not None:
            self.desk.client.drop(former)
        self._asked[fingerprint] = self.desk.client.get(address, types_jobs.JobPage, came, self._cannot)

    def _open_row(self, key: str) -> None:
        found = self.causes.get(key)
        if isinstance(found, rows.JobRow):
            self.pane.open(found.job)
            self.show_detail()
        elif isinstance(found, rows.MoreRow):
            self._opened[found.fingerprint] = self._opened.get(found.fingerprint, FIRST) + MORE
            self._fetch_group(found.fingerprint)
        elif isinstance(found, rows.CauseRow):
            self._turn(found)

    def _turn(self, cause: rows.CauseRow) -> None:
        fingerprint = cause.group.fingerprint
        if fingerprint in self._opened:
            del self._opened[fingerprint]
            self._found.pop(fingerprint, None)
        else:
            self._opened[fingerprint] = FIRST
            self._fetch_group(fingerprint)
        self._show_causes()

    def _fold(self, opened: bool) -> None:
        found = self.causes.get(self.cause_list.current_key())
        if isinstance(found, rows.CauseRow) and found.open != opened:
            self._turn(found)

    def _cause_menu(self, found: Any) -> Sequence[RowButton]:
        may = self.desk.may()[0]
        if isinstance(found, rows.CauseRow):
            return self._cause_acts(found.group, may)
        return self._job_menu(found.job) if isinstance(found, rows.JobRow) else ()

    def _cause_acts(self, group: types_jobs.FailureGroup, may: bool) -> list[RowButton]:
        entries = []
        if group.open_jobs:
            entries.append(RowButton("cure", rows.cure(group), enabled=may))
            if not entries[0].label.startswith("Retry"):
                entries.append(RowButton("retry", f"Retry {words.count(group.open_jobs)}", enabled=may))
        if group.open_jobs or group.failed:
            entries.append(RowButton("discard", "Discard all…", enabled=may))
        entries.append(RowButton("mute", "Unmute" if group.muted else "Mute until it grows", enabled=may))
        return entries

    def _job_menu(self, job: types_jobs.Job) -> Sequence[RowButton]:
        acts = {
            "failed": ("retry", "discard"),
            "discarded": ("restore", "retry"),
            "waiting": ("cancel",),
            "delayed": ("run", "cancel"),
            "retrying": ("run", "cancel"),
        }
        may = self.desk.may()[0]
        return [RowButton(act, LABELS[act][0], enabled=may) for act in acts.get(job.state, ())]

    def _press(self, key: str, action: str) -> None:
        found = self.causes.get(key)
        may, reason = self.desk.may()
        if not may:
            self.desk.say(reason)
        elif isinstance(found, rows.JobRow):
            self._act_on(found.job.id, action)
        elif isinstance(found, rows.CauseRow):
            self._cure(found.group, action)

    def _cure(self, group: types_jobs.FailureGroup, action: str) -> None:
        asked = types_bulk.JobFilter(group=group.fingerprint)
        if action == "discard":
            self.bulks.ask("discard", asked)
        elif action == "mute":
            address = path("failures", group.fingerprint, "mute")
            self.desk.act("POST", address, types_bulk.Mute(not group.muted), done=lambda _done: self._let_go())
        elif action == "retry" or not (group.action in MENDS or group.action in NEW):
            self.bulks.retry_seen(asked, group.open_jobs)
        elif group.action in NEW:
            self._linking.begin(None)
        elif group.banks == 1:

            def came(page: types_jobs.JobPage) -> None:
                if page.jobs and page.jobs[0].item_id:
                    self._linking.begin(page.jobs[0].item_id)

            address = path("jobs", state="failed", group=group.fingerprint, limit=1)
            self.desk.client.get(address, types_jobs.JobPage, came, self._cannot)
        else:
            self.desk.go.emit("banks", "needs_you")

    # ------------------------------------------------------------ jobs

    def _open_job(self, key: str) -> None:
        job = self.jobs.get(key)
        if job is not None:
            self.pane.open(job)
            self.show_detail()

    def _let_go(self) -> None:
        """The person's own action went through: rows may come, go and move again."""
        if self._causes_shown:
            self.refresh()
        else:
            self.jobs.refresh(release=True)

    def _by_key(self, action: str) -> None:
        if self._chosen() and action in {"retry", "discard"}:
            self._ask_all(action)  # type: ignore[arg-type]
        elif self._causes_shown:
            found = self.causes.get(self.cause_list.current_key())
            if isinstance(found, rows.JobRow):
                self._act_on(found.job.id, action)
            elif isinstance(found, rows.CauseRow) and action == "retry" and found.group.open_jobs:
                self._press(rows.key(found), "retry")
        elif self.job_list.current_key():
            self._act_on(self.job_list.current_key(), action)

    def _act_on(self, job_id: str, action: str) -> None:
        job = self.jobs.get(job_id) or getattr(self.causes.get(f"job:{job_id}"), "job", None)
        allowed = job is not None and any(entry.name == action for entry in self._job_menu(job))
        may, reason = self.desk.may()
        if not may:
            self.desk.say(reason)
        elif allowed:
            self.pane.send(job_id, action, self._undo(job_id) if action == "discard" else None)

    def _undo(self, job_id: str) -> Callable[[], None]:
        return lambda: self.pane.send(job_id, "restore")
