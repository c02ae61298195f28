"""Whether there is an engine: found, started, lost and found again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from PySide6.QtCore import QObject, QRunnable, QThreadPool, QTimer, Signal

from engine import clock
from engine.errors import SyncdeskError
from engine.profile import Profile
from gui.client.api import Client, Failure
from gui.client.stream import Stream

if TYPE_CHECKING:
    from engine.launch import Discovery, Progress, Starting

State = Literal["looking", "starting", "connected", "unreachable", "stopped"]
POLL_MS = 150
RETRY_S = 5
KINDS = ("admin", "operate", "view")
GIVE_UP_S = 120.0


@dataclass(frozen=True)
class Place:
    """Where an engine answers, and the token to show it."""

    address: str
    token: str
    pid: int = 0


@dataclass(frozen=True)
class Found:
    """What a look gave: a place, or how far a start is (``step``), or nothing."""

    place: Place | None = None
    step: str | None = None


class Source(Protocol):
    """Where engines come from. Its methods run in a thread and may read files and start processes."""

    can_start: bool
    log: str

    def find(self) -> Found: ...
    def start(self) -> None: ...


class Local:
    """The engine of a profile of this machine."""

    can_start = True

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._starting: Starting | None = None
        self.log = str(profile.logs)

    def find(self) -> Found:
        """Look into the profile.

        Raises:
            StartError: a start that was begun here failed.
        """
        from engine import launch

        seen: Discovery | Progress | None
        if self._starting is not None:
            try:
                seen = self._starting.poll()
            except SyncdeskError:
                self._starting = None
                raise
            if seen is None:
                return Found(step="Starting")
        else:
            seen = launch.read(self._profile) or launch.progress(self._profile)
        if isinstance(seen, launch.Discovery) and seen.admin:
            self._starting = None
            return Found(place=Place(seen.admin, seen.token, seen.pid))
        if isinstance(seen, launch.Progress) and seen.state == "starting":
            return Found(step=seen.step)
        return Found()

    def start(self) -> None:
        """Start an engine.

        Raises:
            ProfileError, StartError: it cannot be started.
        """
        from engine import launch

        self._starting = launch.start(self._profile)


class Remote:
    """An engine elsewhere, by its address and a token."""

    can_start = False
    log = ""

    def __init__(self, address: str, token: str) -> None:
        self._place = Place(address, token)

    def find(self) -> Found:
        """It is where it was said to be."""
        return Found(place=self._place)

    def start(self) -> None:
        """Never called: ``can_start`` is false."""


class _Task(QRunnable):
    def __init__(self, work: Callable[[], Any], answered: Any) -> None:
        super().__init__()
        self._work, self._answered = work, answered

    def run(self) -> None:
        try:
            answer: Any = self._work()
        except SyncdeskError as error:
            answer = error
        except OSError as error:
            answer = SyncdeskError(f"The engine's files cannot be read: {error.strerror or error}.")
        try:
            self._answered.emit(answer)
        except RuntimeError:  # the window was closed meanwhile
            return


class Connection(QObject):
    """The state of the link to the engine, kept up by itself; ``changed`` at each change of state or step."""

    changed = Signal()
    heard = Signal(object)
    tick = Signal()
    _looked = Signal(object)
    _started = Signal(object)

    def __init__(self, client: Client, source: Source, parent: QObject | None = None, start: bool = True) -> None:
        """``start``: begin an engine where none runs at first; later ones only by the person's click."""
        super().__init__(parent)
        self._client, self._source, self._may_start = client, source, start and source.can_start
        self._stream = Stream(client, self)
        self._stream.heard.connect(self.heard)
        self._stream.ended.connect(self._lost)
        self._pool = QThreadPool(self)
        self._pool.setMaxThreadCount(1)
        self._looked.connect(self._on_look)
        self._started.connect(self._on_start)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)
        self._second = QTimer(self)
        self._second.setInterval(1000)
        self._second.timeout.connect(self._count_down)
        self.state: State = "looking"
        self.step = ""
        self.message = ""
        self.lost_at: str | None = None
        self.kind = ""
        self.retry_in_s = 0
        self.was_stopped = False
        self._since = clock.monotonic()
        self._closed = False

    @property
    def can_start(self) -> bool:
        """Whether an engine can be started from here."""
        return self._source.can_start

    @property
    def log(self) -> str:
        """Folder of the engine's logs; empty for an engine elsewhere."""
        return self._source.log

    def open(self) -> None:
        """Begin to look."""
        self._look()

    def close(self) -> None:
        """Leave the engine running and stop looking."""
        self._closed = True
        self._timer.stop()
        self._second.stop()
        self._stream.close()
        self._client.abort()
        self._pool.waitForDone(3000)

    def start_engine(self) -> None:
        """Start an engine, as the person asked."""
        self._set("starting", "Starting the engine")
        self._timer.stop()
        self._pool.start(_Task(self._source.start, self._started))

    def look_again(self) -> None:
        """Look now instead of at the next try."""
        self._timer.stop()
        self._look()

    def _look(self) -> None:
        if not self._closed:
            self._second.stop()
            self._pool.start(_Task(self._source.find, self._looked))

    def _on_start(self, answer: object) -> None:
        if isinstance(answer, SyncdeskError):
            self._unreachable(answer.message)
        else:
            self._timer.start(POLL_MS)

    def _on_look(self, found: object) -> None:
        if self._closed or self.state == "connected":
            return
        if isinstance(found, SyncdeskError):
            self._unreachable(found.message)
        elif not isinstance(found, Found):
            self._unreachable("The engine's state could not be read.")
        elif found.place is not None:
            self._greet(found.place, 0)
        elif found.step is not None:
            self._wait(found.step)
        elif self._may_start:
            self._may_start = False
            self.start_engine()
        else:
            self._unreachable("")

    def _wait(self, step: str) -> None:
        self._set("starting", step)
        if clock.monotonic() - self._since > GIVE_UP_S:
            self._unreachable(f"The engine has been starting for {GIVE_UP_S:.0f} s; it is at: {step}.")
        else:
            self._timer.start(POLL_MS)

    def _greet(self, place: Place, at: int) -> None:
        kind = KINDS[at]

        def refused(failure: Failure) -> None:
            if failure.code == "NOT_OURS" and at + 1 < len(KINDS):
                self._greet(place, at + 1)
            else:
                self._unreachable("" if failure.no_answer else failure.message)

        self._client.hello(place.address, place.token, kind, lambda _hello: self._attach(place, kind), refused)

    def _attach(self, place: Place, kind: str) -> None:
        if self._closed:
            return
        self._client.attach(place.address, place.token)
        self.kind = kind
        self._may_start = False
        self.lost_at, self.was_stopped = None, False
        self._stream.open()
        self._set("connected", "")

    def _lost(self) -> None:
        """The stream broke: the engine ended, or only the line did. Look at once, and say so if it is gone."""
        if self._closed:
            return
        self.lost_at = clock.iso(clock.now())
        self._set("looking", "")
        self._look()

    def _unreachable(self, message: str) -> None:
        if self.lost_at is None:
            self.lost_at = clock.iso(clock.now())
        self._client.abort()
        self.retry_in_s = RETRY_S
        if self.was_stopped and not message:
            self._set("stopped", "", message)
        else:
            self._set("unreachable", "", message)
        self._second.start()

    def _count_down(self) -> None:
        self.retry_in_s -= 1
        if self.retry_in_s <= 0:
            self._look()
        self.tick.emit()

    def _set(self, state: State, step: str, message: str = "") -> None:
        if (state, step, message) == (self.state, self.step, self.message):
            return
        if state != self.state:
            self._since = clock.monotonic()
        self.state, self.step, self.message = state, step, message
        self.changed.emit()
