"""``syncdeskctl audit``: who did what."""

from __future__ import annotations

import argparse

from engine.cli import common, remote
from engine.errors import UsageError

MOST = 500


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``audit``."""
    command = commands.add_parser("audit", help="who did what, the newest first; also what was refused")
    command.add_argument("--limit", type=int, default=50, help=f"how many, {MOST} at most")
    common.add_json(command)
    command.set_defaults(run=_audit)


def _audit(args: argparse.Namespace) -> int:
    from engine.api.types_operation import AuditPage

    if not 1 <= args.limit <= MOST:
        raise UsageError(f"--limit is 1 to {MOST}.")
    with remote.client() as engine:
        page = engine.get("audit", AuditPage, limit=args.limit)
    rows = [(entry.at, entry.who, entry.action, entry.target, entry.result) for entry in page.entries]
    text = remote.table(("When", "Who", "Action", "Of", "Result"), rows) if rows else "Nobody has done anything yet."
    return remote.show(args, page, text)
