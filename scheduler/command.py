"""``syncdeskctl``: the engine's commands and the scheduler's, the one place that knows both."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from engine.cli import common, streams
from engine.cli.main import build_parser, guard, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``syncdeskctl``."""
    if arguments is None:  # a process of its own
        guard()
        streams.complete()
    parser, commands = build_parser()
    scheduler = commands.add_parser("scheduler", help="the schedule alone: backup sync, retention, health checks")
    scheduler.set_defaults(run=_scheduler)
    return run(parser, arguments)


def _scheduler(args: argparse.Namespace) -> int:
    del args
    from engine import child
    from scheduler import process  # loads while the host starts broker and database

    if not child.adopt():
        return 0
    from engine import logs

    profile = common.profile()
    settings = common.settings(profile)
    logs.configure("scheduler", profile if child.supervised() else None, form=settings.log_format)
    return process.main(settings, profile)


if __name__ == "__main__":
    sys.exit(main())
