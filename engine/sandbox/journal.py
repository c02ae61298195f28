"""What the bank did, a line a change, so that a bank that is started again knows its customers.

A change is an operation with JSON arguments; reading the file does them again in order. A last
line that was cut off by a crash is dropped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from engine.errors import StartError
from engine.sandbox.model import Transaction, encode


class Journal:
    """An append-only file for the user alone (it holds the bank's tokens). None as path: keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The operations so far.

        Raises:
            StartError: the file cannot be read, or a line in the middle is none of ours.
        """
        if self._path is None or not self._path.exists():
            return
        try:
            raw = self._path.read_bytes()
        except OSError as error:
            raise StartError(f"The bank's file {self._path} cannot be read: {error.strerror}") from error
        whole = raw[: raw.rfind(b"\n") + 1]
        if len(whole) < len(raw):
            self._cut(len(whole))
        for line in whole.splitlines():
            try:
                operation, raw_arguments = msgspec.json.decode(line, type=tuple[str, dict[str, msgspec.Raw]])
                # Money must come back exact, so rows are read as what they are.
                arguments = {
                    name: msgspec.json.decode(value, type=list[Transaction] if name == "rows" else Any)
                    for name, value in raw_arguments.items()
                }
            except msgspec.MsgspecError as error:
                raise StartError(f"The bank's file {self._path} is damaged; remove it to start anew.") from error
            yield operation, arguments

    def open(self) -> None:
        """Begin to write at the end.

        Raises:
            StartError: the file cannot be written.
        """
        if self._path is None:
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise StartError(f"The bank's file {self._path} cannot be written: {error.strerror}") from error
        self._file = os.fdopen(descriptor, "ab", buffering=0)

    def write(self, operation: str, arguments: dict[str, Any]) -> None:
        """Keep one change; it is with the operating system when this returns."""
        if self._file is not None:
            self._file.write(encode((operation, arguments)) + b"\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _cut(self, length: int) -> None:
        if self._path is not None:
            with self._path.open("r+b") as file:
                file.truncate(length)
