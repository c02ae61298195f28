"""``syncdeskctl light-broker``: the broker of last resort, started by the host where no real server comes with us."""

from __future__ import annotations

import argparse

from engine.cli import common


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``light-broker``."""
    command = commands.add_parser("light-broker", help="a small broker in Python, for machines without a real one")
    command.add_argument("--port", type=common.port, required=True, help="loopback port")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from engine.host.light_broker import serve

    serve(args.port)
    return 0
