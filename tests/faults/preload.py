"""A library of a few lines in all processes of an engine: shifts their wall clock, has one of them take memory.

Time that only runs (the monotonic clock) is left alone, as it is when a person or a time server sets a clock. The
engine gives its servers no environment, so their programs get it from scripts of a line.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

from engine.host import binaries

_SOURCE = Path(__file__).with_name("preload.c")
_TOLD = struct.Struct("qq")


class Preload:
    """The library of one world; its files are in ``folder``, which every account can read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._told = folder / "told"
        self._library = folder / "preload.so"

    def environment(self) -> dict[str, str]:
        """Make the library; what the engine's environment needs.

        Raises:
            AssertionError: there is no C compiler, or it refuses.
        """
        compiler = shutil.which("cc")
        assert compiler is not None, "there is no C compiler"
        command = [compiler, "-O1", "-shared", "-fPIC", "-pthread", "-o", str(self._library), str(_SOURCE), "-ldl"]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        self.tell()
        for path in (self._told, self._library):
            path.chmod(0o755)
        ours = {"LD_PRELOAD": str(self._library), "FAULTS_TOLD": str(self._told)}
        return {**ours, **self._servers(ours)}

    def tell(self, *, ahead_s: int = 0, heavy: int = 0) -> None:
        """From now on: seconds that the wall clock is ahead, and the pid of the process that takes memory."""
        with open(self._told, "r+b" if self._told.exists() else "wb", buffering=0) as file:
            file.write(_TOLD.pack(ahead_s, heavy))

    def _servers(self, ours: dict[str, str]) -> dict[str, str]:
        """Names for the servers' programs that start them with the library."""
        account = binaries.account_for(self._folder)
        home = binaries.open_to(binaries.postgres_home(), account)
        mine = self._folder / "postgres"
        (mine / "bin").mkdir(parents=True)
        (mine / "share").symlink_to(home / "share")
        self._script(mine / "bin" / "postgres", home / "bin" / "postgres", ours)
        named = {"SYNCDESK_POSTGRES_HOME": str(mine)}
        valkey = binaries.valkey_server()
        if valkey is not None:
            self._script(self._folder / "valkey", valkey, ours)
            named["SYNCDESK_VALKEY_SERVER"] = str(self._folder / "valkey")
        return named

    @staticmethod
    def _script(script: Path, program: Path, ours: dict[str, str]) -> None:
        words = " ".join(f"{name}='{value}'" for name, value in ours.items())
        script.write_text(f'#!/bin/sh\n{words} exec "{program}" "$@"\n')
        script.chmod(0o755)
