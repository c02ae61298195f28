"""``syncdeskctl items``: bank links, from a shell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Any

from engine.cli import common, remote
from engine.errors import SyncdeskError, UsageError


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``items`` and its commands."""
    group = commands.add_parser("items", help="bank links: list, link, relink, sync, remove")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="bank links and how they are")
    listing.add_argument("--search", metavar="TEXT")
    common.add_json(listing)
    listing.set_defaults(run=_list)
    link = actions.add_parser("link", help="link a bank, by a public token or on Plaid's page in the browser")
    link.add_argument(
        "--public-token", metavar="T", help="of Plaid Link; -: one per line from standard input, public_token[,user]"
    )
    link.add_argument("--user", help="whose bank it is")
    link.add_argument("--wait", type=common.seconds, default=900.0, metavar="S", help="wait for the browser so long")
    common.add_json(link)
    link.set_defaults(run=_link)
    relink = actions.add_parser("relink", help="sign in at a bank again, on Plaid's page in the browser")
    relink.add_argument("item")
    relink.add_argument("--wait", type=common.seconds, default=900.0, metavar="S", help="wait for the browser so long")
    common.add_json(relink)
    relink.set_defaults(run=_relink)
    aside = actions.add_parser("set-aside", help="rows of one bank that were refused, and why; try them again")
    aside.add_argument("item")
    aside.add_argument("--retry", nargs="*", metavar="ROW", help="try these again, or without a name all of them")
    common.add_json(aside)
    aside.set_defaults(run=_set_aside)
    for name, words in (
        ("sync", "sync one bank now"),
        ("pause", "stop syncing one bank"),
        ("resume", "sync one bank again"),
        ("remove", "end a bank link at Plaid; its data is kept"),
    ):
        command = actions.add_parser(name, help=words)
        command.add_argument("item")
        common.add_json(command)
        command.set_defaults(run=_act, verb=name)


def _list(args: argparse.Namespace) -> int:
    from engine.api import types_banks

    found: list[types_banks.Item] = []
    counts: dict[str, int] = {}
    with remote.client() as engine:
        for page in engine.pages("items", types_banks.ItemPage, q=args.search, limit=500):
            found += page.items
            counts = page.counts
    rows = [
        (item.id, item.institution, item.user, item.state, item.accounts, item.transactions, item.last_success_at)
        for item in found
    ]
    head = ("Item", "Bank", "User", "State", "Accounts", "Transactions", "Last success")
    text = remote.table(head, rows) if rows else "No bank is linked yet."
    return remote.show(args, {"items": found, "counts": counts}, text)


def _set_aside(args: argparse.Namespace) -> int:
    from engine.api import types_banks

    with remote.client() as engine:
        if args.retry is not None:
            return remote.done(
                args,
                engine.act(
                    f"items/{common.segment(args.item)}/set-aside/retry", types_banks.TryAgain(args.retry or None)
                ),
            )
        found: list[types_banks.SetAside] = []
        for page in engine.pages(f"items/{common.segment(args.item)}/set-aside", types_banks.SetAsidePage, limit=500):
            found += page.rows
    rows = [(row.id, row.transaction_id, row.at, row.tries, row.sentence) for row in found]
    text = remote.table(("Row", "Transaction", "Since", "Tries", "Why"), rows) if rows else "No row is set aside."
    return remote.show(args, {"rows": found}, text)


def _act(args: argparse.Namespace) -> int:
    with remote.client() as engine:
        return remote.done(args, engine.act(f"items/{common.segment(args.item)}/{args.verb}"))


def _link(args: argparse.Namespace) -> int:
    if args.public_token is None:
        return _sign_in(args, None)
    if args.public_token == "-":  # noqa: S105 - no token: read them from standard input
        return _link_many(args, sys.stdin)
    if not args.public_token.strip():
        raise UsageError("The public token is empty.")
    from engine.api import types_banks

    with remote.client() as engine:
        return remote.done(args, engine.act("items/link", types_banks.LinkRequest(args.public_token, args.user)))


def _link_many(args: argparse.Namespace, lines: Iterable[str]) -> int:
    """Each line is tried; 1 where any was refused. A token is never printed, so lines are named by their number."""
    from engine.api import types_banks

    results: list[dict[str, Any]] = []
    with remote.client() as engine:
        for number, line in enumerate(lines, 1):
            token, _, user = (part.strip() for part in line.partition(","))
            if not token:
                continue
            try:
                done = engine.act("items/link", types_banks.LinkRequest(token, user or args.user))
                results.append({"line": number, "ok": True, "item_id": done.ids[0], "message": done.message})
            except SyncdeskError as error:
                results.append({"line": number, "ok": False, "item_id": None, "message": error.message})
    ok = bool(results) and all(result["ok"] for result in results)
    text = "\n".join(f"line {result['line']}: {result['item_id'] or result['message']}" for result in results)
    common.show(args, {"ok": ok, "items": results}, text or "No public token was given.")
    return 0 if ok else 1


def _relink(args: argparse.Namespace) -> int:
    return _sign_in(args, args.item)


def _sign_in(args: argparse.Namespace, item: str | None) -> int:
    """Open Plaid's page and follow it to its end; 1 where it ended without a bank."""
    import threading
    import webbrowser

    from engine import clock
    from engine.api import types_banks

    with remote.client() as engine:
        request = types_banks.LinkRequest(user=getattr(args, "user", None), item_id=item)
        begun: types_banks.LinkStart = engine.act("items/link", request, shape=types_banks.LinkStart)
        common.note(f"Sign in on this page: {begun.url}")
        if not args.json:
            webbrowser.open(begun.url)
        pause, end = threading.Event(), clock.monotonic() + args.wait
        state = engine.get(f"items/link/{begun.session}", types_banks.LinkState)
        while state.state == "waiting" and clock.monotonic() < end:
            pause.wait(2.0)
            state = engine.get(f"items/link/{begun.session}", types_banks.LinkState)
    ok = state.state == "done"
    common.show(args, {"ok": ok, "url": begun.url, **remote.document(state)}, state.message)
    return 0 if ok else 1
