"""``syncdeskctl secrets``: what the profile keeps in the keyring or in its file, by name; values go in, never out."""

from __future__ import annotations

import argparse
import difflib
import getpass
import sys

from engine.cli import common
from engine.errors import UsageError


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``secrets`` and its commands."""
    group = commands.add_parser("secrets", help="keys and passwords that the profile keeps")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    command = actions.add_parser("list", help="names of what is kept, and where")
    common.add_json(command)
    command.set_defaults(run=_list)
    for name, run, words in (
        ("set", _set, "keep a secret; its value is read from the terminal or from standard input"),
        ("remove", _remove, "forget a secret"),
    ):
        command = actions.add_parser(name, help=words)
        command.add_argument("name", help="the setting's name, such as plaid_secret")
        common.add_json(command)
        command.set_defaults(run=run)


def _secret_name(text: str) -> str:
    """The setting meant by its name or its environment variable.

    Raises:
        UsageError: there is no secret setting of that name.
    """
    from engine.settings import declared

    secrets = {name: spec.metadata["env"] for name, spec in declared().items() if spec.metadata["secret"]}
    for name, variable in secrets.items():
        if text in (name, variable):
            return name
    near = difflib.get_close_matches(text.lower(), secrets, 1)
    raise UsageError(f"There is no secret {text!r}." + (f" Did you mean {near[0]}?" if near else ""))


def _list(args: argparse.Namespace) -> int:
    from engine.secrets import Keeper

    keeper = Keeper(common.profile())
    names, place = keeper.names(), keeper.place
    text = "\n".join(names) if names else "Nothing is kept yet."
    common.show(args, {"kept": place, "names": names}, f"In the {place}:\n{text}" if names else text)
    return 0


def _set(args: argparse.Namespace) -> int:
    from engine.secrets import Keeper
    from engine.secrets.sealing import MASTER_KEY, parse_key

    name = _secret_name(args.name)
    value = getpass.getpass(f"{name}: ") if sys.stdin.isatty() else sys.stdin.readline()
    value = value.strip()
    if not value:
        raise UsageError("The value is empty; nothing was changed.")
    keeper = Keeper(common.profile())
    if name == MASTER_KEY:
        for part in value.split(","):
            parse_key(part)
        if name in keeper.names():
            raise UsageError(
                "The profile has a master key already, and access tokens are sealed with it. Remove it first if you "
                "are sure, or give several keys in SYNCDESK_MASTER_KEY, the new one first."
            )
    keeper.set(name, value)
    common.show(args, {"ok": True, "name": name, "kept": keeper.place}, f"Kept {name} in the {keeper.place}.")
    return 0


def _remove(args: argparse.Namespace) -> int:
    from engine.secrets import Keeper

    name = _secret_name(args.name)
    removed = Keeper(common.profile()).remove(name)
    common.show(args, {"ok": True, "removed": removed}, f"Removed {name}." if removed else f"{name} was not kept.")
    return 0
