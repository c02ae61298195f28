"""The host: starts every part, serves the listeners, supervises, and ends everything in order."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import filelock

from engine import __version__, clock
from engine.api.types import Done, Endpoints, EngineInfo, EngineState, ProcessInfo, Status
from engine.errors import ProfileError, StartError, SyncdeskError
from engine.host import discovery, keeper, ports
from engine.host.ending import Ending
from engine.host.parts import memory_mb
from engine.host.supervisor import Supervisor
from engine.logs import also, configure, logger
from engine.profile import Profile, prepare
from engine.settings import Settings

LOOK_S = 1.0
"""How often the host looks up: Windows delivers Ctrl+C only to a thread that does."""
READY_S = 30.0
"""Longest wait for the workers to consume, once broker and database are up."""
SERVERS_S = 6.0
"""For broker and database to write what they hold, where the parts before them left so much. One that is killed
recovers at its next start."""

if TYPE_CHECKING:
    from engine.api.assemble import Parts
    from engine.api.server import Servers, Sockets

log = logger("host")
Announce = Callable[[str], None]


def run(profile: Profile, settings: Settings, announce: Announce) -> int:
    """Run the whole engine in this process until it is told to end. ``announce`` gets a sentence for each step.

    Raises:
        SyncdeskError: it could not start, in a sentence for the person; everything that had started is stopped.
    """
    prepare(profile)
    configure("host", profile, terminal=False, form=settings.log_format)
    also("webhook", profile, "webhook", form=settings.log_format)
    lock = filelock.FileLock(profile.lock_file)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise _taken(profile) from None
    except OSError as error:
        raise ProfileError(f"Cannot lock the profile {profile.root}: {error.strerror}.") from error
    try:
        return Host(profile, settings, announce).run()
    finally:
        lock.release()


def leave(code: int) -> None:
    """End this process now: a thread that still waits for a service of the person's own must not hold it up."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or a windowed app has none
            stream.flush()
    os._exit(code)


def _taken(profile: Profile) -> ProfileError:
    running = discovery.read(profile)
    if running is not None:
        where = f"process {running.pid}, admin {running.admin}"
    else:
        starting = discovery.progress(profile)
        where = f"process {starting.pid}, still {starting.step.lower()}" if starting else "still ending"
    return ProfileError(f"An engine runs on profile {profile.name} already ({where}).", profile=profile.name)


class _Stopped(Exception):
    """The start was called off."""


