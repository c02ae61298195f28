"""The command line of the engine: every command in a module of its own, registered here.

A command module has ``register(commands)``, which adds its parsers and sets ``run`` to a
function from the parsed arguments to an exit code. Heavy imports belong inside ``run``: the
command line must start at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Sequence

from engine.cli import streams
from engine.errors import SyncdeskError


def build_parser() -> tuple[argparse.ArgumentParser, argparse._SubParsersAction[argparse.ArgumentParser]]:
    """The parser with all commands of the engine; the second value takes further commands."""
    parser = argparse.ArgumentParser(prog="syncdeskctl", description="Everything of Syncdesk without a screen.")
    parser.add_argument("--profile", metavar="NAME|PATH", help="the install to work on (SYNCDESK_PROFILE)")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    from engine.cli import (
        analytics,
        audit,
        bills,
        db,
        demo,
        doctor,
        engine,
        items,
        jobs,
        light_broker,
        queue,
        secrets,
        sync,
        users,
    )  # fmt: skip
    from engine.sandbox import command as sandbox

    modules = (
        analytics, audit, bills, db, demo, doctor, engine, items, jobs, light_broker, queue, sandbox, secrets, sync,
        users,
    )  # fmt: skip
    for module in modules:
        module.register(commands)
    return parser, commands


def guard() -> None:
    """From now on an exception that nobody catches is told by its type and frames: its text may hold anything."""
    sys.excepthook = lambda kind, error, trace: _tell_crash(error)
    threading.excepthook = lambda args: _tell_crash(args.exc_value)


def _tell_crash(error: BaseException | None) -> None:
    from engine.logs import describe, frames

    if error is not None and not isinstance(error, SystemExit):
        print(f"syncdeskctl: nobody caught this: {describe(error)}\n{frames(error)}", file=sys.stderr, flush=True)


def run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Parse and run one command. Exit codes: 0 done, 1 the work failed, 2 wrong usage."""
    args = parser.parse_args(arguments)
    if args.profile:
        os.environ["SYNCDESK_PROFILE"] = args.profile  # children of this process work on the same profile
    try:
        return streams.finish(int(args.run(args)))
    except BrokenPipeError:
        return streams.cut()
    except SyncdeskError as error:
        if getattr(args, "json", False):
            print(json.dumps({"ok": False, "code": error.code, "message": error.message}))
        print(f"syncdeskctl: {error.message}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
