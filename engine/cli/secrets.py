"""``syncdeskctl secrets``: what the profile keeps in the keyring or in its file, by name, and the master key's change.

Values go in, never out; a fresh key and a recovery code are printed once, when they are made.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import getpass
import sys
from typing import TYPE_CHECKING

from engine.cli import common
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.secrets import Secrets

_WHO = "syncdeskctl"


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

    for name, run, words in (
        ("new-key", _new_key, "print a fresh master key, for SYNCDESK_MASTER_KEY"),
        ("rotate", _rotate, "seal all access tokens with a fresh master key, while syncing goes on"),
        ("recovery", _recovery, "make the recovery code, which is shown once; an earlier one ends"),
        ("recover", _recover, "get the master key back with the recovery code, read from terminal or standard input"),
    ):
        command = actions.add_parser(name, help=words)
        if name == "rotate":
            command.add_argument("--forget", action="store_true", help="drop old keys that seal nothing any more")
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
    value = _asked(name)
    keeper = Keeper(common.profile())
    if name == MASTER_KEY:
        for part in value.split(","):
            parse_key(part)
        if name in keeper.names():
            raise UsageError(
                "The profile has a master key already, and access tokens are sealed with it. Remove it first if you "
                "are sure, or let `syncdeskctl secrets rotate` change it."
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


def _new_key(args: argparse.Namespace) -> int:
    from engine.secrets.sealing import new_key

    made = new_key()
    common.show(args, {"master_key": made}, made)
    return 0


def _rotate(args: argparse.Namespace) -> int:
    from engine.sync import keys

    with common.store() as store:
        done = keys.rotate(store, _keys(), _WHO, forget=args.forget)
    lines = [f"{done.resealed} bank links are sealed with the master key {done.key_id} now."]
    if done.damaged:
        lines.append(f"{len(done.damaged)} could not be opened and were left as they are: {', '.join(done.damaged)}.")
    if done.kept:
        lines.append(f"{done.kept} older keys are kept for backups of the database.")
    if done.forgotten:
        lines.append(
            f"{done.forgotten} older keys were dropped; backups sealed with them need the recovery code of then."
        )
    if not done.recoverable:
        lines.append("There is no recovery code yet: `syncdeskctl secrets recovery` makes one.")
    document = {"ok": not done.damaged, **dataclasses.asdict(done)}
    common.show(args, document, "\n".join(lines))
    return 1 if done.damaged else 0


def _recovery(args: argparse.Namespace) -> int:
    from engine.sync import keys

    with common.store() as store:
        code = keys.make_code(store, _keys(), _WHO)
    text = (
        f"{code}\n\nThis is the recovery code. It is shown once and kept nowhere: write it down. With it and a backup "
        "of the database,\nevery bank link can be had back on another machine (`syncdeskctl secrets recover`)."
    )
    common.show(args, {"ok": True, "recovery_code": code}, text)
    return 0


def _recover(args: argparse.Namespace) -> int:
    from engine.sync import keys

    code = _asked("recovery code")
    with common.store() as store:
        found = keys.recover(store, _keys(), code, _WHO)
    text = f"The master key {found[0]} is back; banks sync again with the next run, or at once with a click."
    common.show(args, {"ok": True, "key_ids": found}, text)
    return 0


def _keys() -> Secrets:
    from engine.secrets import Secrets

    profile = common.profile()
    return Secrets(profile, common.settings(profile))


def _asked(name: str) -> str:
    value = getpass.getpass(f"{name}: ") if sys.stdin.isatty() else sys.stdin.readline()
    if not value.strip():
        raise UsageError("The value is empty; nothing was changed.")
    return value.strip()
