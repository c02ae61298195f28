"""A database that stops taking writes, really: by its setting, by a full disk, as a standby."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from engine.host import postgres
from engine.host.postgres import Postgres
from engine.profile import Profile, prepare
from engine.store import migrate
from tests.support import servers
from tests.support.wait import until

_SETTING = "default_transaction_read_only"


@contextlib.contextmanager
def server() -> Iterator[Postgres]:
    """A migrated server of one test's own."""
    with servers.throwaway_profile(folder=servers.memory_folder()) as profile:
        made = Postgres(profile, durable=False)
        made.start()
        try:
            _migrate(made.url)
            yield made
        finally:
            made.stop()


def _migrate(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for role in servers.SUPABASE_ROLES:
            connection.execute(f"create role {role} nologin".encode())
    migrate.migrate(url)


def read_only(url: str, on: bool) -> None:
    """What a provider does whose customer's disk is nearly full, and takes back: for new and for open connections."""
    with psycopg.connect(url, autocommit=True, options=f"-c {_SETTING}=off") as connection:
        connection.execute(f"alter system set {_SETTING} = {'on' if on else 'off'}".encode())
        connection.execute("select pg_reload_conf()")
    until(lambda: _setting(url) == ("on" if on else "off"), what="the reload")


def _setting(url: str) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(f"show {_SETTING}".encode()).fetchone()
        assert row is not None
        return str(row[0])


class SmallDisk:
    """A file system of its own for one server, and a file that fills it."""

    def __init__(self, folder: Path, made: Postgres) -> None:
        self._filler = folder / "filler"
        self.server = made
        self.url = made.url

    def fill(self, leave: int = 0) -> None:
        """Leave no more than ``leave`` bytes, with a log that has room: one that has none ends the whole server."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("select pg_switch_wal()")
            connection.execute("checkpoint")
        found = os.statvfs(self._filler.parent)
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, found.f_bavail * found.f_frsize - leave))

    def free(self) -> None:
        """Give the room back."""
        self._filler.unlink()


@contextlib.contextmanager
def small_disk(megabytes: int = 300) -> Iterator[SmallDisk]:
    """A server on a small tmpfs; skips by name where none can be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="syncdesk-small-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("needs the right to mount a small file system")
    try:
        profile = Profile("small", folder / "profile")
        prepare(profile)
        made = Postgres(profile, durable=False)
        made.start()
        try:
            _migrate(made.url)
            yield SmallDisk(folder, made)
        finally:
            made.stop()
            postgres.forget(profile)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()
