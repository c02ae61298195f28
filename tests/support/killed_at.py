"""Runs ``syncdeskctl`` and kills itself, as by ``kill -9``, at one moment of starting one of its programs.

``python killed_at.py PROGRAM MOMENT up``: PROGRAM is how a word of the started command line ends. The moments, seen
by the interpreter's audit events of the thread that starts it: ``before`` (nothing is started yet), ``spawned`` (its
process is there, and nobody was told), ``noted`` (its line is written for the next start, and the file not in its
place), ``told`` (the keeper knows it as well).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

MOMENTS = ("before", "spawned", "noted", "told")
_AFTER_RENAME = 3


class _Killer:
    def __init__(self, program: str, moment: str) -> None:
        self._program, self._moment = program, moment
        self._thread: int | None = None
        self._since = -1  # events after the file of parts came to its place

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and self._thread is None:
            if any(str(word).endswith(self._program) for word in arguments[1]):
                self._thread = threading.get_ident()
                self._at("before")
        elif threading.get_ident() == self._thread:
            self._at("spawned")
            if self._since >= 0:
                self._since += 1
            if event == "os.rename" and str(arguments[1]).endswith("parts.json"):
                self._at("noted")
                self._since = 0
            if self._since == _AFTER_RENAME:
                self._at("told")

    def _at(self, moment: str) -> None:
        if moment == self._moment:
            self._moment = ""  # the next line is an event as well
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run the rest of the command line with the killer in place."""
    import runpy

    _, program, moment, *rest = sys.argv
    sys.argv = ["syncdeskctl", *rest]
    sys.addaudithook(_Killer(program, moment))
    runpy.run_module("scheduler.command", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
