"""Commands that act through the running engine: its client, and what they print."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from engine.cli import common

if TYPE_CHECKING:
    from engine.api.client import Client
    from engine.api.types import Done


@contextmanager
def client() -> Iterator[Client]:
    """A client of the profile's engine.

    Raises:
        NotRunningError: none runs, or it is not the one that wrote its address down.
    """
    from engine.api.client import Client
    from engine.errors import NotRunningError

    found = common.engine(common.profile())
    if found.admin is None:
        raise NotRunningError("This engine has no admin listener.")
    with Client(found.admin, found.token) as made:
        yield made


def document(value: Any) -> Any:
    """A type of the API as plain data for ``--json``."""
    import msgspec

    return msgspec.to_builtins(value)


def show(args: argparse.Namespace, value: Any, text: str) -> int:
    """Print an answer; 0."""
    common.show(args, document(value), text)
    return 0


def done(args: argparse.Namespace, value: Done) -> int:
    """Print the answer of an action; 0."""
    return show(args, {"ok": True, **document(value)}, value.message)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as their widest cell; numbers to the right."""
    cells = [[("" if cell is None else str(cell)) for cell in row] for row in rows]
    widths = [max(len(head[at]), *(len(row[at]) for row in cells), 0) for at in range(len(head))]
    right = [all(isinstance(row[at], int | float) or row[at] is None for row in rows) for at in range(len(head))]

    def line(row: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(head), *(line(row) for row in cells)])
