"""``syncdeskctl bills``: import bills from a file, and try the matcher on labelled worlds."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import common
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.matching.evaluate import World

DEFAULT_USER = "me"
_NEEDED = ("name", "cadence", "anchor_date")
_FIELDS = (
    *_NEEDED,
    "currency",
    "amount",
    "amount_min",
    "amount_max",
    "category",
    "tolerance",
    "aliases",
    "business_day_shift",
    "account_id",
    "start_date",
    "end_date",
)


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bills`` and its commands."""
    group = commands.add_parser("bills", help="import bills, try the matcher on labelled data")
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    modes = {"choices": ("rules", "simple"), "default": None, "help": "instead of the configured mode"}
    for name, run, words in (
        ("evaluate", _evaluate, "precision and recall on labelled worlds (a file or a folder of *.json)"),
        ("match", _match, "what would be tagged and what proposed, on worlds without their truth"),
    ):
        command = actions.add_parser(name, help=words)
        command.add_argument("path", type=Path)
        command.add_argument("--mode", **modes)  # type: ignore[arg-type]
        common.add_json(command)
        command.set_defaults(run=run)
    command = actions.add_parser("import", help=f"bills from a CSV file with a header: {', '.join(_FIELDS)}")
    command.add_argument("file", type=Path)
    command.add_argument("--user", default=DEFAULT_USER, help="whose bills these are")
    common.add_json(command)
    command.set_defaults(run=_import)


def load_worlds(path: Path) -> Iterator[World]:
    """The worlds of a file or a folder, by file name.

    Raises:
        UsageError: nothing there, or a file is no world.
    """
    from engine.matching import evaluate

    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UsageError(f"{path} holds no worlds (*.json).")
    for file in files:
        yield evaluate.world(file.name, _bytes(file))


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error


def _evaluate(args: argparse.Namespace) -> int:
    from engine.matching import evaluate

    found = evaluate.evaluate(load_worlds(args.path), args.mode or common.settings(common.profile()).matching)
    lines = [f"{found['worlds']} worlds".ljust(30) + " precision   recall   f1"]
    lines += [_line(name, found[name]) for name in ("auto", "suggest", "baseline", "rules")]
    lines += [_line(f"  {name}", kinds["auto"]) for name, kinds in sorted(found["slices"].items())]
    lines.append(f"right period of right tags: {found['period_accuracy']:.4f}")
    common.show(args, found, "\n".join(lines))
    return 0


def _line(name: str, figures: dict[str, float]) -> str:
    return f"{name:30s} {figures['precision']:.4f}      {figures['recall']:.4f}   {figures['f1']:.4f}"


def _match(args: argparse.Namespace) -> int:
    from engine.matching import evaluate

    found = evaluate.match(load_worlds(args.path), args.mode or common.settings(common.profile()).matching)
    counts = ((name, len(lists["auto"]), len(lists["suggest"])) for name, lists in found["worlds"].items())
    common.show(args, found, "\n".join(f"{name}: {tagged} tagged, {more} proposed" for name, tagged, more in counts))
    return 0


def _import(args: argparse.Namespace) -> int:
    import uuid

    from engine.sync.rematch import rematch

    bills = read_bills(args.file)
    with common.store() as store:
        done = store.call("bills_import", user=args.user, bills=bills)
        mode = common.settings(common.profile()).matching
        counts = rematch(store, done["user_id"], correlation=f"import-{uuid.uuid4().hex[:12]}", mode=mode)
    answer = {"created": done["created"], "updated": done["updated"], "ids": done["ids"], **counts}
    text = (
        f"{done['created']} bills added, {done['updated']} replaced; "
        f"{counts['tagged']} payments tagged, {counts['suggested']} proposed."
    )
    common.show(args, answer, text)
    return 0


def read_bills(file: Path) -> list[dict[str, Any]]:
    """The bills of a CSV file, one a row; empty cells are left out, aliases are separated by ``;`` or ``|``.

    Raises:
        UsageError: unreadable, a column unknown or missing, or a row without what a bill needs (with its line).
    """
    text = _bytes(file)
    try:
        reader = csv.DictReader(text.decode("utf-8-sig").splitlines(), restkey="")
        rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{file} is not a CSV file in UTF-8: {error}") from error
    columns = [name.strip() for name in reader.fieldnames or ()]
    unknown = [name for name in columns if name not in (*_FIELDS, "id")]
    missing = [name for name in _NEEDED if name not in columns]
    if unknown or missing:
        what = f"does not know the column {unknown[0]!r}" if unknown else f"needs the column {missing[0]!r}"
        raise UsageError(f"The import {what}. Columns are: {', '.join(_FIELDS)}.")
    return [_bill(file, line, row) for line, row in rows]


def _bill(file: Path, line: int, row: dict[str, Any]) -> dict[str, Any]:
    if "" in row:
        raise UsageError(f"{file}, line {line}: more cells than columns.")
    found: dict[str, Any] = {
        name.strip(): value.strip()
        for name, value in row.items()
        if value and value.strip() and name.strip() in _FIELDS
    }
    for name in _NEEDED:
        if name not in found:
            raise UsageError(f"{file}, line {line}: a bill needs a {name}.")
    if "aliases" in found:
        found["aliases"] = [alias.strip() for alias in found["aliases"].replace("|", ";").split(";") if alias.strip()]
    return found
