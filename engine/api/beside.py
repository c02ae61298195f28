"""The health listener beside a worker that runs alone, in a container of its own."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

from engine import __version__, clock
from engine.api import assemble, server
from engine.api.auth import Tokens, new_token
from engine.api.context import Alone
from engine.profile import Profile
from engine.settings import Settings


def serve_health(profile: Profile, settings: Settings) -> Callable[[], None]:
    """Serve ``/health`` and ``/metrics`` of this process; returns what ends it.

    Raises:
        StartError: the port is taken, or there is no broker's address.
    """
    sockets = server.bind_health(profile.name, settings)
    parts = assemble.parts(settings, profile, f"health/{os.getpid()}")
    host = Alone(profile.name, settings, __version__, clock.iso(clock.now()))
    host.endpoints = sockets.endpoints()
    context = dataclasses.replace(parts.context(__version__, Tokens(new_token()), host), own_pid=os.getpid())
    servers = server.Servers(context, sockets)
    servers.start()

    def end() -> None:
        servers.stop()
        parts.close()

    return end
