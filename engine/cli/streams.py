"""The three standard streams of a command, also where its caller has closed one or reads no further."""

from __future__ import annotations

import contextlib
import os
import sys

CUT = 141
"""Exit code of a command whose reader went away: what a shell says of a program that SIGPIPE ended."""


def complete() -> None:
    """Let nothing stand for a stream that the caller closed: else the next file or socket would get its number, and
    what is written to the stream would go there."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - as long as the process


def finish(code: int) -> int:
    """Write what is still held back. The exit code: ``code``, or another where that was not possible."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return cut()
    except OSError as error:
        _drop()
        print(f"syncdeskctl: The answer cannot be written: {error.strerror}.", file=sys.stderr)
        return 1
    return code


def cut() -> int:
    """End in silence, as the reader has what it wanted (``| head``). The exit code."""
    _drop()
    return CUT


def _drop() -> None:
    """What is still held back goes nowhere: the interpreter would try again at its end, and complain."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
