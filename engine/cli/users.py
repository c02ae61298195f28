"""``syncdeskctl users``: who there is, and how many of a user's jobs run in one turn."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from engine.cli import common, remote

if TYPE_CHECKING:
    from engine.api.client import Client
    from engine.api.types_users import User


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``users`` and its commands."""
    group = commands.add_parser("users", help="users: list, weight of their jobs")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="users with their banks and weights")
    common.add_json(listing)
    listing.set_defaults(run=_list)
    weight = actions.add_parser("weight", help="how many jobs of a user run before it is another one's turn")
    common.add_json(weight)
    weight.add_argument("user", metavar="NAME|ID")
    weight.add_argument("weight", type=int, metavar="N", help="1 to 100")
    weight.set_defaults(run=_weight)


def _list(args: argparse.Namespace) -> int:
    from engine.api.types_users import UserPage

    with remote.client() as engine:
        found = UserPage(users=_all(engine))
    rows = [(user.name, user.weight, user.banks, user.id) for user in found.users]
    return remote.show(args, found, remote.table(("User", "Weight", "Banks", "Id"), rows) if rows else "No users yet.")


def _weight(args: argparse.Namespace) -> int:
    from engine.api.types_users import UserChange
    from engine.errors import NotFound

    with remote.client() as engine:
        user = next((user for user in _all(engine) if args.user in (user.name, user.id)), None)
        if user is None:
            raise NotFound(f"There is no user {args.user!r}.")
        return remote.done(args, engine.act(f"users/{user.id}", UserChange(args.weight), method="PATCH"))


def _all(engine: Client) -> list[User]:
    from engine.api.types_users import UserPage

    return [user for page in engine.pages("users", UserPage, limit=500) for user in page.users]
