"""The parts that a host supervises: servers with programs of their own, and our own processes."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import psutil

from engine import clock
from engine.api.types import ProcessInfo
from engine.errors import StartError, SyncdeskError
from engine.host.restarts import Restarts
from engine.host.spawn import Child, spawn_self
from engine.jobs import exits
from engine.logs import logger

State = Literal["starting", "running", "stopping", "stopped", "crashed", "given_up"]

_LOOK_S = 0.1

log = logger("host")


class Server(Protocol):
    """`engine.host.postgres.Postgres` and `engine.host.valkey.Valkey`."""

    log: Path

    @property
    def pid(self) -> int | None: ...

    @property
    def url(self) -> str: ...

    def start(self) -> None: ...

    def stop(self, deadline_s: float = ...) -> None: ...

    def alive(self) -> bool: ...


class Part(ABC):
    """One supervised part, watched by a thread of its own; `start`, `stop` and `info` may be called from any."""

    def __init__(self, role: str, label: str, logfile: Path, changed: Callable[[str], None]) -> None:
        self.role, self.label, self.log = role, label, logfile
        self._changed = changed
        self._restarts = Restarts()
        self._state: State = "stopped"
        self._note: str | None = None
        self._count = 0
        self._began: str | None = None
        self._ending = threading.Event()
        self._settled = threading.Event()
        self._command = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> State:
        return self._state

    @property
    def note(self) -> str | None:
        """Why it does not run, as a sentence."""
        return self._note

    @property
    def watched(self) -> bool:
        """Whether its thread still has to do with it."""
        return self._thread is not None and self._thread.is_alive()

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """Its process, None while it has none."""

    @abstractmethod
    def _launch(self) -> None:
        """Start it and return when it runs.

        Raises:
            StartError: it does not start.
        """

    @abstractmethod
    def _wait(self) -> int | None:
        """Return when it has ended: its exit code, None where nobody knows it."""

    @abstractmethod
    def _end(self, grace_s: float) -> None:
        """Have it end in order, killed after ``grace_s``."""

    def start(self) -> None:
        """Begin to run and watch it; returns at once. A part that runs goes on."""
        with self._command:
            if self._thread is not None and self._thread.is_alive():
                return
            self._ending.clear()
            self._settled.clear()
            self._restarts.forget()
            self._set("starting")
            self._thread = threading.Thread(target=self._run, name=f"part-{self.role}", daemon=True)
            self._thread.start()

    def wait_settled(self, deadline_s: float) -> None:
        """Wait until it runs.

        Raises:
            StartError: it gave up, or the deadline passed.
        """
        if not self._settled.wait(deadline_s):
            raise StartError(f"{self.label} was not up after {deadline_s:g} s. Its log is {self.log}.")
        if self._state == "given_up":
            raise StartError(self._note or f"{self.label} did not start. Its log is {self.log}.")

    def stop(self, grace_s: float) -> None:
        """End it in order and keep it stopped; returns when it is gone, killed after ``grace_s``."""
        with self._command:
            self._ending.set()
            if self._thread is not None and self._thread.is_alive():
                self._set("stopping")
                self._end(grace_s)
                self._thread.join(grace_s + 8)
            if self._state != "given_up":
                self._set("stopped")

    def info(self) -> ProcessInfo:
        """How it is now."""
        pid = self.pid
        return ProcessInfo(
            role=self.role,
            pid=pid,
            state=self._state,
            started_at=self._began if pid else None,
            memory_mb=memory_mb(pid),
            restarts=self._count,
            note=self._note,
        )

    def _set(self, state: State, note: str | None = None) -> None:
        if state != self._state or note != self._note:
            self._state, self._note = state, note
            self._changed(self.role)

    def _run(self) -> None:
        try:
            while not self._ending.is_set() and self._once():
                self._count += 1
        except Exception as error:  # a watcher that dies silently would leave a part unwatched
            log.exception("The watch over a part failed", role=self.role)
            self._give_up(f"{self.label} is not watched any more ({type(error).__name__}). Its log is {self.log}.")
        self._settled.set()

    def _once(self) -> bool:
        """One life of the part; whether another one follows."""
        self._set("starting", self._note)
        note = f"{self.label} ended unexpectedly and is started again. Its log is {self.log}."
        try:
            self._launch()
        except StartError as error:
            if not self._settled.is_set() and self._final_at_first():
                self._give_up(error.message)
                return False
            self._end(1.0)
            note, code = error.message, None
        else:
            if self._ending.is_set():  # asked to end while it started
                self._end(3.0)
                return False
            self._began = clock.iso(clock.now())
            self._set("running")
            self._settled.set()
            code = self._wait()
        if self._ending.is_set():
            return False
        if code == exits.REPLACE:
            log.info("A part is replaced by a fresh process", role=self.role)
            return True
        pause = self._restarts.ended(clock.monotonic())
        log.warning("A part ended unexpectedly", role=self.role, exit_code=code, pause_s=pause)
        if pause is None:
            why = "" if note.startswith(f"{self.label} ended") else f" ({note})"
            self._give_up(
                f"{self.label} ended five times within a minute and stays stopped{why}. Its log is {self.log}."
            )
            return False
        self._set("crashed", note)
        return not self._ending.wait(pause)

    def _final_at_first(self) -> bool:
        """Whether a failure of the very first start is final rather than worth another try."""
        return True

    def _give_up(self, sentence: str) -> None:
        log.error("A part stays stopped", role=self.role, reason=sentence)
        self._set("given_up", sentence)
        self._settled.set()


class ServerPart(Part):
    """Broker or database. ``after`` runs after each start, the first included (migration, for one)."""

    def __init__(
        self, role: str, label: str, server: Server, changed: Callable[[str], None], after: Callable[[str], None]
    ) -> None:
        super().__init__(role, label, server.log, changed)
        self._server = server
        self._after = after
        self._url: str | None = None

    @property
    def pid(self) -> int | None:
        return self._server.pid

    def _launch(self) -> None:
        self._server.start()
        if self._url not in (None, self._server.url):
            self._server.stop()
            raise StartError(f"{self.label} lost its address to another program; start the engine again.")
        self._url = self._server.url
        try:
            self._after(self._server.url)
        except SyncdeskError as error:
            self._server.stop()
            raise StartError(error.message, log=str(self.log)) from error

    def _wait(self) -> int | None:
        while self._server.alive() and not self._ending.wait(_LOOK_S):
            pass
        return None

    def _end(self, grace_s: float) -> None:
        self._server.stop(grace_s)


class ProcessPart(Part):
    """A process of our own. It starts with its imports and gets its environment when that is known."""

    def __init__(
        self,
        role: str,
        label: str,
        arguments: Sequence[str],
        logs: Path,
        changed: Callable[[str], None],
        *,
        environment: Callable[[], Mapping[str, str]],
        known: threading.Event,
        began: Callable[[str, int, float], None],
        ended: Callable[[int, int | None], None] | None = None,
        ready: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__(role, label, logs / f"{role}.out.log", changed)
        self._arguments = list(arguments)
        self._environment, self._known = environment, known
        self._told, self._ended, self._ready = began, ended, ready
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        child = self._child
        return child.pid if child is not None and child.ended() is None else None

    def _launch(self) -> None:
        child = self._child = spawn_self(self.role, self._arguments, log=self.log)
        self._told(self.role, child.pid, child.started)
        while not self._known.wait(_LOOK_S):
            if self._ending.is_set() or child.ended() is not None:
                raise StartError(f"{self.label} ended while it started. Its log is {self.log}.")
        child.send(self._environment())
        while self._ready is not None and not self._ready() and not self._ending.wait(0.01):
            if child.ended() is not None:
                raise StartError(f"{self.label} ended while it started. Its log is {self.log}.")

    def _wait(self) -> int | None:
        child = self._child
        if child is None:
            return None
        code = child.wait()
        child.release()
        if self._ended is not None:
            self._ended(child.pid, code)
        return code

    def _end(self, grace_s: float) -> None:
        if self._child is not None:
            self._child.stop(grace_s)

    def _final_at_first(self) -> bool:
        return False


def memory_mb(pid: int | None) -> float | None:
    """Resident memory of a process in MB; None where it is gone."""
    if pid is None:
        return None
    try:
        return round(psutil.Process(pid).memory_info().rss / 1e6, 1)
    except psutil.Error:
        return None
