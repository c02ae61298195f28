"""Finding, starting and ending an engine from outside it. Light: the console loads this before its first window.

An engine tells where it is in two files of its profile, readable by the user alone: ``engine.json`` once it is
ready (`Discovery`), ``run/start.json`` while it starts or when it could not (`Progress`). Neither is believed by
its pid alone: a pid may meanwhile belong to another program, so the process's start time must agree.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from engine import clock
from engine.errors import NotRunningError, StartError
from engine.http import open_here
from engine.processes import running
from engine.profile import Profile, prepare


@dataclass(frozen=True)
class Discovery:
    """A running engine: who it is, where its listeners are (URLs), and its admin token."""

    pid: int
    started: float
    version: str
    profile: str
    public: str | None
    admin: str | None
    health: str | None
    token: str = field(repr=False)


@dataclass(frozen=True)
class Progress:
    """How far an engine's start is; ``error`` is the sentence with which it gave up."""

    pid: int
    started: float
    state: Literal["starting", "ready", "failed"]
    step: str
    error: str | None = None


def progress_file(profile: Profile) -> Path:
    return profile.run / "start.json"


def read(profile: Profile) -> Discovery | None:
    """The engine that runs on this profile now and is ready; None: there is none."""
    found = _json(profile.discovery_file)
    try:
        ends = found["endpoints"]
        known = Discovery(
            pid=int(found["pid"]),
            started=float(found["started"]),
            version=str(found["version"]),
            profile=str(found["profile"]),
            public=ends["public"],
            admin=ends["admin"],
            health=ends["health"],
            token=str(found["token"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
    return known if running(known.pid, known.started) else None


def progress(profile: Profile) -> Progress | None:
    """How far the latest start on this profile came; None where nothing is known or that process is gone.

    A failed start is told also when its process has ended.
    """
    found = _json(progress_file(profile))
    try:
        known = Progress(
            pid=int(found["pid"]),
            started=float(found["started"]),
            state=found["state"],
            step=str(found["step"]),
            error=found["error"],
        )
    except (KeyError, TypeError, ValueError):
        return None
    if known.state == "failed" or running(known.pid, known.started):
        return known
    return None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def self_command(arguments: list[str]) -> list[str]:
    """The command line of ``syncdeskctl`` with these arguments, from a frozen app or not."""
    if getattr(sys, "frozen", False):
        suffix = ".exe" if sys.platform == "win32" else ""
        return [str(Path(sys.executable).with_name(f"syncdeskctl{suffix}")), *arguments]
    # -P: whatever lies in the current folder is no module of ours.
    return [sys.executable, "-P", "-m", "scheduler.command", *arguments]


def self_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` for `self_command`: where the packages are not installed (a clone), it says where they lie."""
    home = Path(__file__).parent.parent
    if getattr(sys, "frozen", False) or home.name in ("site-packages", "dist-packages"):
        return dict(environ)
    before = environ.get("PYTHONPATH")
    return {**environ, "PYTHONPATH": str(home) + (os.pathsep + before if before else "")}


class Starting:
    """An engine that was started for this profile, or is starting there already."""

    def __init__(self, profile: Profile, child: subprocess.Popen[bytes] | None, log: Path) -> None:
        self.profile = profile
        self._child = child
        self._log = log

    def poll(self) -> Discovery | Progress | None:
        """The engine once it is ready; before that how far it is, None while nothing was heard yet.

        Raises:
            StartError: it gave up, in its own words.
        """
        ready = read(self.profile)
        if ready is not None:
            return ready
        step = progress(self.profile)
        mine = self._child is None or (step is not None and step.pid == self._child.pid)
        if step is not None and step.state == "failed" and mine:
            raise StartError(step.error or f"The engine did not start. Its log is {self._log}.", log=str(self._log))
        if self._child is not None and self._child.poll() is not None:
            late = read(self.profile)  # another engine was first: ours found the profile taken
            if late is not None:
                return late
            other = progress(self.profile)
            if other is not None and other.state == "starting":
                self._child = None
                return other
            raise StartError(f"The engine ended while it started. Its log is {self._log}.", log=str(self._log))
        return step if step is not None and step.state == "starting" else None

    def wait(self, deadline_s: float = 60.0) -> Discovery:
        """Wait until it is ready.

        Raises:
            StartError: it gave up, or the deadline passed.
        """
        end = clock.monotonic() + deadline_s
        pause = threading.Event()
        while clock.monotonic() < end:
            found = self.poll()
            if isinstance(found, Discovery):
                return found
            pause.wait(0.05)
        raise StartError(f"The engine was not ready after {deadline_s:g} s. Its log is {self._log}.")


def start(profile: Profile) -> Starting:
    """Start an engine of its own life: it goes on when the caller ends. Returns at once; follow it by `Starting`.

    Raises:
        ProfileError: the profile's folder cannot be used.
        StartError: the program cannot be run.
    """
    prepare(profile)
    log = profile.logs / "host.out.log"
    known = progress(profile)
    if read(profile) is not None or (known is not None and known.state == "starting"):
        return Starting(profile, None, log)
    environment = self_environment({**os.environ, "SYNCDESK_PROFILE": str(profile.root)})
    if profile.is_default:
        environment["SYNCDESK_PROFILE"] = profile.name
    try:
        child = _spawn(log, environment, _detached())
    except PermissionError:  # on Windows: we are in a job that lets nobody go
        child = _try_attached(log, environment)
    except OSError as error:
        raise StartError(f"The engine cannot be started: {error.strerror}. Its log is {log}.") from error
    # Else it would be a zombie of ours when it ends before we do, as it does where it finds the profile taken.
    threading.Thread(target=child.wait, name="engine-reaper", daemon=True).start()
    return Starting(profile, child, log)


def _spawn(log: Path, environment: dict[str, str], how: dict[str, Any]) -> subprocess.Popen[bytes]:
    with open(log, "ab", opener=_private) as output:
        return subprocess.Popen(
            self_command(["up"]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            **how,
        )


def _try_attached(log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    try:
        return _spawn(log, environment, _detached(breakaway=False))
    except OSError as error:
        raise StartError(f"The engine cannot be started: {error.strerror}. Its log is {log}.") from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _detached(breakaway: bool = True) -> dict[str, Any]:
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        if breakaway:
            flags |= subprocess.CREATE_BREAKAWAY_FROM_JOB
        return {"creationflags": flags}
    return {"start_new_session": True}


def call(engine: Discovery, method: str, path: str, timeout_s: float = 5.0) -> Any:
    """One call of the admin API without a body; the engine first proves that it knows the token.

    Raises:
        NotRunningError: it does not answer, or is not the engine that wrote the file.
    """
    nonce = secrets.token_hex(16)
    hello = _fetch(engine, "GET", f"/api/hello?nonce={nonce}", timeout_s, token=False)
    wanted = hmac.new(engine.token.encode(), nonce.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(str(hello.get("proof")), wanted):
        raise NotRunningError(f"What answers at {engine.admin} is not this profile's engine.")
    return _fetch(engine, method, path, timeout_s, token=True)


def _fetch(engine: Discovery, method: str, path: str, timeout_s: float, *, token: bool) -> Any:
    import http.client
    import urllib.request  # loads much, which the console's first window does not need

    headers = {"Authorization": f"Bearer {engine.token}"} if token else {}
    data = b"{}" if method == "POST" else None
    if data:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(f"{engine.admin}{path}", data=data, headers=headers, method=method)  # noqa: S310
    try:
        with open_here(request, timeout_s) as answer:
            return json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:  # also half an answer
        raise NotRunningError(f"The engine (process {engine.pid}) does not answer at {engine.admin}.") from error


def stop(profile: Profile, deadline_s: float = 20.0) -> bool:
    """End the engine of this profile and wait until it is gone; False: none ran.

    Raises:
        NotRunningError: it did not end in time.
    """
    engine = read(profile)
    starting = progress(profile)
    if engine is not None:
        try:
            call(engine, "POST", "/api/engine/stop")
        except NotRunningError:
            _signal(engine.pid, engine.started)
        pid, started = engine.pid, engine.started
    elif starting is not None and starting.state != "failed":
        _signal(starting.pid, starting.started)
        pid, started = starting.pid, starting.started
    else:
        return False
    end = clock.monotonic() + deadline_s
    pause = threading.Event()
    while clock.monotonic() < end:
        if running(pid, started) is None:
            return True
        pause.wait(0.02)
    raise NotRunningError(f"The engine (process {pid}) did not end within {deadline_s:g} s.")


def _signal(pid: int, started: float) -> None:
    """SIGTERM; on Windows, which has none, the process ends and its keeper stops the parts."""
    process = running(pid, started)
    if process is not None:
        with contextlib.suppress(psutil.Error, OSError):
            process.send_signal(signal.SIGTERM)
