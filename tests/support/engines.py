"""Whole engines for tests: ``syncdeskctl up`` as a process of its own on a throw-away profile."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from engine import launch
from engine.host import keeper, postgres
from engine.http import open_here
from engine.processes import alive
from engine.profile import Profile
from tests.support import tether
from tests.support.wait import until

ROOT = Path(__file__).parent.parent.parent
#: Nothing listens there: for tests that need no bank.
NO_BANK = {"SYNCDESK_PLAID_URL": "http://127.0.0.1:9"}
#: Ten seconds are promised for an engine's end, whatever hangs; what is beyond them is for a machine with much to do.
END_S = 20.0
#: For a keeper's work after its host was killed: each of its two steps may take five seconds.
LEFT_BEHIND_S = 40.0
#: The parts of an engine without a simulated bank.
ROLES = {"host", "keeper", "broker", "database", "worker-sync", "worker-events", "scheduler"}


def health(url: str) -> int:
    """The status that ``/health`` of the listener at ``url`` answers with."""
    try:
        with open_here(f"{url}/health", 20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return refusal.code


def clean_environment(**more: str) -> dict[str, str]:
    """Ours without anything that would lead to real services or another profile."""
    ours = ("SYNCDESK_", "PLAID_", "SUPABASE_", "DATABASE_", "REDIS_", "API_PORT", "WORKER_HEALTH_PORT", "CRON_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "SYNCDESK_SECRETS": "file", **more}


class Engine:
    """An engine on a profile folder, and the commands on it."""

    def __init__(self, profile: Profile, environment: dict[str, str]) -> None:
        self.profile = profile
        given = clean_environment(SYNCDESK_PROFILE=str(profile.root), **environment)
        self.environment = launch.self_environment(given)
        self.process: subprocess.Popen[str] | None = None
        self.pids: dict[str, psutil.Process] = {}

    def command(self, *arguments: str) -> list[str]:
        return launch.self_command(list(arguments))

    def up(self, *, wait: bool = True) -> Engine:
        """Start it in the background; with ``wait`` until it is ready."""
        with open(self.profile.root / "up.out", "ab") as output:
            self.process = subprocess.Popen(
                self.command("up"), cwd=self.profile.root, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, text=True, start_new_session=True,
            )  # fmt: skip
        if wait:
            self.ready()
        return self

    def ready(self, deadline_s: float = 60.0) -> launch.Discovery:
        """Wait until it is ready."""
        assert self.process is not None
        process = self.process

        def look() -> launch.Discovery | None:
            assert process.poll() is None, self.output()
            return launch.read(self.profile)

        found = until(look, deadline_s, "a ready engine")
        until(self._all_run, deadline_s, "every part of the engine")
        return found

    def _all_run(self) -> bool:
        """Note the parts' pids; whether each runs, or was given up. The last ones start while it is ready."""
        rows = self.look()["processes"]
        self.pids = {row["role"]: psutil.Process(row["pid"]) for row in rows if row["pid"]}
        return all((row["pid"] and row["state"] == "running") or row["state"] == "given_up" for row in rows)

    def output(self) -> str:
        return (self.profile.root / "up.out").read_text()

    def run(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run one command of ``syncdeskctl`` on this profile to its end."""
        return subprocess.run(
            self.command(*arguments), cwd=self.profile.root, env=self.environment, capture_output=True, text=True,
            timeout=timeout_s, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def look(self) -> dict[str, Any]:
        """Its status over the admin API; it must be running."""
        found = launch.read(self.profile)
        assert found is not None, self.output()
        document: dict[str, Any] = launch.call(found, "GET", "/api/status", 20)
        return document

    def row(self, role: str) -> dict[str, Any]:
        """One process of its status."""
        return next(row for row in self.look()["processes"] if row["role"] == role)

    def status(self) -> dict[str, Any]:
        """``syncdeskctl status --json``."""
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def gone(self) -> bool:
        """Whether no process of it is left."""
        return not [process for process in self.pids.values() if alive(process)]

    def end(self) -> None:
        """End it however it stands; nothing of it is left."""
        with contextlib.suppress(Exception):
            launch.stop(self.profile)
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.send_signal(signal.SIGTERM)
                self.process.wait(15)
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(5)
        with contextlib.suppress(Exception):
            keeper.clean_up(self.profile)


@contextlib.contextmanager
def engine(**environment: str) -> Iterator[Engine]:
    """An engine that was not started yet, on a fresh profile; ended and removed at the end."""
    profile = Profile("test", Path(tempfile.mkdtemp(prefix="syncdesk-engine-")))
    tether.hold(profile.root)
    made = Engine(profile, environment)
    try:
        yield made
    finally:
        made.end()
        postgres.forget(profile)
        shutil.rmtree(profile.root, ignore_errors=True)
