"""Which parts this engine has, in which order they start and end, and what each is told of the others."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from engine import clock
from engine.api.types import Endpoints, ProcessInfo
from engine.errors import Conflict, NotFound, StartError, SyncdeskError
from engine.host import libpq, ports
from engine.host.binaries_process import free_port
from engine.host.keeper import Keeper
from engine.host.parts import Part, ProcessPart, ServerPart
from engine.host.world import World
from engine.jobs import exits
from engine.logs import logger
from engine.profile import Profile
from engine.settings import Settings

SERVICES_S = 90.0
"""Longest wait for broker and database: a recovery after a crash may take its time."""
POOLS = ("sync", "events")
BANK = "sandbox"
PACE_S = 0.25
SETTLE_S = 0.5
"""For the last words on a part that ended: its leases."""

log = logger("host")


class Supervisor:
    """All parts of one engine."""

    grace_s = 4.5
    """A worker's three seconds for its jobs, and some to hand back its leases. Then it is killed."""

    def __init__(self, profile: Profile, settings: Settings, changed: Callable[[str], None]) -> None:
        self._profile = profile
        self._changed = changed
        self._world = World(profile, settings)
        self._settings = settings
        self._known = threading.Event()
        self._ending = threading.Event()
        self._pacing: threading.Thread | None = None
        self._keeper = Keeper(profile)
        self._services: list[Part] = []
        self._processes: list[Part] = []
        self._free: Callable[[str, bool], None] | None = None
        self._bank_port: socket.socket | None = None

    @property
    def settings(self) -> Settings:
        """The settings in force, with the addresses of embedded parts as far as they are known."""
        return self._settings

    def launch(self, endpoints: Endpoints) -> None:
        """Begin to start everything at once: servers, and our own processes with their imports.

        Raises:
            StartError: a part cannot be started.
        """
        self._world.public_url = endpoints.public
        self._keeper.start()
        self._services = self._make_services()
        self._processes = self._make_processes()
        for part in self._services:
            part.start()
        # One after the other: on few cores their imports must not starve initdb, which everything waits for.
        self._pacing = threading.Thread(target=self._start_paced, name="paced-start", daemon=True)
        self._pacing.start()

    def _start_paced(self) -> None:
        for part in self._workers():
            if self._ending.is_set():
                return
            part.start()
            self._known.wait(PACE_S)

    def _workers(self) -> list[Part]:
        return [part for part in self._processes if part.role != "scheduler"]

    def start_scheduler(self) -> None:
        """Last, when everything else is ready: nobody waits for it."""
        self.part("scheduler").start()

    def wait_services(self, check: Callable[[], None], tell: Callable[[str], None]) -> None:
        """Wait for broker and database; then the processes get their environment.

        Raises:
            StartError: one of them does not start.
        """
        end = clock.monotonic() + SERVICES_S
        for part in self._services:
            self._wait(part, end, check)
        self._settings = self._world.apply()
        self._check_schema()
        from engine.secrets import Secrets

        Secrets(self._profile, self._settings).ensure()  # before the workers look for it
        tell("Starting the workers")
        self._known.set()

    def _wait(self, part: Part, end: float, check: Callable[[], None]) -> None:
        while True:
            check()
            try:
                part.wait_settled(0.2)
            except StartError:
                if part.state == "given_up" or clock.monotonic() > end:
                    raise
            else:
                return

    def _check_schema(self) -> None:
        """A database of the person's own is brought to this version where we can connect to it; through a project's
        REST API that cannot be done, so there it must fit already."""
        from engine.store import migrate, open_store

        if any(part.role == "database" for part in self._services):
            return
        if self._settings.database_url:
            migrate.migrate(self._settings.database_url)
            return
        store = open_store(self._settings)
        try:
            migrate.check(store)
        finally:
            store.close()

    def wait_consumers(self, view: Any, deadline_s: float, check: Callable[[], None]) -> None:
        """Wait until both pools consume.

        Raises:
            StartError: a pool gave up, or does not consume in time.
        """
        end = clock.monotonic() + deadline_s
        pause = threading.Event()
        while True:
            check()
            for part in self._processes:
                if part.state == "given_up":
                    raise StartError(part.note or f"{part.label} did not start. Its log is {part.log}.")
            pids = {part.pid for part in self._processes}
            consuming = {worker["pool"] for worker in view.workers() if worker["pid"] in pids}
            if consuming >= set(POOLS) and all(part.state == "running" for part in self._workers()):
                return
            if clock.monotonic() > end:
                late = ", ".join(sorted(set(POOLS) - consuming))
                raise StartError(
                    f"The workers ({late}) were not ready in time. Their logs are in {self._profile.logs}."
                )
            pause.wait(0.01)

    # ------------------------------------------------------------ parts

    def _make_services(self) -> list[Part]:
        parts: list[Part] = []
        if not self._settings.redis_url:
            from engine.host.valkey import Valkey

            program = self._settings.valkey_server
            broker = Valkey(self._profile, program=Path(program) if program else None, launched=self._told("broker"))
            parts.append(ServerPart("broker", "The broker", broker, self._changed, self._broker_is_up))
        if not self._settings.database_url and not self._settings.supabase_url:
            from engine.host.postgres import Postgres

            libpq.forget_variables()
            home = self._settings.postgres_home
            database = Postgres(self._profile, home=Path(home) if home else None, launched=self._told("database"))
            parts.append(ServerPart("database", "The database", database, self._changed, self._database_is_up))
        return parts

    def _told(self, role: str) -> Callable[[int, float], None]:
        return lambda pid, started: self._keeper.add(role, pid, started)

    def _broker_is_up(self, url: str) -> None:
        self._world.broker_url = url

    def _database_is_up(self, url: str) -> None:
        from engine.store import migrate

        self._world.database_url = url
        done = migrate.migrate(url)
        if done.applied:
            log.info("The database was brought to this version", migrations=len(done.applied))

    def _bank(self) -> Part:
        port = ports.again(self._profile, "bank", free_port)
        self._bank_port = ports.hold(port)  # it binds it only when it has loaded, and again when it was killed
        self._world.plaid_url = f"http://127.0.0.1:{port}"
        known = threading.Event()
        known.set()
        return ProcessPart(
            BANK,
            "The sandbox bank",
            ["sandbox", "--port", str(port), "--state", str(self._profile.root / "bank.jsonl")],
            self._profile.logs,
            self._changed,
            environment=lambda: {},
            known=known,
            began=self._keeper.add,
            ready=lambda: _answers(port),
        )

    def _make_processes(self) -> list[Part]:
        parts = [self._process(f"worker-{pool}", f"The {pool} worker", ["worker", "--pool", pool]) for pool in POOLS]
        if self._settings.plaid_env == "simulated" and not self._settings.plaid_url:
            parts.append(self._bank())
        return [*parts, self._process("scheduler", "The scheduler", ["scheduler"])]

    def _process(self, role: str, label: str, arguments: list[str]) -> Part:
        return ProcessPart(
            role,
            label,
            arguments,
            self._profile.logs,
            self._changed,
            environment=self._world.environment,
            known=self._known,
            began=self._keeper.add,
            ended=self._worker_ended if role.startswith("worker") else None,
        )

    def on_worker_end(self, free: Callable[[str, bool], None]) -> None:
        """``free(prefix of the worker's id, whether its starts count)`` gives back what a dead worker held."""
        self._free = free

    def _worker_ended(self, pid: int, code: int | None) -> None:
        if self._free is None:
            return
        from engine.queue.identity import worker_prefix

        try:
            self._free(worker_prefix(pid), code not in (exits.STOPPED, exits.REPLACE))
        except SyncdeskError as error:
            log.warning("What a worker held runs out by itself", code=error.code, pid=pid)

    def parts(self) -> list[Part]:
        return [*self._services, *self._processes]

    def infos(self) -> list[ProcessInfo]:
        """Keeper and parts as `status` shows them."""
        pid = self._keeper.pid
        watch = ProcessInfo(role="keeper", pid=pid, state="running" if pid else "crashed")
        return [watch, *(part.info() for part in self.parts())]

    def part(self, role: str) -> Part:
        """The part that a person may start and stop.

        Raises:
            NotFound: no such part here.
            Conflict: a part that everything else stands on.
        """
        for part in self._processes:
            if part.role == role and role != BANK:
                return part
        if role == BANK or any(part.role == role for part in self._services):
            raise Conflict("Broker, database and bank run as long as the engine does.", role=role)
        raise NotFound(f"This engine has no part {role!r}.", role=role)

    # ------------------------------------------------------------ end

    def stop_processes(self, grace_s: float) -> None:
        """End workers, bank and scheduler, all at once; killed after ``grace_s``."""
        self._ending.set()
        self._known.set()
        if self._pacing is not None:
            self._pacing.join(grace_s)
        _all(self._processes, grace_s)

    def stop_services(self, grace_s: float) -> None:
        """End the servers, killed after ``grace_s``, and let the keeper go."""
        _all(self._services, grace_s)
        if any(part.watched for part in self.parts()) or self._keeper.left():
            self.kill()
        self._keeper.farewell()
        if self._bank_port is not None:
            self._bank_port.close()

    def kill(self) -> None:
        """Kill what still runs of this engine, at once; but the keeper, which then finds nothing to do."""
        keeper = self._keeper.pid
        running = [*psutil.Process().children(recursive=True), *self._keeper.left()]
        for process in running:
            if process.pid != keeper:
                with contextlib.suppress(psutil.Error):
                    process.kill()


def _all(parts: list[Part], grace_s: float) -> None:
    threads = [
        threading.Thread(target=part.stop, args=(grace_s,), name=f"stop-{part.role}", daemon=True) for part in parts
    ]
    limit = clock.monotonic() + grace_s + SETTLE_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, limit - clock.monotonic()))


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5):
            return True
    except OSError:
        return False
