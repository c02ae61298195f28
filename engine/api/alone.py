"""The listeners without a host: ``syncdeskctl api``, for containers and development."""

from __future__ import annotations

import os
import signal
import threading

from engine import __version__, clock
from engine.api.auth import Tokens, new_token
from engine.api.context import Alone
from engine.logs import logger
from engine.profile import Profile
from engine.settings import Settings


def run(profile: Profile, settings: Settings) -> int:
    """Serve until SIGTERM, SIGINT or Ctrl+C; 0.

    The admin token is ``SYNCDESK_TOKEN``; without it nobody knows the token, and a warning says so.

    Raises:
        StartError: a port is taken, or there is no broker's address.
        StoreUnavailable: there is no database's address.
    """
    from engine.api import assemble, server

    log = logger("api")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    parts = assemble.parts(settings, profile, owner=f"api/{os.getpid()}")
    sockets = server.bind(profile.name, settings)
    host = Alone(profile.name, settings, __version__, clock.iso(clock.now()))
    host.endpoints = sockets.endpoints()
    if settings.admin_token is None:
        log.warning("SYNCDESK_TOKEN is not set: nobody can use the admin API of this process")
    tokens = Tokens(settings.admin_token or new_token())
    servers = server.Servers(parts.context(__version__, tokens, host), sockets)
    reconciling = threading.Thread(target=parts.reconciler.run, args=(stop,), name="reconciler", daemon=True)
    try:
        servers.start()
        reconciling.start()
        log.info("The API is ready", public=host.endpoints.public, admin=host.endpoints.admin)
        while not stop.wait(1.0):
            pass  # woken once a second, so that Windows delivers Ctrl+C
    finally:
        stop.set()
        servers.stop()
        if reconciling.ident is not None:
            parts.reconciler.ask()
            reconciling.join(3)
        parts.close()
    return 0
