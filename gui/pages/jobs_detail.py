"""The detail of a job: what happened in words, what can be done, its attempts and its thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from PySide6.QtCore import Signal
from PySide6.QtGui import QGuiApplication

from engine.api import types, types_jobs
from gui import words
from gui.client.api import Failure, Query, path
from gui.desk import Desk
from gui.kit.boxes import column
from gui.kit.button import Button, Link
from gui.kit.detail import Code, Facts, Pane, Step, Timeline
from gui.kit.text import Label
from gui.linking import MENDS, NEW, Linking
from gui.pages import jobs_rows as rows

_OUTCOMES = {
    "failed": ("state-failed", "error"),
    "done": ("state-done", "ok"),
    "running": ("state-running", "active"),
    "lost": ("state-degraded", "warn"),
}
_HOPS = {
    "webhook": "nav-webhooks",
    "queued": "state-waiting",
    "started": "state-running",
    "finished": "check",
    "match": "tag",
    "notice": "bell",
    "run_done": "state-done",
    "run_failed": "state-failed",
}
QUEUES = {"transactions": "Transaction sync", "webhooks": "Webhooks", "notifications": "Notifications"}
LABELS = {
    "retry": ("Retry", "state-retrying"),
    "discard": ("Discard", ""),
    "restore": ("Restore", "undo"),
    "cancel": ("Cancel", ""),
    "run": ("Run now", "bolt"),
}


class JobPane(Pane):
    """One job. ``done`` once an action went through: its list has to let rows go."""

    done = Signal()

    def __init__(self, desk: Desk, linking: Linking) -> None:
        super().__init__("Job")
        self._desk, self._linking = desk, linking
        self.query = Query(desk.client, types_jobs.JobDetail, "", self)
        self.query.arrived.connect(self._show)
        self.query.failed.connect(self._fail)
        self.job_id = ""
        self.act_buttons = {name: Button(label, icon) for name, (label, icon) in LABELS.items()}
        self.cure = Button("Sign in", "external")
        self.cure.clicked.connect(self._cure)
        self.copy = Button("Copy details", "copy")
        self.copy.clicked.connect(self._copy)
        self.acts.addWidget(self.cure)
        for name, button in self.act_buttons.items():
            button.clicked.connect(lambda _=False, name=name: self.act(name))
            self.acts.addWidget(button)
        self.acts.addWidget(self.copy)
        self.acts.addStretch(1)
        said = self.section()
        said.setSpacing(4)
        self.what = Label("", "strong", wrap=True)
        self.sentence = Label("", "body", "text.secondary", wrap=True)
        said.addWidget(self.what)
        said.addWidget(self.sentence)
        self.facts = Facts()
        self.section().addWidget(self.facts)
        self._attempts_box, attempts = self.part("Attempts")
        self.timeline = Timeline()
        attempts.addWidget(self.timeline)
        self.code = Code()
        self._trace_link = Link("Traceback")
        self._trace_link.clicked.connect(self._toggle_trace)
        self._trace = Code()
        self._trace.hide()
        inner = column(8, (28, 0, 0, 0))
        inner.addWidget(self.code)
        inner.addWidget(self._trace_link)
        inner.addWidget(self._trace)
        attempts.addLayout(inner)
        self._thread_box, thread = self.part("From start to end")
        self.hops = Timeline()
        thread.addWidget(self.hops)
        self._show_actions(None)

    def open(self, job: types_jobs.Job) -> None:
        """Show a job: what the list knows at once, the rest when it comes."""
        changed = job.id != self.job_id
        self.job_id = job.id
        self._head(job)
        if changed:
            self._trace.hide()
            self._trace.say("")
            self._blank(job)
        self.query.ask(path("jobs", job.id))

    def open_id(self, job_id: str) -> None:
        """Show a job that no list knows yet."""
        self.job_id = job_id
        self.query.ask(path("jobs", job_id))

    def refresh(self) -> None:
        """Fetch it again."""
        if self.job_id:
            self.query.refresh()

    def link_changed(self) -> None:
        """What can be done changed."""
        self._show_actions(self.query.data)

    def act(self, name: str) -> None:
        """Retry, discard, restore, cancel or run the job now."""
        if not self.job_id or not self.act_buttons[name].isVisibleTo(self) or not self.act_buttons[name].isEnabled():
            return
        job_id = self.job_id
        self.send(job_id, name, (lambda: self.send(job_id, "restore")) if name == "discard" else None)

    def send(self, job_id: str, name: str, undo: Callable[[], None] | None = None) -> None:
        """Do one of the actions to any job; ``undo`` is offered afterwards."""

        def worked(_answer: types.Done) -> None:
            self.done.emit()
            self.refresh()

        def refused(_failure: Failure) -> None:
            self.refresh()

        address = path("jobs", job_id, name)
        self._desk.act("POST", address, done=worked, failed=refused, undo=undo)

    def _cure(self) -> None:
        detail: types_jobs.JobDetail | None = self.query.data
        if detail is not None and detail.action is not None:
            self._linking.begin(detail.job.item_id if detail.action in MENDS else None)

    def _copy(self) -> None:
        detail: types_jobs.JobDetail | None = self.query.data
        if detail is not None:
            text = msgspec.json.format(msgspec.json.encode(detail), indent=2).decode()
            QGuiApplication.clipboard().setText(text)
            self._desk.say("The details are in the clipboard.")

    def _toggle_trace(self) -> None:
        self._trace.setVisible(not self._trace.isVisible())

    def _head(self, job: types_jobs.Job) -> None:
        self.monogram.say(words.monogram(rows.name(job)))
        self.title.say(rows.name(job))
        self.chip.show_state("job", job.state)
        label = f"{QUEUES[job.queue]} · "
        self.subtitle.say(f"{label}{words.short_id(job.id)}")
        self.subtitle.set_tip(job.id)

    def _blank(self, job: types_jobs.Job) -> None:
        self.what.say(job.error_title or "")
        self.sentence.say("")
        for shown in (self._attempts_box, self._thread_box):
            shown.hide()
        self.facts.hide()
        self._show_actions(None)

    def _fail(self, failure: Failure) -> None:
        if failure.status == 404:
            self.what.say("This job is no longer known")
            self.sentence.say(failure.message)
            self._show_actions(None)

    def _show(self, detail: types_jobs.JobDetail) -> None:
        job = detail.job
        self._head(job)
        self.what.say(detail.title)
        self.sentence.say(detail.sentence)
        self.facts.show()
        self.facts.tell("Begun", rows.trigger(job))
        self.facts.tell("Queued", words.day_and_time(job.queued_at), words.exact(job.queued_at))
        self.facts.tell("Next try", words.until(job.due_at), words.exact(job.due_at))
        self.facts.tell("Attempts", f"{job.attempts} of {job.max_attempts}" if job.attempts else "")
        self.facts.tell("Worker", job.worker or "")
        since = detail.went_through
        self.facts.tell("Went through", _went_through(since), words.exact(since.at) if since is not None else "")
        self._show_attempts(detail)
        self.hops.show_steps(_thread(detail.thread))
        self._thread_box.setVisible(bool(detail.thread))
        self._show_actions(detail)

    def _show_attempts(self, detail: types_jobs.JobDetail) -> None:
        self._attempts_box.setVisible(bool(detail.timeline))
        self.timeline.show_steps(_attempts(detail))
        error = next((attempt.error for attempt in reversed(detail.timeline) if attempt.error is not None), None)
        self.code.setVisible(error is not None)
        self._trace_link.setVisible(error is not None and bool(error.traceback))
        if error is not None:
            facts = [f"{name}  {value}" for name, value in error.detail.items() if value not in {None, ""}]
            self.code.say("\n".join([f"{error.code} · {error.kind}", *facts]))
            self._trace.say(error.traceback)

    def _show_actions(self, detail: types_jobs.JobDetail | None) -> None:
        allowed: Sequence[str] = detail.allowed if detail is not None else ()
        may, reason = self._desk.may()
        mends = detail is not None and detail.action is not None and (detail.action in MENDS or detail.action in NEW)
        self.cure.setVisible(mends)
        if mends and detail is not None:
            self.cure.set_words(detail.action or "")
            self.cure.allow(may, reason)
        first = True
        for name, button in self.act_buttons.items():
            button.setVisible(name in allowed)
            button.allow(may, reason)
            button.set_kind("filled" if first and name in allowed and not mends and name != "cancel" else "outline")
            first = first and name not in allowed
        self.cure.set_kind("filled")
        self.copy.setVisible(detail is not None)


def _went_through(since: types_jobs.WentThrough | None) -> str:
    """When, and by which job; empty while it has not."""
    if since is None:
        return ""
    return words.day_and_time(since.at) + (f", by job {words.short_id(since.job_id)}" if since.job_id else "")


def _attempts(detail: types_jobs.JobDetail) -> list[Step]:
    job = detail.job
    steps = [Step("nav-webhooks", "idle", f"Queued {rows.trigger(job)}", words.time(job.queued_at, True))]
    last = detail.timeline[-1].number if detail.timeline else 0
    for attempt in detail.timeline:
        icon, tone = _OUTCOMES[attempt.outcome]
        took = f" · {words.duration(attempt.duration_ms)}" if attempt.duration_ms is not None else ""
        said = attempt.error.title if attempt.error is not None else ""
        if attempt.outcome == "lost":
            said = said or "The worker went away"
        if attempt.outcome == "failed" and attempt.number == last and job.state == "failed":
            said += f". Given up at {words.time(job.finished_at, True)}." if job.finished_at else ""
        wait = f"waited {words.duration(attempt.waited_ms)}" if attempt.waited_ms and attempt.number > 1 else ""
        steps.append(
            Step(icon, tone, f"Attempt {attempt.number}", words.time(attempt.started_at, True) + took, said, wait)
        )
    return steps


def _thread(thread: Sequence[types_jobs.ThreadEvent]) -> list[Step]:
    steps = []
    for event in thread:
        icon = _HOPS.get(event.kind, "arrow-right")
        ms = f" · +{words.duration(event.ms)}" if event.ms is not None else ""
        tone = "error" if event.kind == "run_failed" else "ok" if event.kind == "run_done" else "idle"
        steps.append(Step(icon, tone, event.text, words.time(event.at, True) + ms))
    return steps
