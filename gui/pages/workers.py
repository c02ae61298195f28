"""Workers: each pool with its threads and what they run, and every process with its memory and restarts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QWidget

from engine.api import types_jobs, types_operation
from gui import words
from gui.client.api import Query, path
from gui.desk import Desk
from gui.kit.boxes import Card, Chip, Fill, Rule, column, row
from gui.kit.button import Button
from gui.kit.columns import Head
from gui.kit.table import Table
from gui.kit.text import Label
from gui.pages.base import CardPage
from gui.pages.workers_rows import LANES, PROCESSES, Lane, Meter, lanes, process_sentence, process_tip

STATES = {
    "running": ("running", "Running"),
    "quiet": ("paused", "Quiet"),
    "stopped": ("stopped", "Stopped"),
    "starting": ("starting", "Starting"),
    "unknown": ("unreachable", "No sign of life"),
}


class WorkersPage(CardPage):
    """A card for each pool, and the table of processes."""

    key = "workers"
    title = "Workers"
    topics = frozenset({"workers", "jobs", "queues", "engine", "hello", "time"})

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.query = Query(desk.client, types_operation.Workers, path("workers"), self)
        self.query.arrived.connect(self._show)
        self.pause = Button("Pause all", "pause")
        self.pause.clicked.connect(self._pause)
        self.pools: dict[str, PoolCard] = {}
        self._holder = column(16)
        self.processes = Card("Processes")
        self.processes.head.addWidget(Label("on this computer", "small", "text.muted", shrink=False))
        self.table = Table(PROCESSES, 28, "Processes", process_sentence, edge=16, tip_of=process_tip)
        inner = column(0, (0, 0, 0, 4))
        inner.addWidget(Head(PROCESSES, 16, ""))
        inner.addWidget(self.table)
        self.processes.body.addLayout(inner)
        self.orphans = Label("", "body", "state.error.text", wrap=True)
        self.orphans.hide()
        self.body.addWidget(self.orphans)
        self.body.addLayout(self._holder)
        self.body.addWidget(self.processes)
        self.body.addStretch(1)
        self._second = QTimer(self)
        self._second.setInterval(1000)
        self._second.timeout.connect(self._count)
        desk.overview.arrived.connect(lambda _known: self.link_changed())
        self.link_changed()

    def buttons(self) -> Sequence[Button]:
        return (self.pause,)

    def refresh(self) -> None:
        if self.desk.connected:
            self.query.refresh()

    def link_changed(self) -> None:
        known = self.desk.known
        paused = known is not None and known.engine.state == "paused"
        self.pause.set_words("Resume" if paused else "Pause all", "play" if paused else "pause")
        may, reason = self.desk.may()
        self.pause.allow(may, reason)
        for card in self.pools.values():
            card.link_changed()

    def showEvent(self, event: object) -> None:
        super().showEvent(event)  # type: ignore[arg-type]
        self._second.start()

    def hideEvent(self, event: object) -> None:
        super().hideEvent(event)  # type: ignore[arg-type]
        self._second.stop()

    def _pause(self) -> None:
        known = self.desk.known
        paused = known is not None and known.engine.state == "paused"
        self.desk.act("POST", path("engine", "resume" if paused else "pause"))

    def _show(self, found: types_operation.Workers) -> None:
        for pool in found.pools:
            card = self.pools.get(pool.name)
            if card is None:
                card = self.pools[pool.name] = PoolCard(self.desk, pool)
                card.opened.connect(partial(self.desk.go.emit, "jobs"))
                self._holder.addWidget(card)
            card.show_pool(pool)
        rows = [process for pool in found.pools for process in pool.processes]
        self.table.show_rows([*rows, *found.parts])
        names = ", ".join(found.orphans)
        said = f"Nobody works on {names}: jobs wait there until a worker runs." if names else ""
        self.orphans.say(said)
        self.orphans.setVisible(bool(said))

    def _count(self) -> None:
        """Running jobs count their seconds by themselves."""
        for card in self.pools.values():
            card.count()


class PoolCard(Card):
    """One pool: state, threads and what they run, concurrency, memory, and what can be done to it."""

    opened = Signal(str)

    def __init__(self, desk: Desk, pool: types_operation.Pool) -> None:
        super().__init__()
        self._desk, self._pool = desk, pool
        self._age = 0.0
        self.setAccessibleName(pool.label)
        self.chip = Chip("engine", "running")
        self.busy = Label("", "small", "text.muted")
        self.quiet = Button("Quiet", small=True, name=f"Quiet: {pool.label} takes nothing new")
        self.restart = Button("Restart", small=True, name=f"Restart {pool.label}")
        self.stop = Button("Stop", small=True, name=f"Stop {pool.label}, finishing its jobs")
        self.steppers = {queue: _Stepper(desk, queue) for queue in pool.queues}
        self.quiet.clicked.connect(lambda: self._send("resume" if self._pool.state == "quiet" else "quiet"))
        self.restart.clicked.connect(lambda: self._send("restart"))
        self.stop.clicked.connect(lambda: self._send("start" if self._pool.state == "stopped" else "stop"))
        self._head(pool)
        self._columns = 2 if pool.threads > 5 else 1
        self._tables = [
            Table(LANES, 28, f"Threads of {pool.label}", _lane_words, rules=False, clickable=True)
            for _ in range(self._columns)
        ]
        self.memory = Meter()
        self._body()
        self.show_pool(pool)

    def _head(self, pool: types_operation.Pool) -> None:
        names = column(0)
        first = row(8)
        first.addWidget(Label(pool.label, "heading", shrink=False))
        first.addWidget(self.chip)
        first.addStretch(1)
        names.addLayout(first)
        names.addWidget(self.busy)
        line = row(8, (15, 12, 11, 12))
        line.addLayout(names, 1)
        for stepper in self.steppers.values():
            line.addWidget(stepper)
            line.addSpacing(4)
        for button in (self.quiet, self.restart, self.stop):
            line.addWidget(button)
        self.body.addLayout(line)
        self.body.addWidget(Rule())

    def _body(self) -> None:
        lanes_ = row(40, (15, 8, 15, 6))
        for table in self._tables:
            lanes_.addWidget(table, 1, Qt.AlignmentFlag.AlignTop)
            table.clicked.connect(partial(self._open, table))
        side = Fill("bg.surface", "l", "border.subtle")
        side.setFixedWidth(213)
        inner = column(0, (16, 12, 13, 9))
        inner.addWidget(self.memory)
        inner.addStretch(1)
        side.setLayout(inner)
        line = row(0, (0, 0, 3, 3))  # the corner of the card stays round
        line.addLayout(lanes_, 1)
        line.addWidget(side)
        self.body.addLayout(line)

    def show_pool(self, pool: types_operation.Pool) -> None:
        """Show the pool as it is now."""
        self._pool = pool
        self._age = 0.0
        state, label = STATES[pool.state]
        self.chip.show_state("engine", state, label)
        self.busy.say(f"{pool.busy} of {words.plural(pool.threads, 'thread')} busy")
        for queue, stepper in self.steppers.items():
            stepper.tell(pool.concurrency.get(queue, 0), len(self.steppers) > 1)
        self._show_lanes()
        self.memory.tell(pool.processes)
        self.quiet.set_words("Resume" if pool.state == "quiet" else "Quiet")
        self.stop.set_words("Start" if pool.state == "stopped" else "Stop")
        self.link_changed()

    def link_changed(self) -> None:
        """What can be done changed."""
        may, reason = self._desk.may()
        state = self._pool.state
        runs = state in {"running", "quiet"}
        unknown = "Nothing was heard of this pool, so it is not touched." if state == "unknown" else "It does not run."
        self.quiet.allow(may and runs, reason or unknown)
        self.restart.allow(may and runs, reason or unknown)
        self.stop.allow(may and state not in {"unknown", "starting"}, reason or unknown)
        for stepper in self.steppers.values():
            stepper.allow(may, reason)

    def count(self) -> None:
        """A second went by."""
        if self._pool.running:
            self._age += 1000
            self._show_lanes()

    def _show_lanes(self) -> None:
        found = lanes(self._pool, self._age)
        share = -(-len(found) // self._columns)
        for place, table in enumerate(self._tables):
            table.show_rows(found[place * share : (place + 1) * share])

    def _open(self, table: Table, place: int) -> None:
        lane: Lane = table.rows[place]
        if lane.job is not None:
            self.opened.emit(f"job:{lane.job.job_id}")

    def _send(self, verb: str) -> None:
        back = {"quiet": "resume", "stop": "start"}.get(verb, "")
        undo = partial(self._send, back) if back else None
        self._desk.act("POST", path("workers", self._pool.name, verb), undo=undo)


def _lane_words(lane: Lane) -> str:
    return f"thread {lane.number}: {lane.job.label if lane.job is not None else 'idle'}"


class _Stepper(QWidget):
    """How many jobs of a queue at a time, in the whole install: applies after 0.6 s of quiet."""

    def __init__(self, desk: Desk, queue: str) -> None:
        super().__init__()
        self._desk, self._queue, self._value, self._wanted = desk, queue, 0, 0
        self._sent: int | None = None  # on its way to the engine
        self._stale = False  # the next look may have been taken before the change
        self._label = Label("At a time", "small", "text.muted", shrink=False)
        self.less = Button("", "minus", small=True, name=f"Fewer jobs of {queue} at a time")
        self.more = Button("", "plus", small=True, name=f"More jobs of {queue} at a time")
        self.value = Label("", "strong", shrink=False, align=Qt.AlignmentFlag.AlignHCenter)
        self.value.setFixedWidth(30)
        line = row(2)
        line.addWidget(self._label)
        line.addSpacing(4)
        for widget in (self.less, self.value, self.more):
            line.addWidget(widget)
        self.setLayout(line)
        self._quiet = QTimer(self)
        self._quiet.setSingleShot(True)
        self._quiet.setInterval(600)
        self._quiet.timeout.connect(self._apply)
        self.less.clicked.connect(lambda: self._step(-1))
        self.more.clicked.connect(lambda: self._step(1))

    def tell(self, value: int, named: bool) -> None:
        """The value in force; a change under way is not overwritten."""
        names = {"webhooks": "Webhooks", "notifications": "Notifications", "transactions": "Syncs"}
        self._label.say(f"{names.get(self._queue, self._queue)} at a time" if named else "At a time")
        stale, self._stale = self._stale, False
        if stale and value != self._value:
            return
        self._value = value
        if not self._quiet.isActive() and self._sent is None:
            self._wanted = value
            self._paint()

    def allow(self, may: bool, reason: str) -> None:
        """Enable or disable with the reason."""
        self.less.allow(may and self._wanted > 1, reason or "One is the least.")
        self.more.allow(may and self._wanted < 200, reason or "200 is the most.")

    def _step(self, by: int) -> None:
        self._wanted = max(1, min(200, self._wanted + by))
        self._paint()
        self._quiet.start()

    def _paint(self) -> None:
        self.value.say(words.count(self._wanted), "text.primary" if self._wanted == self._value else "text.muted")

    def _apply(self) -> None:
        if self._sent is None and self._wanted != self._value:  # one at a time: its end applies what is wanted then
            self._sent = self._wanted
            change = types_jobs.QueueChange(concurrency=self._wanted)
            self._desk.act("PATCH", path("queues", self._queue), change, done=self._done, failed=self._back)

    def _done(self, _answer: object) -> None:
        if self._sent is not None:
            self._value, self._sent, self._stale = self._sent, None, True
        self._paint()
        if not self._quiet.isActive():
            self._apply()

    def _back(self, _failure: object) -> None:
        self._sent = None
        self._wanted = self._value
        self._paint()
