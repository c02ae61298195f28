"""Starting and stopping one server program: its log, its record, its end, and why it did not start."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from engine import clock
from engine.errors import StartError
from engine.host.binaries import Account
from engine.processes import alive, running, start_time

_POLL_S = 0.005
_LOG_LIMIT = 4_000_000
#: Waits for a line, then becomes the program, with the same pid and start time; at the end of its input it ends.
_GATE = 'read -r go && exec "$0" "$@" </dev/null'

Launched = Callable[[int, float], None]
"""Is told pid and start time of a process before its program runs."""


@dataclass(frozen=True)
class Record:
    """What a started server leaves in a file of the profile, for its owner alone."""

    url: str
    pid: int
    started: float


@dataclass(frozen=True)
class Server:
    """A running server program."""

    process: psutil.Process
    child: subprocess.Popen[bytes] | None = None
    started: float = 0.0  # `processes.start_time`

    @property
    def pid(self) -> int:
        return int(self.process.pid)

    def ended(self) -> int | None:
        """The exit code once it has ended (-1 where nobody can know it), None while it runs."""
        code = self.child.poll() if self.child is not None else None
        if code is None and not alive(self.process):
            return -1  # gone, and its code not collected yet
        return code


def clean_environment() -> dict[str, str]:
    """What a server program needs of our environment: no secret, no PG variable, no library path of a frozen app."""
    kept = ("PATH", "SYSTEMROOT", "TEMP", "TMP")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C", "TZ": "UTC"}


def launch(command: Sequence[str], log: Path, account: Account | None, launched: Launched | None = None) -> Server:
    """Start a program in a session of its own, so that Ctrl+C reaches the host alone and the host ends it in order.

    It runs only when ``launched`` has returned: a host that is killed at any moment leaves no program behind that
    nobody knows of, for what was to become it ends with our end of its pipe.

    Raises:
        StartError: the program cannot be run or the log not be written.
    """
    try:
        os.stat(command[0])
        rotate(log)
        with open(log, "ab", opener=_private) as output:
            child = subprocess.Popen(
                _gated(command),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd="/" if sys.platform != "win32" else None,
                env=clean_environment(),
                **_apart(account),
            )
    except OSError as error:
        raise StartError(f"Cannot start {command[0]}: {error.strerror}. Its log is {log}.", log=str(log)) from error
    # Looked up before it is reaped: one that ended at once is then still known, and `Server.ended` tells its code.
    started = known(child.pid, child)
    if launched is not None:
        launched(started.pid, started.started)
    _let_go(child)
    # Otherwise it would be a zombie for whoever looks from outside until the host asks for its code.
    threading.Thread(target=child.wait, name=f"reap-{child.pid}", daemon=True).start()
    return started


def _gated(command: Sequence[str]) -> list[str]:
    # Windows has no such shell and needs none: there a job object holds what the keeper was told of.
    return list(command) if sys.platform == "win32" else ["/bin/sh", "-c", _GATE, *command]


def _let_go(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):  # ended already
        if child.stdin is not None:
            with child.stdin as pipe:
                pipe.write(b"go\n")


def known(pid: int, child: subprocess.Popen[bytes] | None = None) -> Server:
    """The server of that pid. One that has ended already is told by `Server.ended`.

    Raises:
        StartError: no child of ours, and no such process.
    """
    try:
        return Server(psutil.Process(pid), child, start_time(pid))
    except psutil.Error as error:
        raise StartError(f"The process {pid} ended at once.") from error


def run(command: Sequence[str], log: Path, account: Account | None, launched: Launched | None = None) -> int:
    """Run a program as `launch` does, and to its end; the exit code.

    Raises:
        StartError: the program cannot be run or the log not be written.
    """
    child = launch(command, log, account, launched).child
    return child.wait() if child is not None else -1


def _apart(account: Account | None) -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    if account is None:
        return {"start_new_session": True}
    return {"start_new_session": True, "user": account.uid, "group": account.gid, "extra_groups": []}


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def rotate(log: Path) -> None:
    """Put a log that has grown aside; a server holds its log open, so this happens at its start."""
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        os.replace(log, log.with_suffix(".log.1"))


def write_private(path: Path, text: str) -> None:
    """Write a small file that its owner alone can read, whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with open(fresh, "w", encoding="utf-8", opener=_private) as file:
        file.write(text)
    os.replace(fresh, path)


def wait_until(ready: Callable[[], bool], server: Server, deadline_s: float) -> bool:
    """Poll until it is ready: True; False when the program ended or the deadline passed."""
    end = clock.monotonic() + deadline_s
    pause = threading.Event()
    while server.ended() is None and clock.monotonic() < end:
        if ready():
            return True
        pause.wait(_POLL_S)
    return False


def end(process: psutil.Process, polite: int, deadline_s: float) -> None:
    """Ask a process to end by the signal ``polite``; kill it after the deadline. One that is gone is fine."""
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        if sys.platform == "win32" and polite == signal.SIGINT:
            process.terminate()
        else:
            process.send_signal(polite)
        limit = clock.monotonic() + deadline_s
        pause = threading.Event()
        while alive(process) and clock.monotonic() < limit:
            pause.wait(_POLL_S)
        if alive(process):
            process.kill()
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(5)


def save_record(path: Path, record: Record) -> None:
    """Leave the record of a running server."""
    write_private(path, json.dumps({"url": record.url, "pid": record.pid, "started": record.started}))


def read_record(path: Path) -> Record | None:
    """The record of a server that runs now; None when there is none or its process is another's."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        record = Record(str(found["url"]), int(found["pid"]), float(found["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if running(record.pid, record.started) else None


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_REASONS: Mapping[str, str] = {
    "no space left on device": "the disk is full",
    "address already in use": "another program has its port",
    "could not bind": "another program has its port",
    "permission denied": "a folder or file is closed to it",
    "read-only file system": "the file system is read-only",
    "could not map anonymous shared memory": "there is too little memory",
    "cannot allocate memory": "there is too little memory",
    "incompatible with server": "the data was made by another version",
}


def explain(what: str, log: Path, since: int) -> StartError:
    """Why a server did not start, in one sentence with the path of its log. ``since``: size of the log before."""
    text = log_since(log, since).lower()
    reason = next((reason for sign, reason in _REASONS.items() if sign in text), "it ended or did not answer in time")
    return StartError(f"{what} did not start: {reason}. Its log is {log}.", log=str(log))


def log_size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def log_since(log: Path, since: int) -> str:
    """What was written to the log after it had ``since`` bytes."""
    with contextlib.suppress(OSError), open(log, "rb") as file:
        file.seek(since if log_size(log) >= since else 0)
        return file.read(100_000).decode("utf-8", "replace")
    return ""
