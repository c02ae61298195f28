"""``syncdeskctl jobs retry|discard|move`` by a filter, and ``jobs bulk``: bulk actions from a shell."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from engine.cli import common, remote
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.api.client import Client
    from engine.api.types_bulk import Bulk, BulkDetail, BulkPreview, JobFilter

NAMES = ("queue", "lane", "group", "code", "item", "institution", "user", "since", "until", "q")
LANES = ("high", "medium", "low")


def add_filter(command: argparse.ArgumentParser) -> None:
    """Add what chooses many jobs and how a bulk action goes about them."""
    command.add_argument(
        "--filter", action="append", default=[], metavar="NAME=VALUE", help=f"jobs that fit: {', '.join(NAMES)}"
    )
    command.add_argument("--all", action="store_true", help="all of them")
    command.add_argument("--expect", type=int, metavar="N", help="refuse when more than N match")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.add_argument("--now", action="store_true", help="no time to undo")
    command.add_argument("--per-second", type=int, metavar="N", help="jobs of a queue released a second")
    command.add_argument("--canary", action=argparse.BooleanOptionalAction, help="one of each cause first (from 10 on)")


def register(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``move`` and ``bulk``."""
    move = actions.add_parser("move", help="put waiting jobs into another lane")
    move.add_argument("ids", nargs="*", metavar="JOB")
    move.add_argument("--lane", choices=LANES, required=True)
    add_filter(move)
    common.add_json(move)
    move.set_defaults(run=run, verb="move", group=None)
    group = actions.add_parser("bulk", help="bulk actions: list, show, stop, resume, undo")
    bulk = group.add_subparsers(dest="bulk_action", metavar="ACTION", required=True)
    listing = bulk.add_parser("list", help="the newest first")
    common.add_json(listing)
    listing.set_defaults(run=_list)
    for name, words in (
        ("show", "how far one is, and what it left out"),
        ("stop", "release nothing more of it"),
        ("resume", "let a stopped one go on"),
        ("undo", "take it back before its release"),
    ):
        command = bulk.add_parser(name, help=words)
        command.add_argument("id", metavar="ID")
        common.add_json(command)
        command.set_defaults(run=_show if name == "show" else _change, change=name)


def chosen(args: argparse.Namespace) -> bool:
    """Whether a filter chooses the jobs, not single ids."""
    return bool(args.filter or args.all or getattr(args, "group", None) is not None)


def run(args: argparse.Namespace) -> int:
    """One bulk action by the arguments of `add_filter`.

    Raises:
        UsageError: ids and a filter together, an unknown name, or nobody there who could be asked.
    """
    from engine.api import types, types_bulk

    asked = _filter(args)
    with remote.client() as engine:
        seen = engine.act("bulks/preview", types_bulk.BulkAsk(args.verb, asked), shape=types_bulk.BulkPreview)
        if not seen.total and args.expect is None:
            return _nothing(args)
        if args.expect is None and not _agreed(args, seen):
            common.show(args, {"ok": False, "message": "Nothing was done."}, "Nothing was done.")
            return 1
        begin = types_bulk.BulkStart(
            verb=args.verb,
            filter=asked,
            expected=seen.total if args.expect is None else args.expect,
            hold_s=0 if args.now else None,
            per_second=args.per_second,
            canary=args.canary,
            lane=args.lane if args.verb == "move" else None,
        )
        done: types.Done = engine.act("bulks", begin)
    undo = "" if args.now else f"\nTake it back: syncdeskctl jobs bulk undo {done.ids[0]}"
    document = {"ok": True, **remote.document(done), "bulk": done.ids[0], "total": seen.total}
    common.show(args, document, done.message + undo)
    return 0


def _filter(args: argparse.Namespace) -> JobFilter:
    import msgspec

    from engine.api.types_bulk import JobFilter

    if sum((bool(args.ids), bool(args.filter) or args.group is not None, args.all)) != 1:
        raise UsageError("Name jobs, or a --filter, or say --all.")
    found: dict[str, Any] = {"ids": list(args.ids)} if args.ids else {}
    if args.group is not None:
        found["group"] = args.group
    for pair in args.filter:
        name, equals, value = pair.partition("=")
        if not equals or name not in NAMES or not value:
            raise UsageError(f"--filter takes NAME=VALUE with one of: {', '.join(NAMES)}.")
        found[name] = value
    try:
        return msgspec.convert(found, JobFilter)
    except msgspec.ValidationError as error:
        raise UsageError(f"A filter is wrong: {error}.") from error


def _nothing(args: argparse.Namespace) -> int:
    common.show(args, {"ok": True, "ids": [], "total": 0}, f"Nothing to {args.verb}.")
    return 0


def _agreed(args: argparse.Namespace, seen: BulkPreview) -> bool:
    """Ask the person with the number in it; programs say --yes or --expect."""
    if args.yes:
        return True
    if args.json or not sys.stdin.isatty():
        raise UsageError(f"{seen.total} jobs match. Say --yes to {args.verb} them, or --expect N to be safe.")
    for cause in seen.causes:
        common.note(f"{cause.count:>8}  {cause.title} ({cause.code})")
    for left in seen.left_out:
        common.note(f"{left.count:>8}  left out: {left.reason}")
    common.note(f"{args.verb.capitalize()} {seen.total} jobs? [y/N]")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _list(args: argparse.Namespace) -> int:
    from engine.api.types_bulk import BulkPage

    with remote.client() as engine:
        page = engine.get("bulks", BulkPage, limit=50)
    rows = [
        (
            bulk.id,
            bulk.created_at[:19],
            bulk.verb,
            bulk.state,
            bulk.total,
            bulk.done,
            bulk.skipped,
            bulk.failed,
            bulk.who,
        )
        for bulk in page.bulks
    ]
    head = ("Id", "Began", "What", "State", "Jobs", "Done", "Skipped", "Failed", "Who")
    return remote.show(args, page, remote.table(head, rows) if rows else "No bulk action yet.")


def _show(args: argparse.Namespace) -> int:
    with remote.client() as engine:
        found = _get(engine, args.id)
    return remote.show(args, found, _words(found))


def _change(args: argparse.Namespace) -> int:
    with remote.client() as engine:
        return remote.done(args, engine.act(f"bulks/{common.segment(args.id)}/{args.change}"))


def _get(engine: Client, bulk_id: str) -> BulkDetail:
    from engine.api.types_bulk import BulkDetail

    return engine.get(f"bulks/{common.segment(bulk_id)}", BulkDetail)


def _words(found: BulkDetail) -> str:
    bulk: Bulk = found.bulk
    left = bulk.total - bulk.done - bulk.skipped - bulk.failed
    lines = [
        f"{bulk.verb.capitalize()} of {bulk.total} jobs: {bulk.state}",
        f"{bulk.done} done, {bulk.skipped} skipped, {bulk.failed} failed, {left} left ({bulk.released} of them begun)",
        *([bulk.note] if bulk.note else []),
        *(f"{reason.count:>8}  {reason.state}: {reason.reason}" for reason in found.reasons),
    ]
    return "\n".join(lines)
