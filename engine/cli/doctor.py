"""``syncdeskctl doctor``: checks with their cures, and the bundle of what others need to help, without secrets."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from engine.cli import common

if TYPE_CHECKING:
    from engine.host.doctor.examine import Report

_MARKS = {"ok": "ok", "warn": "warn", "fail": "FAIL", "skipped": "–"}


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``doctor``."""
    command = commands.add_parser("doctor", help="check everything, each with its cure; or save a bundle for others")
    common.add_json(command)
    command.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    from engine.host.doctor.examine import examine

    report = examine(common.profile(), os.environ)
    common.show(args, report.document(), _words(report))
    return 0 if report.ok else 1


def _words(report: Report) -> str:
    lines = []
    for check in report.document()["checks"]:
        lines.append(f"{_MARKS[check['state']]:<5} {check['label']}: {check['sentence']}")
        if check["cure"]:
            lines.append(f"      → {check['cure']}")
    states = [check.state for check in report.checks]
    failed, warned = states.count("fail"), states.count("warn")
    lines.append(f"{len(states)} checks: {failed} failed, {warned} with a warning." if failed or warned else
                 f"{len(states)} checks: nothing is wrong.")  # fmt: skip
    return "\n".join(lines)
