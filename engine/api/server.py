"""The three listeners as one unit that the host (or ``syncdeskctl api``) starts and stops."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    """The bound sockets of the three listeners: bound first, so that everybody can be told the ports."""

    public: socket.socket
    admin: socket.socket
    health: socket.socket

    def endpoints(self) -> types.Endpoints:
        """The three addresses as URLs."""
        from engine.api import listener

        return types.Endpoints(
            public=listener.url(self.public), admin=listener.url(self.admin), health=listener.url(self.health)
        )

    def close(self) -> None:
        for sock in (self.public, self.admin, self.health):
            sock.close()


def bind(profile: str, settings: Settings) -> Sockets:
    """Bind all three sockets by the settings; only the profile named default takes 3000 and 3003 by itself.

    Raises:
        StartError: a port is taken or may not be used; none stays bound then.
    """
    from engine.api import listener

    default = profile == DEFAULT
    public = settings.api_port if settings.api_port is not None else (PUBLIC_PORT if default else 0)
    health = settings.worker_health_port if settings.worker_health_port is not None else (HEALTH_PORT if default else 0)
    made: list[socket.socket] = []
    try:
        made.append(listener.bind("public", settings.api_bind, public))
        made.append(listener.bind("admin", settings.admin_bind, settings.admin_port))
        made.append(listener.bind("health", settings.health_bind, health))
    except StartError:
        for sock in made:
            sock.close()
        raise
    return Sockets(*made)


class Servers:
    """Serves public, admin and health listeners on one event loop in a thread of its own."""

    def __init__(self, context: Context, sockets: Sockets) -> None:
        self._context, self._sockets = context, sockets
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="listeners", daemon=True)

    def start(self) -> None:
        """Return when all three answer.

        Raises:
            StartError: they did not come up.
        """
        self._thread.start()
        if not self._ready.wait(START_S) or self._error is not None:
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
        fan, watch = Fan(self._context.events), PauseWatch(self._context)
        close: list[Callable[[], None]] = []
        servers = build(self._context, self._sockets, fan, close)
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

    return [(listener.server(app), sock) for app, sock in applications(context, sockets, fan, close)]


def applications(
    context: Context, sockets: Sockets, fan: Fan, close: list[Callable[[], None]]
) -> list[tuple[ASGIApp, socket.socket]]:
    """The three ASGI applications with the sockets they belong on."""
    from engine.api import admin, guard, health, public
    from engine.api.routing import application

    door = public.Door(context)
    close.append(door.close)
    port = sockets.admin.getsockname()[1]
    hosts = guard.hosts(port, context.settings.admin_bind, context.settings.admin_hosts)
    return [
        (application(context, public.routes(door), threads=32), sockets.public),
        (guard.Guard(application(context, admin.routes(fan)), hosts), sockets.admin),
        (application(context, health.routes(), threads=4), sockets.health),
    ]
