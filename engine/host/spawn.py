"""The one seam that starts our own processes, frozen or not, with a pipe that only the host holds."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from engine import clock
from engine.errors import StartError
from engine.host.binaries_process import rotate
from engine.launch import self_command, self_environment
from engine.logs import SUPERVISED
from engine.processes import start_time


class Child:
    """One process of ours, known by pid and start time."""

    def __init__(self, role: str, process: subprocess.Popen[bytes]) -> None:
        self.role = role
        self._process = process
        self.pid = process.pid
        self.started = _started(process.pid)
        self.began = clock.now()
        self._writing = threading.Lock()

    def send(self, message: Mapping[str, Any]) -> bool:
        """Write one JSON line into its pipe; False: it is gone."""
        pipe = self._process.stdin
        with self._writing:
            try:
                if pipe is None or pipe.closed:
                    return False
                pipe.write(json.dumps(message).encode() + b"\n")
                pipe.flush()
            except OSError:
                return False
        return True

    def ended(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for its end; None: it still runs after ``timeout_s``."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def release(self) -> None:
        """Close its pipe: the child takes that as the order to end in order."""
        with self._writing, contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()

    def stop(self, grace_s: float) -> int | None:
        """Have it end in order; killed when it does not within ``grace_s``. Its exit code."""
        self.release()
        if self.wait(grace_s * 0.9) is None:
            with contextlib.suppress(OSError):
                self._process.terminate()
            if self.wait(grace_s * 0.1) is None:
                with contextlib.suppress(OSError):
                    self._process.kill()
                self.wait(1.0)
        return self.ended()


def _started(pid: int) -> float:
    try:
        return start_time(pid)
    except psutil.Error:
        return 0.0


def spawn_self(
    role: str, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> Child:
    """Start ``syncdeskctl ARGUMENTS`` as a part of this host, in a session of its own so that Ctrl+C is ours alone.

    What it writes to stdout and stderr goes to ``log``; its own log lines go to its own file.

    Raises:
        StartError: the program cannot be run or the log not be written.
    """
    try:
        rotate(log)
        with open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as output:
            process = subprocess.Popen(
                self_command(list(arguments)),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=self_environment({**os.environ, **(environment or {}), SUPERVISED: "1"}),
                **_apart(),
            )
    except OSError as error:
        raise StartError(f"The {role} cannot be started: {error.strerror}. Its log is {log}.", log=str(log)) from error
    return Child(role, process)


def _apart() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}
