"""Bulk actions on the page Jobs: the question with its number, and the strip that shows how far one is."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QRectF, QSize, QTimer
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from engine.api import types, types_bulk
from gui import paint, words
from gui import theme as themes
from gui.client.api import Failure, Query, path
from gui.desk import Desk
from gui.kit.boxes import Fill, Glyph, Rule, column, row
from gui.kit.button import Button, Link
from gui.kit.dialog import Confirm
from gui.kit.text import Label

CANARY_FROM = 10
SHOWN_CAUSES = 6
LOOK_MS = 1000
ACTIVE = {"held", "canary", "running"}
GOING = {"retry": "Retrying", "discard": "Discarding", "move": "Moving"}
GONE = {"retry": "Retried", "discard": "Discarded", "move": "Moved"}
SOON = {"retry": ("starts", "start"), "discard": ("is discarded", "are discarded"), "move": ("moves", "move")}


class BulkStrip(Fill):
    """44 high over the foot; stays until it is read. Undo while that is possible, then Stop, Resume, and a cross."""

    def __init__(self, desk: Desk, changed: Callable[[], None]) -> None:
        """``changed`` is called when an action ended, so that lists are looked at again."""
        super().__init__("bg.subtle", "t")
        self._desk, self._changed = desk, changed
        self.bulk: types_bulk.Bulk | None = None
        self._reasons: list[types_bulk.BulkReason] = []
        self._read: set[str] = set()
        self._followed: set[str] = set()
        self.list = Query(desk.client, types_bulk.BulkPage, path("bulks", limit=10), self)
        self.detail = Query(desk.client, types_bulk.BulkDetail, "", self)
        self.glyph = Glyph("state-running", "state.active.solid", 16)
        self.title = Label("", "strong")
        self.meter = _Meter()
        self.progress = Label("", "body", "text.secondary")
        self.why = Link("Why?", "body")
        self.button = Button("Stop", small=True)
        self.close_button = Button("", "close", "plain", small=True, name="Close")
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_MS)
        self._row = layout = row(12, (24, 0, 16, 0))
        for widget in (self.glyph, self.title, self.meter):
            layout.addWidget(widget)
        layout.addWidget(self.progress, 1)
        for button in (self.why, self.button, self.close_button):
            layout.addWidget(button)
        self.setLayout(layout)
        self.setFixedHeight(44)
        self.hide()
        self.list.arrived.connect(self._came)
        self.detail.arrived.connect(self._explained)
        self._timer.timeout.connect(self.list.refresh)
        self.button.clicked.connect(self._act)
        self.close_button.clicked.connect(self.put_away)
        self.why.clicked.connect(self._say_why)

    def set_edge(self, pad: int) -> None:
        """Room at the left."""
        self._row.setContentsMargins(pad, 0, 16, 0)

    def refresh(self) -> None:
        """Look how far the newest one is."""
        self.list.refresh()

    def follow(self, bulk_id: str) -> None:
        """Show this one, also when it is over before it was seen."""
        self._followed.add(bulk_id)
        self.refresh()

    def put_away(self) -> None:
        """It was read."""
        if self.bulk is not None:
            self._read.add(self.bulk.id)
        self.bulk = None
        self.hide()

    def _came(self, page: types_bulk.BulkPage) -> None:
        shown = [
            bulk
            for bulk in page.bulks
            if bulk.id not in self._read and (bulk.state in ACTIVE or bulk.id in self._followed)
        ]
        self._followed |= {bulk.id for bulk in shown}
        # What goes on comes before what is over.
        found = next((bulk for bulk in shown if bulk.state in ACTIVE), shown[0] if shown else None)
        if found is None or found.state == "undone":
            self.bulk = None
            self._timer.stop()
            self.hide()
            return
        before, self.bulk = self.bulk, found
        if found.state in ACTIVE:
            self._timer.start()
        else:
            self._timer.stop()
            if before is None or before.id != found.id or before.state in ACTIVE:
                self._changed()
        if found.skipped or found.failed:
            self.detail.ask(path("bulks", found.id))
        self._show(found)

    def _explained(self, detail: types_bulk.BulkDetail) -> None:
        if self.bulk is not None and detail.bulk.id == self.bulk.id:
            self._reasons = detail.reasons

    def _show(self, bulk: types_bulk.Bulk) -> None:
        jobs = words.plural(bulk.total, "job")
        counted = (
            f"{words.count(bulk.done)} done, {words.count(bulk.skipped)} skipped, {words.count(bulk.failed)} failed"
        )
        icon, tone, title, said, action = "state-running", "active", f"{GOING[bulk.verb]} {jobs}", counted, "Stop"
        if bulk.state == "held":
            title, said, action = (
                f"{jobs} {SOON[bulk.verb][bulk.total > 1]} in {max(1, round(bulk.held_ms / 1000))} s",
                "",
                "Undo",
            )
            icon, tone = "state-delayed", "idle"
        elif bulk.state == "canary":
            said = "One of each cause first; the others follow when it worked"
        elif bulk.state == "stopped":
            icon, tone, action = "state-paused", "warn", "Resume"
            title, said = f"Stopped {bulk.verb} of {jobs}", f"{counted}. {bulk.note}"
        elif bulk.state == "done":
            icon, tone = ("state-failed", "error") if bulk.failed else ("state-done", "ok")
            title, action = f"{GONE[bulk.verb]} {words.plural(bulk.done, 'job')}", ""
        self.glyph.draw(icon, f"state.{tone}.solid")
        self.title.say(title)
        self.progress.say(said)
        self.progress.set_tip(bulk.note)
        self.meter.setVisible(bulk.state in {"canary", "running"})
        self.meter.tell((bulk.done + bulk.skipped + bulk.failed) / max(1, bulk.total))
        self.why.setVisible(bool(bulk.skipped or bulk.failed))
        self.button.setVisible(bool(action))
        self.button.set_words(action)
        self.close_button.setVisible(bulk.state in {"stopped", "done"})
        self.setAccessibleName(f"{title}. {said}")
        self.allow()
        self.show()

    def allow(self) -> None:
        """Whether its button may be pressed now."""
        may, reason = self._desk.may()
        self.button.allow(may, reason)

    def _act(self) -> None:
        if self.bulk is None:
            return
        change = self.button.text().lower()
        again: Callable[[object], None] = lambda _answer: self.refresh()  # noqa: E731
        self._desk.act("POST", path("bulks", self.bulk.id, change), done=again, failed=again)

    def _say_why(self) -> None:
        said = [f"{words.count(found.count)} {found.state}: {found.reason}" for found in self._reasons[:3]]
        self._desk.say(" · ".join(said) or "The reasons are not known yet.")


class _Meter(QWidget):
    """How much of a bulk action is over."""

    def __init__(self) -> None:
        super().__init__()
        self._share = 0.0
        self.setFixedSize(QSize(120, 6))

    def tell(self, share: float) -> None:
        self._share = share
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        box = QRectF(self.rect())
        paint.meter(QPainter(self), themes.current(), box, self._share, "state.active.solid")


class Bulks:
    """Asks and begins bulk actions for the page."""

    def __init__(self, page: QWidget, desk: Desk, strip: BulkStrip, refused: Callable[[], None]) -> None:
        self._page, self._desk, self._strip, self._refused = page, desk, strip, refused
        self.dialog: Confirm | None = None

    def retry_seen(self, asked: types_bulk.JobFilter, seen: int) -> None:
        """Retry without a question; where more match than were seen, ask."""

        def came(found: types_bulk.BulkPreview) -> None:
            if found.total > seen:
                self._question("retry", asked, found)
            else:
                self.begin("retry", asked, found.total)

        self._preview("retry", asked, came)

    def ask(self, verb: types_bulk.Verb, asked: types_bulk.JobFilter) -> None:
        """The question with the number in it, by cause, with what is left out and why."""
        self._preview(verb, asked, lambda found: self._question(verb, asked, found))

    def begin(self, verb: types_bulk.Verb, asked: types_bulk.JobFilter, expected: int) -> None:
        """Begin one; refused where more match by then."""
        body = types_bulk.BulkStart(verb=verb, filter=asked, expected=expected)

        def began(done: types.Done) -> None:
            self._strip.follow(done.ids[0])

        self._desk.act("POST", path("bulks"), body, done=began, failed=lambda _failure: self._refused())

    def _preview(
        self, verb: types_bulk.Verb, asked: types_bulk.JobFilter, came: Callable[[types_bulk.BulkPreview], None]
    ) -> None:
        def failed(failure: Failure) -> None:
            self._desk.say(failure.message)
            self._refused()

        body = types_bulk.BulkAsk(verb, asked)
        self._desk.client.act("POST", path("bulks", "preview"), body, came, failed, types_bulk.BulkPreview)

    def _question(self, verb: types_bulk.Verb, asked: types_bulk.JobFilter, found: types_bulk.BulkPreview) -> None:
        if not found.total:
            self._desk.say("No job matches any more.")
            return
        jobs = words.plural(found.total, "job")
        said = "They stay under Discarded and can be restored."
        if verb == "retry":
            said = "A job that fails again comes back here."
            if found.total >= CANARY_FROM:
                said = "One of each cause is tried first; the others follow when it worked. " + said
        kind = "destroy" if verb == "discard" else "filled"
        self.dialog = Confirm(
            self._page,
            f"{verb.capitalize()} {jobs}?",
            said,
            f"{verb.capitalize()} {jobs}",
            kind=kind,  # type: ignore[arg-type]
            body=_causes(found),
        )
        self.dialog.accepted.connect(lambda: self.begin(verb, asked, found.total))
        self.dialog.open()


def _causes(found: types_bulk.BulkPreview) -> QWidget:
    """Each cause with its number, then what is left out."""
    box = QWidget()
    layout = column(0)
    rows = [(cause.title, cause.code, cause.count) for cause in found.causes[:SHOWN_CAUSES]]
    more = found.causes[SHOWN_CAUSES:]
    if more:
        rows.append((words.plural(len(more), "other cause"), "", sum(cause.count for cause in more)))
    rows += [(left.reason, "Left out", left.count) for left in found.left_out]
    for title, note, number in rows:
        layout.addWidget(Rule())
        line = row(8, (0, 8, 0, 8))
        text = column(0)
        muted = note == "Left out"
        text.addWidget(Label(title, "body" if muted else "control", "text.muted" if muted else "text.primary"))
        if note:
            text.addWidget(Label(note, "small", "text.secondary"))
        line.addLayout(text, 1)
        line.addWidget(Label(words.count(number), "body" if muted else "strong"))
        layout.addLayout(line)
    layout.addWidget(Rule())
    box.setLayout(layout)
    return box
