"""The keeper: a process that outlives its host just long enough to stop what the host left behind.

It holds the read end of a pipe whose write end only the host has. The host tells it each part's pid and start
time, one JSON object a line. End of file without a farewell means that the host is gone, whatever killed it: then
every part is stopped cleanly, servers last, and the discovery file removed. `PDEATHSIG` would not do: it fires
when the thread that spawned ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
import psutil

from engine import clock
from engine.errors import StartError
from engine.host import binaries_process as server
from engine.host import discovery
from engine.host.spawn import Child, spawn_self
from engine.processes import running
from engine.profile import Profile

GRACE_S = 5.0
"""A worker's three seconds for its jobs, and some to hand back its leases."""
SERVER_ROLES = ("broker", "database")


@dataclass(frozen=True)
class Ward:
    """One process that must not outlive its host."""

    role: str
    pid: int
    started: float

    def process(self) -> psutil.Process | None:
        """It, if it still runs; never another one that has its pid now."""
        return running(self.pid, self.started)


def lock_file(profile: Profile) -> Path:
    """Held by a keeper through its life: the next engine waits for it."""
    return profile.root / "keeper.lock"


def wards_file(profile: Profile) -> Path:
    """The parts of the engine that ran last, for a start after host and keeper were both killed."""
    return profile.root / "parts.json"


def main(profile: Profile) -> int:
    """The keeper's process: collect wards until the pipe ends, then see to them."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the host alone decides, by the pipe
    host = os.getppid()
    with _locked(profile):
        wards: dict[int, Ward] = {}
        job = _job()
        for message in _messages():
            if message.get("farewell"):
                return 0
            ward = Ward(str(message["role"]), int(message["pid"]), float(message["started"]))
            wards[ward.pid] = ward
            wards = {pid: kept for pid, kept in wards.items() if kept is ward or kept.process() is not None}
            job.take(ward.pid)
        host = int(os.environ.get(_HOST, host))
        end_all(wards.values())
        _forget(profile, host)
    return 0


_HOST = "SYNCDESK_HOST_PID"


@contextlib.contextmanager
def _locked(profile: Profile) -> Iterator[None]:
    """Hold the keeper's lock; without it where it cannot be had: the parts are ended all the same."""
    lock = filelock.FileLock(lock_file(profile))
    with contextlib.suppress(OSError, filelock.Timeout):
        lock.acquire(timeout=30)
    try:
        yield
    finally:
        lock.release()


def _forget(profile: Profile, host: int) -> None:
    discovery.clear(profile, host)
    if all(ward.process() is None for ward in _left(profile)):  # else it is the next engine's already
        wards_file(profile).unlink(missing_ok=True)


def _messages() -> Iterable[dict[str, Any]]:
    rest = b""
    while True:
        part = os.read(0, 65536)
        if not part:
            return
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield json.loads(line)


def end_all(wards: Iterable[Ward], grace_s: float = GRACE_S) -> None:
    """Stop our own processes, all at once, then the servers that they used; killed after ``grace_s`` each time."""
    running = [(ward, process) for ward in wards if (process := ward.process()) is not None]
    ours = [process for ward, process in running if ward.role not in SERVER_ROLES]
    servers = [(ward, process) for ward, process in running if ward.role in SERVER_ROLES]
    _at_once([(process, signal.SIGTERM) for process in ours], grace_s)
    _at_once(
        [(process, signal.SIGINT if ward.role == "database" else signal.SIGTERM) for ward, process in servers], grace_s
    )


def _at_once(targets: list[tuple[psutil.Process, int]], grace_s: float) -> None:
    threads = [threading.Thread(target=server.end, args=(process, number, grace_s)) for process, number in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Keeper:
    """The host's end: starts the keeper, tells it of each part, and starts another one should it be killed."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._wards: dict[int, Ward] = {}
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._ending = threading.Event()

    @property
    def pid(self) -> int | None:
        child = self._child
        return child.pid if child is not None and child.ended() is None else None

    def start(self) -> None:
        """Start it and watch over it.

        Raises:
            StartError: it cannot be started.
        """
        self._spawn()
        threading.Thread(target=self._watch, name="keeper-watch", daemon=True).start()

    def add(self, role: str, pid: int, started: float) -> None:
        """Tell it of a part that was started just now."""
        with self._lock:
            living = {known.pid: known for known in self._wards.values() if known.process() is not None}
            ward = Ward(role, pid, started)
            self._wards = {**living, pid: ward}
            self._write()  # first: a start that comes before a slow keeper has read its pipe then knows it too
            if self._child is not None:
                self._child.send(asdict(ward))

    def left(self) -> list[psutil.Process]:
        """Parts that still run."""
        with self._lock:
            wards = list(self._wards.values())
        return [process for ward in wards if (process := ward.process()) is not None]

    def farewell(self) -> None:
        """Everything has ended in order: it may go."""
        self._ending.set()
        with self._lock:
            child = self._child
        if child is not None:
            child.send({"farewell": True})
            child.stop(0.5)  # killed, it leaves nothing undone
        wards_file(self._profile).unlink(missing_ok=True)

    def _spawn(self) -> None:
        log = self._profile.logs / "keeper.log"
        with self._lock:
            self._child = spawn_self("keeper", ["keeper"], log=log, environment={_HOST: str(os.getpid())})
            for ward in self._wards.values():
                self._child.send(asdict(ward))

    def _watch(self) -> None:
        pause = 0.1
        while not self._ending.is_set():
            child = self._child
            if child is not None:
                child.wait()
            if self._ending.wait(pause):
                return
            pause = min(pause * 2, 10.0)
            try:
                self._spawn()
            except StartError:
                continue  # tried again; the parts' own watch of our pipe stays

    def _write(self) -> None:
        # Only a start after host and keeper were both killed reads it: a full disk must not end a part for it.
        with contextlib.suppress(OSError):
            text = json.dumps([asdict(ward) for ward in self._wards.values()])
            server.write_private(wards_file(self._profile), text)


def clean_up(profile: Profile, deadline_s: float = 15.0) -> None:
    """Before a start: let the last engine's keeper finish, and end what both left. We hold the profile's lock.

    Raises:
        StartError: a keeper of the last engine neither ends nor gives up.
    """
    end = clock.monotonic() + deadline_s
    try:
        with filelock.FileLock(lock_file(profile)).acquire(
            timeout=max(0.0, end - clock.monotonic()), poll_interval=0.02
        ):
            end_all(_left(profile), 3.0)
    except filelock.Timeout:
        raise StartError(
            f"The last engine of this profile is still ending; its keeper's log is {profile.logs / 'keeper.log'}."
        ) from None
    wards_file(profile).unlink(missing_ok=True)


def _left(profile: Profile) -> list[Ward]:
    try:
        found = json.loads(wards_file(profile).read_text(encoding="utf-8"))
        return [Ward(str(row["role"]), int(row["pid"]), float(row["started"])) for row in found]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _job() -> _Job:
    if sys.platform == "win32":
        from engine.host.windows_job import WindowsJob

        return WindowsJob()
    return _Job()


class _Job:
    """Where the system has no Job Objects the pipe alone does it."""

    def take(self, pid: int) -> None:
        """Tie a process's life to ours."""
