"""``syncdesk --demo``: the demo's world on a throw-away profile, gone when the window closes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from engine.errors import StartError
from engine.profile import Profile
from gui.client.connection import Found, Local

STOP_S = 25
_NO_WINDOW = 0x08000000
"""CREATE_NO_WINDOW of Windows, where a console program would flash up."""


class Demo:
    """A source of engines: ``syncdeskctl demo --live``, which lives as long as we hold its standard input."""

    can_start = True
    log = ""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._local: Local | None = None

    def find(self) -> Found:
        """Look into the profile that the demo made; nothing before it was started.

        Raises:
            StartError: the demo ended by itself.
        """
        child, local = self._child, self._local
        if child is None or local is None:
            return Found()
        found = local.find()
        if found.place is None and child.poll() is not None:
            self._child = self._local = None
            raise StartError("The demo ended by itself. Start it again to get a fresh one.")
        return found if found.place is not None or found.step else Found(step="Starting the demo")

    def start(self) -> None:
        """Start the demo in a fresh profile.

        Raises:
            StartError: it cannot be run, or ended at once.
        """
        from engine import launch

        self.end()
        folder = None if getattr(sys, "frozen", False) else str(Path(__file__).resolve().parent.parent)
        flags = _NO_WINDOW if sys.platform == "win32" else 0
        try:
            child = subprocess.Popen(
                launch.self_command(["demo", "--live"]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=folder,
                env={name: value for name, value in os.environ.items() if name != "SYNCDESK_PROFILE"},
                creationflags=flags,
            )
        except OSError as error:
            raise StartError(f"The demo cannot be started: {error.strerror}.") from error
        self._child = child
        line = child.stdout.readline() if child.stdout is not None else b""
        try:
            root = Path(str(json.loads(line)["profile"]))
        except (ValueError, KeyError, TypeError) as error:
            self.end()
            raise StartError("The demo did not start.") from error
        self._local = Local(Profile(root.name, root))
        self.log = self._local.log

    def end(self) -> None:
        """Let the demo end and clean up after itself."""
        child, self._child, self._local = self._child, None, None
        if child is None:
            return
        if child.stdin is not None:
            child.stdin.close()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            print("syncdesk: the demo takes long to end; it goes on ending by itself.", file=sys.stderr)
        if child.stdout is not None:
            child.stdout.close()
