"""``syncdeskctl sync``: sync one bank or all now."""

from __future__ import annotations

import argparse

from engine.cli import common, remote
from engine.errors import UsageError


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``sync``."""
    command = commands.add_parser("sync", help="sync one bank or all now")
    command.add_argument("--item", metavar="ID")
    command.add_argument("--all", action="store_true")
    command.add_argument(
        "--wait", type=common.seconds, default=0.0, metavar="S", help="wait so long for one bank's sync to end"
    )
    common.add_json(command)
    command.set_defaults(run=_sync)


def _sync(args: argparse.Namespace) -> int:
    from engine.api import types, types_banks

    if args.all == (args.item is not None):
        raise UsageError("Name one --item, or say --all.")
    with remote.client() as engine:
        done: types.Done = engine.act("sync", types_banks.SyncRequest(item_id=args.item, all=args.all))
        if args.all or not args.wait or not done.ids or done.ids[0] == args.item:
            return remote.done(args, done)
        common.note(done.message)
        found = engine.wait_job(done.ids[0], args.wait)
    if found is None:
        common.show(args, {"ok": False, "state": "unfinished", "job": done.ids[0]}, "The sync has not ended yet.")
        return 1
    ok = found.job.state == "done"
    text = "\n".join([*(event.text for event in found.thread), found.title])
    common.show(args, {"ok": ok, "state": found.job.state, "job": done.ids[0], "title": found.title}, text)
    return 0 if ok else 1