class Host:
    """One engine. Implements `engine.api.context.HostControl`."""

    def __init__(self, profile: Profile, settings: Settings, announce: Announce) -> None:
        self.profile = profile
        self._announce = announce
        self._log = profile.logs / "host.log"
        self._ending = Ending()
        self._stop = self._ending.asked
        self._state: EngineState = "starting"
        self._step = ""
        self._started_at = clock.iso(clock.now())
        self._pid = os.getpid()
        self._endpoints = Endpoints(public=None, admin=None, health=None)
        self._supervisor = Supervisor(profile, settings, self._part_changed)
        self._publish: Callable[[str, str | None], None] | None = None
        self._sockets: Sockets | None = None
        self._servers: Servers | None = None
        self._parts: Parts | None = None
        self._reconciling: threading.Thread | None = None
        self._bulk: threading.Thread | None = None

    # ------------------------------------------------------------ life

    def run(self) -> int:
        """Start, serve until told to end, end. The exit code: 0, or 1 where the listeners ended by themselves."""
        self._catch_signals()
        self._ending.guard(self._supervisor.kill)
        try:
            return self._live()
        finally:
            self._ending.done()

    def _live(self) -> int:
        try:
            self._start()
        except _Stopped:
            self._end()
            return 0
        except SyncdeskError as error:
            self._tell_failure(error.message)
            log.error("The engine did not start", reason=error.message)
            self._end()
            raise
        except Exception as error:
            log.exception("The engine did not start")
            why = f"failed inside Syncdesk ({type(error).__name__})"
            if isinstance(error, OSError) and error.strerror:
                why = f"did not start: {error.filename or self.profile.root}: {error.strerror}"
            sentence = f"The engine {why}. Its log is {self._log}."
            self._tell_failure(sentence)
            self._end()
            raise StartError(sentence, log=str(self._log)) from error
        code = self._serve()
        self._end()
        return code

    def _serve(self) -> int:
        while not self._stop.wait(LOOK_S):
            if self._servers is not None and self._servers.wait(0):
                log.error("The listeners ended unexpectedly")
                self._announce(f"The listeners ended unexpectedly. The log is {self._log}.")
                return 1
        return 0

    def _start(self) -> None:
        from engine.api import server
        from engine.api.auth import Tokens, new_token

        self._tell("Cleaning up")
        keeper.clean_up(self.profile)
        sockets = self._bind()
        self._sockets = sockets
        self._endpoints = sockets.endpoints()
        ports.remember(self.profile, self._endpoints)
        self._tell("Starting the database")
        self._supervisor.launch(self._endpoints)
        _preload()
        from engine.api import assemble
        from engine.queue import fitness

        self._supervisor.wait_services(self._check_stop, self._tell)
        fitness.check(self._supervisor.settings)
        tokens = Tokens(self._supervisor.settings.admin_token or new_token())
        parts = assemble.parts(self._supervisor.settings, self.profile, owner=f"host/{self._pid}")
        self._parts = parts
        self._supervisor.on_worker_end(self._free)
        context = parts.context(__version__, tokens, self)
        self._publish = parts.publish
        self._servers = server.Servers(context, sockets)
        self._servers.start()
        self._reconcile(parts)
        self._tell("Waiting for the workers")
        self._supervisor.wait_consumers(parts.view, READY_S, self._check_stop)
        self._state = "running"
        self._supervisor.start_scheduler()
        discovery.write(self.profile, self._endpoints, tokens.admin, __version__)
        discovery.write_progress(self.profile, "ready", "Ready")
        log.info("The engine is ready", public=self._endpoints.public, health=self._endpoints.health)
        self._announce(f"Ready: webhooks at {self._endpoints.public}, admin at {self._endpoints.admin}.")

    def _bind(self) -> Sockets:
        """The listeners' sockets; free ports are those of the last start where they are free again.

        Webhooks and bookmarks then still find a profile that takes free ports.
        """
        from engine.api import server

        settings = self._supervisor.settings
        try:
            return server.bind(self.profile.name, ports.wish(self.profile, settings))
        except StartError:
            return server.bind(self.profile.name, settings)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _end(self) -> None:
        """Everything in order: no new webhooks, then the workers, then the servers, then the keeper.

        Each step has its share of one deadline; what takes longer is killed or left behind.
        """
        self._state, self._publish = "stopping", None
        ending = self._ending
        ending.ask()  # also where nobody asked: the reconciler and every wait go by it
        began = clock.monotonic()
        discovery.clear(self.profile, self._pid)
        closing = threading.Thread(target=self._close_listeners, name="stop-listeners", daemon=True)
        closing.start()
        self._supervisor.stop_processes(ending.share(self._supervisor.grace_s, 4.0))
        closing.join(ending.share(1.0, 3.5))
        if self._parts is not None:
            self._parts.reconciler.ask()
            if self._reconciling is not None:
                self._reconciling.join(ending.share(1.0, 3.5))
            if self._bulk is not None:
                self._bulk.join(ending.share(1.0, 3.5))
            ending.within("close-parts", self._parts.close, ending.share(1.0, 3.0))
        self._supervisor.stop_services(ending.share(SERVERS_S, 1.0))
        self._state = "stopped"
        log.info("The engine ended", ms=clock.ms_since(began))

    def _close_listeners(self) -> None:
        if self._servers is not None:
            self._servers.stop()
        elif self._sockets is not None:
            self._sockets.close()

    def _reconcile(self, parts: Parts) -> None:
        run = parts.reconciler.run
        self._reconciling = threading.Thread(target=run, args=(self._stop,), name="reconciler", daemon=True)
        self._reconciling.start()
        self._bulk = threading.Thread(target=parts.bulk.run, args=(self._stop,), name="bulk", daemon=True)
        self._bulk.start()

    def _free(self, prefix: str, counted: bool) -> None:
        """Give back at once what a worker that ended held, in Redis and in Postgres."""
        if self._parts is None:
            return
        try:
            self._parts.control.free(prefix, counted=counted)
        finally:  # each though the other is away
            self._parts.store.call("leases_release", owner=prefix)

    def _catch_signals(self) -> None:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if sys.platform != "win32":
            numbers.append(signal.SIGHUP)
        else:
            numbers.append(signal.SIGBREAK)
        for number in numbers:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: object) -> None:
        del number
        self._ending.ask()

    def _tell(self, step: str) -> None:
        self._check_stop()
        self._step = step
        discovery.write_progress(self.profile, "starting", step)
        self._announce(f"{step} …")

    def _tell_failure(self, sentence: str) -> None:
        try:
            discovery.write_progress(self.profile, "failed", self._step, sentence)
        except ProfileError as error:
            log.error("The reason could not be left for others", reason=error.message)

    def _part_changed(self, role: str) -> None:
        if self._publish is not None:
            try:
                self._publish("workers" if role.startswith("worker") else "engine", role)
            except SyncdeskError:
                log.info("A change of a part was not announced: the broker is away", role=role)

    # ------------------------------------------------------------ HostControl

    def status(self) -> Status:
        """State of engine and parts, with the endpoints."""
        settings = self._supervisor.settings
        state, cause = self._state, None
        for part in self._supervisor.parts():
            if state == "running" and part.state in ("given_up", "crashed"):
                state, cause = "degraded", part.note
        engine = EngineInfo(
            state=state,
            version=__version__,
            profile=self.profile.name,
            pid=self._pid,
            started_at=self._started_at,
            step=self._step if self._state == "starting" else None,
            cause=cause,
            environment=settings.plaid_env,
            plaid_url=settings.plaid_url,
        )
        return Status(engine=engine, processes=self._processes(), endpoints=self._endpoints)

    def _processes(self) -> list[ProcessInfo]:
        mine = ProcessInfo(
            role="host",
            pid=self._pid,
            state="stopping" if self._state == "stopping" else "running",
            started_at=self._started_at,
            memory_mb=memory_mb(self._pid),
        )
        return [mine, *self._supervisor.infos()]

    def parts(self, role: str, action: str) -> Done:
        """Start, stop or restart one part.

        Raises:
            NotFound: no such part here.
            Conflict: a part that everything else stands on.
        """
        part = self._supervisor.part(role)
        if action in ("stop", "restart"):
            part.stop(self._supervisor.grace_s)
        if action in ("start", "restart"):
            part.start()
        words = {"start": "starts", "stop": "is stopped", "restart": "starts again"}
        return Done(message=f"{part.label} {words[action]}.", ids=[role])

    def shutdown(self) -> None:
        """Begin to end and return at once."""
        self._ending.ask()


def _preload() -> None:
    """Load what the listeners need while the servers start."""
    import uvicorn

    from engine.api import admin, assemble, events, guard, health, listener, public

    del uvicorn, admin, assemble, events, guard, health, listener, public
