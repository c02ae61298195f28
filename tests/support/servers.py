"""Real servers for tests: embedded Postgres and Valkey by the engine's own launchers, each in its own folder."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from engine.host import postgres
from engine.host.binaries_process import end, read_record, write_private
from engine.host.postgres import Postgres
from engine.host.valkey import Valkey
from engine.processes import alive, running, start_time
from engine.profile import Profile, prepare
from engine.store import migrate
from tests.support import tether
from tests.support.wait import until

TEMPLATE = "syncdesk_template"
#: Roles that a Supabase project has; the schema's grants are tested with them.
SUPABASE_ROLES = ("anon", "authenticated", "service_role")
_names = itertools.count(1)


def memory_folder() -> str | None:
    """Where files never touch a disk, if there is room: copying the template there takes a quarter of the time."""
    folder = Path("/dev/shm")
    roomy = folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > 2_000_000_000
    return str(folder) if roomy else None


@contextlib.contextmanager
def throwaway_profile(name: str = "test", folder: str | None = None) -> Iterator[Profile]:
    """A prepared profile in a temporary folder, removed at the end together with its database."""
    profile = Profile(name, Path(tempfile.mkdtemp(prefix="syncdesk-test-", dir=folder)))
    tether.hold(profile.root)
    prepare(profile)
    try:
        yield profile
    finally:
        postgres.forget(profile)
        shutil.rmtree(profile.root, ignore_errors=True)


class Cluster:
    """One Postgres server with a migrated template database, from which every test gets a fresh copy."""

    def __init__(self, server: Postgres) -> None:
        self.server = server

    def prepare(self) -> None:
        """Make the roles of a Supabase project and the template."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            for role in SUPABASE_ROLES:
                connection.execute(sql.SQL("create role {} nologin").format(sql.Identifier(role)))
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
        migrate.migrate(self.url(TEMPLATE))

    def url(self, database: str) -> str:
        """The URL of one database of the server."""
        return self.server.url.replace(f"/{postgres.DATABASE}?", f"/{database}?")

    @contextlib.contextmanager
    def fresh(self, template: str = TEMPLATE) -> Iterator[str]:
        """A database made from the template; dropped at the end with whoever is still connected."""
        name = f"test_{next(_names)}"
        words = sql.Identifier(name), sql.Identifier(template)
        self._change(sql.SQL("create database {} template {} strategy wal_log").format(*words))
        try:
            yield self.url(name)
        finally:
            self._change(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    def _change(self, statement: sql.Composed) -> None:
        """Make or drop a database. Whoever still leaves it may need more than the five seconds that Postgres waits."""

        def changed() -> bool:
            try:
                connection.execute(statement)
            except psycopg.errors.ObjectInUse:
                return False
            return True

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            until(changed, 60, "a database that nobody is in")


def sweep() -> None:
    """End and remove the servers that a killed test run left behind; nobody else would."""
    for runner in Path(memory_folder() or tempfile.gettempdir()).glob("syncdesk-test-*/runner"):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # swept by another run, or another user's
            pid, started = runner.read_text().split()
            if running(int(pid), float(started)) is None:
                record = read_record(postgres.record_file(Profile("left", runner.parent)))
                process = running(record.pid, record.started) if record else None
                if process is not None:
                    end(process, signal.SIGINT, 5)
                shutil.rmtree(runner.parent, ignore_errors=True)


@contextlib.contextmanager
def cluster(home: Path | None = None) -> Iterator[Cluster]:
    """A running server with its template; ``home`` names other Postgres programs than the wheel's."""
    sweep()
    with throwaway_profile(folder=memory_folder()) as profile:
        write_private(profile.root / "runner", f"{os.getpid()} {start_time(os.getpid())}")
        server = Postgres(profile, home=home, durable=False)
        server.start()
        try:
            made = Cluster(server)
            made.prepare()
            yield made
        finally:
            server.stop()


@contextlib.contextmanager
def broker(make: Callable[[Profile], Valkey] | None = None) -> Iterator[Valkey]:
    """A running broker; ``make`` gives another than the wheel's."""
    with throwaway_profile() as profile:
        server = make(profile) if make else Valkey(profile, durable=False)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def query(url: str, text: str) -> object:
    """The first value that ``text`` answers; None where it answers nothing."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(text.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def kill(pid: int | None) -> None:
    """End a process as a crash would, and wait until it has."""
    assert pid
    process = psutil.Process(pid)
    process.kill()
    until(lambda: not alive(process))


def dead(pid: int) -> bool:
    """Whether no process of that pid runs; one that nobody has reaped yet does not."""
    try:
        return not alive(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True
