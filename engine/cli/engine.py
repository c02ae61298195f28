"""``up``, ``down``, ``status``, and the parts that may run alone: ``worker``, ``api``, ``sandbox``."""

from __future__ import annotations

import argparse
from typing import Any

from engine.cli import common
from engine.errors import NotRunningError, StartError
from engine.profile import Profile


def register(commands: Any) -> None:
    """Add this module's commands."""
    up = commands.add_parser("up", help="run the whole engine in the foreground")
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="end the engine of this profile")
    common.add_json(down)
    down.set_defaults(run=_down)
    status = commands.add_parser("status", help="what the engine of this profile does")
    common.add_json(status)
    status.set_defaults(run=_status)
    worker = commands.add_parser("worker", help="one worker process alone")
    worker.add_argument("--pool", choices=["sync", "events", "all"], default="all")
    worker.set_defaults(run=_worker)
    api = commands.add_parser("api", help="the listeners alone")
    api.set_defaults(run=_api)
    keeper = commands.add_parser("keeper")  # without help: not for people
    keeper.set_defaults(run=_keeper)


def _up(args: argparse.Namespace) -> int:
    del args
    from engine.host import up

    profile = common.profile()
    code = up.run(profile, common.settings(profile), common.note)
    up.leave(code)
    return code


def _down(args: argparse.Namespace) -> int:
    from engine import launch

    profile = common.profile()
    ended = launch.stop(profile)
    text = "The engine has ended." if ended else f"No engine runs on profile {profile.name}."
    common.show(args, {"ok": True, "ended": ended}, text)
    return 0


def _status(args: argparse.Namespace) -> int:
    from engine import launch

    profile = common.profile()
    found = launch.read(profile)
    if found is not None:
        try:
            document = launch.call(found, "GET", "/api/status")
        except NotRunningError:
            if launch.read(profile) is not None:
                raise  # it runs and does not answer: that is a failure; one that ended meanwhile is not
            document = _absent(profile.name)
    else:
        document = _absent(profile.name, launch.progress(profile))
    common.show(args, document, _words(document))
    return 0


def _absent(name: str, progress: Any = None) -> dict[str, Any]:
    from engine import __version__

    starting = progress is not None and progress.state == "starting"
    engine = {
        "state": "starting" if starting else "stopped",
        "version": __version__,
        "profile": name,
        "pid": progress.pid if starting else None,
        "step": progress.step if starting else None,
        "cause": progress.error if progress is not None and progress.state == "failed" else None,
    }
    return {"engine": engine, "processes": [], "endpoints": {"public": None, "admin": None, "health": None}}


def _words(document: dict[str, Any]) -> str:
    engine = document["engine"]
    lines = [f"Engine of profile {engine['profile']}: {engine['state']}" + _after(", process ", engine["pid"])]
    lines += [f"  {word}" for word in (engine.get("step"), engine.get("cause")) if word]
    for name, url in document["endpoints"].items():
        if url:
            lines.append(f"  {name:<8}{url}")
    for process in document["processes"]:
        memory = f"  {process['memory_mb']:.0f} MB" if process.get("memory_mb") else ""
        lines.append(f"  {process['role']:<14}{process['state']:<10}{process['pid'] or '–'!s:>7}{memory}")
        if process.get("note"):
            lines.append(f"    {process['note']}")
    return "\n".join(lines)


def _after(words: str, value: object) -> str:
    return f"{words}{value}" if value else ""


def _worker(args: argparse.Namespace) -> int:
    from engine import child
    from engine.jobs import worker  # loads while the host starts broker and database

    if not child.adopt():
        return 0
    from engine import logs

    profile = common.profile()
    settings = common.settings(profile)
    logs.configure(f"worker-{args.pool}", profile if child.supervised() else None, form=settings.log_format)
    if not child.supervised() and settings.redis_url:  # a host has looked already; without one `main` says so
        from engine.queue import fitness

        fitness.check(settings)
        if settings.worker_health_port is not None:
            from engine.api import beside  # in a container each worker answers for itself

            beside.serve_health(profile, settings)
    code = worker.main(args.pool, settings=settings, profile=profile)
    worker.leave(code)
    return code


def _api(args: argparse.Namespace) -> int:
    """The listeners without a host: for containers, where each part is started by something else."""
    del args
    import signal
    import threading

    from engine import __version__, clock, logs
    from engine.api import assemble, server
    from engine.api.auth import Tokens
    from engine.api.context import Alone

    profile = common.profile()
    settings = common.settings(profile)
    logs.configure("api", None, form=settings.log_format)
    parts = assemble.parts(settings, profile, "api")
    sockets = server.bind(profile.name, settings)
    host = Alone(profile.name, settings, __version__, clock.iso(clock.now()))
    host.endpoints = sockets.endpoints()
    tokens = Tokens(settings.admin_token or _admin_token(profile))
    servers = server.Servers(parts.context(__version__, tokens, host), sockets)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    servers.start()
    common.note(f"Ready: webhooks at {host.endpoints.public}, admin at {host.endpoints.admin}.")
    reconciling = threading.Thread(target=parts.reconciler.run, args=(ending,), name="reconciler", daemon=True)
    reconciling.start()
    bulk = threading.Thread(target=parts.bulk.run, args=(ending,), name="bulk", daemon=True)
    bulk.start()
    while not ending.wait(1.0):
        if servers.wait(0):
            raise StartError("The listeners ended unexpectedly.")
    servers.stop()
    bulk.join(2.0)
    parts.close()
    return 0


def _admin_token(profile: Profile) -> str:
    """The admin token of an API that runs alone: kept with the profile's secrets, made on first use."""
    from engine.api.auth import new_token
    from engine.secrets import Keeper

    keeper = Keeper(profile)
    token = keeper.get("admin_token")
    if token is None:
        token = new_token()
        keeper.set("admin_token", token)
    return token


def _keeper(args: argparse.Namespace) -> int:
    del args
    from engine.host import keeper

    return keeper.main(common.profile())
