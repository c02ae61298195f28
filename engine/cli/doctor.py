"""``syncdeskctl doctor``: checks with their cures, and the bundle of what others need to help, without secrets."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import common

if TYPE_CHECKING:
    from engine.host.doctor.examine import Report

_MARKS = {"ok": "ok", "warn": "warn", "fail": "FAIL", "skipped": "–"}


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``doctor``."""
    command = commands.add_parser("doctor", help="check everything, each with its cure; or save a bundle for others")
    command.add_argument("--bundle", metavar="FILE.zip", help="save what others need to help, without secrets")
    command.add_argument("--yes", action="store_true", help="save the bundle without asking")
    common.add_json(command)
    command.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    from engine.host.doctor.examine import examine

    report = examine(common.profile(), os.environ)
    if args.bundle:
        return _bundle(args, report, Path(args.bundle))
    common.show(args, report.document(), _words(report))
    return 0 if report.ok else 1


def _bundle(args: argparse.Namespace, report: Report, file: Path) -> int:
    """Show what the bundle will hold, ask, save. 0 where it was saved, whatever the checks found."""
    from engine.host.doctor import bundle

    entries = bundle.collect(report)
    if not args.json:
        print(bundle.manifest(entries))
    asked = not args.yes and not args.json and sys.stdin.isatty()
    if asked and input(f"Save these as {file}? [y/N] ").strip().lower() not in ("y", "yes"):
        common.note("Nothing was saved.")
        return 1
    bundle.save(entries, file)
    rows = [{"name": row.name, "bytes": len(row.text.encode()), "holds": row.holds} for row in entries]
    common.show(args, {"ok": True, "file": str(file), "entries": rows}, f"Saved {file}.")
    return 0


def _words(report: Report) -> str:
    lines = []
    for check in report.document()["checks"]:
        lines.append(f"{_MARKS[check['state']]:<5} {check['label']}: {check['sentence']}")
        if check["cure"]:
            lines.append(f"      → {check['cure']}")
    states = [check.state for check in report.checks]
    failed, warned = states.count("fail"), states.count("warn")
    found = f"{failed} failed, {warned} with a warning" if failed or warned else "nothing is wrong"
    lines.append(f"{len(states)} checks: {found}.")
    return "\n".join(lines)
