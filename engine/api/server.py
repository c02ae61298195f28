"""The three listeners as one unit that the host (or ``syncdeskctl api``) starts and stops."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine import clock
from engine.api import types
from engine.api.context import Context
from engine.errors import StartError
from engine.profile import DEFAULT
from engine.settings import Settings

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from engine.api.events import Fan

PUBLIC_PORT = 3000
HEALTH_PORT = 3003
START_S = 10.0


@dataclass(frozen=True)
class Sockets:
    """The bound sockets: bound first, so that everybody can be told the ports. A worker alone has only ``health``."""

    public: socket.socket | None
    admin: socket.socket | None
    health: socket.socket
    tls: bool = False

    def endpoints(self) -> types.Endpoints:
        """The addresses as URLs."""
        from engine.api import listener

        return types.Endpoints(
            public=listener.url(self.public) if self.public else None,
            admin=listener.url(self.admin, tls=self.tls) if self.admin else None,
            health=listener.url(self.health),
        )

    def close(self) -> None:
        for sock in (self.public, self.admin, self.health):
            if sock is not None:
                sock.close()


def bind(profile: str, settings: Settings) -> Sockets:
    """Bind all three sockets by the settings; only the profile named default takes 3000 and 3003 by itself.

    Raises:
        StartError: a port is taken or may not be used, or the admin listener would be open to others without
            TLS; none stays bound then.
    """
    from engine.api import listener

    tls = bool(settings.admin_tls_cert and settings.admin_tls_key)
    if not tls and not listener.is_loopback(settings.admin_bind):
        raise StartError(
            f"The admin listener may leave this machine ({settings.admin_bind}) only with TLS: set "
            "SYNCDESK_ADMIN_TLS_CERT and SYNCDESK_ADMIN_TLS_KEY, or keep it on loopback behind an SSH tunnel."
        )
    public = settings.api_port if settings.api_port is not None else (PUBLIC_PORT if profile == DEFAULT else 0)
    made: list[socket.socket] = []
    try:
        made.append(listener.bind("public", settings.api_bind, public))
        made.append(listener.bind("admin", settings.admin_bind, settings.admin_port))
        made.append(_bind_health(profile, settings))
    except StartError:
        for sock in made:
            sock.close()
        raise
    return Sockets(made[0], made[1], made[2], tls)


def bind_health(profile: str, settings: Settings) -> Sockets:
    """Bind the health listener alone, for a part in a container of its own.

    Raises:
        StartError: the port is taken or may not be used.
    """
    return Sockets(None, None, _bind_health(profile, settings))


def _bind_health(profile: str, settings: Settings) -> socket.socket:
    from engine.api import listener

    port = settings.worker_health_port if settings.worker_health_port is not None else None
    return listener.bind(
        "health", settings.health_bind, (HEALTH_PORT if profile == DEFAULT else 0) if port is None else port
    )


class Servers:
    """Serves the listeners whose sockets it is given on one event loop in a thread of its own."""

    def __init__(self, context: Context, sockets: Sockets) -> None:
        self._context, self._sockets = context, sockets
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="listeners", daemon=True)

    def start(self) -> None:
        """Return when all of them answer.

        Raises:
            StartError: they did not come up.
        """
        self._thread.start()
        if not self._ready.wait(START_S) or self._error is not None:
            if isinstance(self._error, StartError):
                raise self._error
            raise StartError("The listeners did not start.") from self._error

    def stop(self) -> None:
        """End open streams, let running requests finish for two seconds, close the sockets."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.ident is not None:
            self._thread.join(10)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; True when the listeners have ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
            if self._ready.is_set():
                raise
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        from engine.api.events import Fan
        from engine.api.pausing import PauseWatch

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        fan = Fan(self._context.events)
        watch = PauseWatch(self._context, lambda: fan.publish(types.Event(topic="engine", at=clock.iso(clock.now()))))
        close: list[Callable[[], None]] = []
        servers = build(self._context, self._sockets, fan, close)
        if self._sockets.admin is not None:
            fan.start()
            watch.start()
        try:
            for server, sock in servers:
                await server.startup(sockets=[sock])
            self._ready.set()
            await self._stop.wait()
        finally:
            fan.stop()
            await asyncio.gather(*(server.shutdown(sockets=[sock]) for server, sock in servers if server.started))
            for action in (*close, fan.join, watch.stop):
                await asyncio.to_thread(action)


def build(
    context: Context, sockets: Sockets, fan: Fan, close: list[Callable[[], None]]
) -> list[tuple[uvicorn.Server, socket.socket]]:
    """The servers with their sockets; ``close`` is filled with what must be ended after them."""
    from engine.api import listener

    settings = context.settings
    keys = (settings.admin_tls_cert, settings.admin_tls_key) if sockets.tls else (None, None)
    return [
        (listener.server(app, *(keys if sock is sockets.admin else (None, None))), sock)
        for app, sock in applications(context, sockets, fan, close)
    ]


def applications(
    context: Context, sockets: Sockets, fan: Fan, close: list[Callable[[], None]]
) -> list[tuple[ASGIApp, socket.socket]]:
    """The ASGI applications with the sockets they belong on."""
    from engine.api import admin, guard, health, public
    from engine.api.routing import application

    found: list[tuple[ASGIApp, socket.socket]] = [
        (application(context, health.routes(), "health", threads=4), sockets.health)
    ]
    if sockets.public is not None:
        door = public.Door(context)
        close.append(door.close)
        found.append((application(context, public.routes(door), "public"), sockets.public))
    if sockets.admin is not None:
        port = sockets.admin.getsockname()[1]
        hosts = guard.hosts(port, context.settings.admin_bind, context.settings.admin_hosts)
        found.append((guard.Guard(application(context, admin.routes(fan), "admin"), hosts), sockets.admin))
    return found
