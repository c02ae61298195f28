"""The broker that comes with Syncdesk: our own launch of a Valkey (or Redis) server.

Loopback with a password that is in a file of the profile alone, never in the command line. What it holds may be
lost at any moment (Postgres knows what is unfinished), so a damaged file is put aside rather than mourned.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
from pathlib import Path

from engine import clock
from engine.errors import StartError
from engine.host import binaries
from engine.host import binaries_process as server
from engine.launch import self_command
from engine.processes import running
from engine.profile import Profile

_ATTEMPTS = 3
_SETTINGS = """\
bind 127.0.0.1
protected-mode yes
tcp-backlog 128
daemonize no
supervised no
databases 1
maxclients 1000
maxmemory-policy noeviction
loglevel notice
logfile ""
save ""
appendonly {durable}
appendfsync everysec
auto-aof-rewrite-min-size 16mb
aof-load-truncated yes
"""


class Valkey:
    """One profile's broker. ``program`` names another server than the wheel's; not ``durable``: keeps no file.

    ``launched`` is told pid and start time of each server before its program runs.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        program: Path | None = None,
        durable: bool = True,
        launched: server.Launched | None = None,
    ) -> None:
        self.profile = profile
        self.log = profile.logs / "valkey.log"
        self._program = program
        self._durable = durable
        self._launched = launched
        self._password = secrets.token_urlsafe(24)
        self._port: int | None = None
        self._server: server.Server | None = None

    @property
    def pid(self) -> int | None:
        """The server's pid, None while it does not run."""
        return self._server.pid if self._server and self._server.ended() is None else None

    @property
    def started(self) -> float | None:
        """Start time of that process, seconds since the epoch."""
        return self._server.started if self._server else None

    @property
    def url(self) -> str:
        """What Redis clients connect with. It stays the same when this object starts the server again.

        Raises:
            StartError: it was never started.
        """
        if self._port is None:
            raise StartError("The broker was not started yet.")
        password = "" if self.light else f":{self._password}@"
        return f"redis://{password}127.0.0.1:{self._port}/0"

    @property
    def light(self) -> bool:
        """Whether it is the light broker, for want of a real server: no password, nothing kept."""
        return self._program is None and binaries.valkey_server() is None

    def alive(self) -> bool:
        """Whether the server runs."""
        return self.pid is not None

    def start(self, deadline_s: float = 30.0) -> None:
        """Start the server and wait until it answers.

        Raises:
            StartError: a sentence for the person, with the path of the log.
        """
        deadline = clock.monotonic() + deadline_s
        try:
            self._prepare()
            before = server.log_size(self.log)
            for attempt in range(_ATTEMPTS):
                before = server.log_size(self.log)
                if self._try(deadline, keep_port=attempt == 0):
                    return
                self._cure(before)
        except OSError as error:
            place = error.filename or self.profile.root
            raise StartError(f"The broker did not start: {place}: {error.strerror}. Its log is {self.log}.") from error
        raise server.explain("The broker", self.log, before)

    def stop(self, deadline_s: float = 5.0) -> None:
        """Ask it to end, which writes its file; killed after the deadline."""
        if self._server is not None:
            server.end(self._server.process, signal.SIGTERM, deadline_s)
            self._server = None
        record_file(self.profile).unlink(missing_ok=True)

    def _prepare(self) -> None:
        for folder in (self.profile.root, self.profile.logs, self.profile.run, self.profile.broker_data):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        left = server.read_record(record_file(self.profile))
        orphan = running(left.pid, left.started) if left else None
        if orphan is not None:  # we hold the profile's lock: its engine is gone
            server.end(orphan, signal.SIGTERM, 3.0)

    def _try(self, deadline: float, keep_port: bool) -> bool:
        if self._port is None or not keep_port:
            self._port = server.free_port()
        started = server.launch(self._command(), self.log, None, self._launched)
        if not server.wait_until(self._answers, started, deadline - clock.monotonic()):
            server.end(started.process, signal.SIGTERM, 1)
            return False
        self._server = started
        server.save_record(record_file(self.profile), server.Record(self.url, started.pid, started.started))
        return True

    def _command(self) -> list[str]:
        program = self._program or binaries.valkey_server()
        if program is None:
            return self_command(["light-broker", "--port", str(self._port)])
        config = self.profile.run / "valkey.conf"
        server.write_private(config, self._config())
        return [str(program), str(config)]

    def _config(self) -> str:
        lines = _SETTINGS.format(durable="yes" if self._durable else "no")
        return lines + f"port {self._port}\nrequirepass {self._password}\ndir {_quoted(self.profile.broker_data)}\n"

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port or 0), 1.0) as connection:
            ask = (
                _command_bytes("PING")
                if self.light
                else _command_bytes("AUTH", self._password) + _command_bytes("PING")
            )
            answer = b"+PONG\r\n" if self.light else b"+OK\r\n+PONG\r\n"  # while it loads its file: -LOADING
            connection.sendall(ask)
            heard = b""
            while heard.count(b"\r\n") < answer.count(b"\r\n"):
                part = connection.recv(256)
                if not part:
                    return False
                heard += part
            return heard == answer
        return False

    def _cure(self, before: int) -> None:
        """What another attempt can mend: a port that was taken meanwhile, a damaged file. Else the reason is final."""
        said = server.log_since(self.log, before).lower()
        if "address already in use" in said:
            return
        if "append only file" in said and ("bad file format" in said or "unexpected" in said or "error" in said):
            aside = self.profile.broker_data.with_name(f"valkey.damaged-{clock.now():%Y%m%d%H%M%S%f}")
            os.replace(self.profile.broker_data, aside)
            self.profile.broker_data.mkdir(mode=0o700)
            return
        raise server.explain("The broker", self.log, before)


def record_file(profile: Profile) -> Path:
    """Where the running broker's URL, pid and start time are, for the user alone."""
    return profile.root / "queue.json"


def running_url(profile: Profile) -> str | None:
    """The URL of the profile's broker if it runs now."""
    record = server.read_record(record_file(profile))
    return record.url if record else None


def _command_bytes(*words: str) -> bytes:
    """A command as clients send it."""
    parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    return f"*{len(words)}\r\n{parts}".encode()


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
