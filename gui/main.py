"""``syncdesk``: opens the console on this install's engine, on a throw-away demo, or on an engine elsewhere."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.errors import SyncdeskError

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

    from gui.client.connection import Source
    from gui.shell import Shell

MEASURE = "SYNCDESK_MEASURE_WINDOW"
STARTED = "SYNCDESK_STARTED"
"""Seconds since the epoch at which the process was started, by whoever measures."""
TOKEN = "SYNCDESK_TOKEN"  # noqa: S105 - the name of a variable


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="syncdesk", description="The desktop console of Syncdesk.")
    parser.add_argument("--profile", help="profile to open: a name or a path")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--demo", action="store_true", help="a throw-away profile with simulated banks")
    which.add_argument("--engine", metavar="URL", help=f"an engine elsewhere; its token from {TOKEN} or asked for")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Open the console; returns the exit code."""
    given = parse(sys.argv[1:] if argv is None else argv)
    try:
        return _run(given)
    except SyncdeskError as error:
        print(f"syncdesk: {error.message}", file=sys.stderr)
        return error.exit_code


def _run(given: argparse.Namespace) -> int:
    app = application()
    demo = None
    if given.demo:
        from gui.demo import Demo

        demo = Demo()
        source: Source = demo
        name = "Demo"
    elif given.engine:
        remote = _remote(given.engine)
        if remote is None:
            return 2
        source, name = remote, _host(given.engine)
    else:
        from engine.profile import choose
        from gui.client.connection import Local

        profile = choose(given.profile, os.environ)
        source, name = Local(profile), "This computer" if profile.is_default else profile.name
    window = build(source, name)
    _hook(window)
    window.show()
    if os.environ.get(MEASURE):
        _measure(app, window)  # and starts no engine, which would outlive it
    else:
        window.desk.connection.open()
    code = app.exec()
    if demo is not None:
        demo.end()
    return code


def application() -> QApplication:
    """The Qt application with its theme; the one that runs already, if any."""
    from PySide6.QtWidgets import QApplication

    from gui import icons, theme

    app = QApplication.instance()
    if not isinstance(app, QApplication):
        app = QApplication(sys.argv[:1])
    app.setApplicationName("Syncdesk")
    app.setOrganizationName("Syncdesk")
    app.setDesktopFileName("syncdesk")
    theme.install(app)
    app.setWindowIcon(icons.application())
    return app


def build(source: Source, name: str = "This computer", *, start: bool = True, remember: bool = True) -> Shell:
    """The window over a source of engines. Nothing is looked for until ``desk.connection.open()``."""
    from PySide6.QtCore import QSettings

    from gui.client.api import Client
    from gui.client.connection import Connection
    from gui.desk import Desk
    from gui.shell import Shell

    client = Client()
    connection = Connection(client, source, client, start=start)
    desk = Desk(client, connection, client)
    window = Shell(desk, name, QSettings() if remember else None)
    client.setParent(window)
    return window


def _remote(address: str) -> Source | None:
    """The engine at an address; None where the person gave no token."""
    from gui.client.connection import Remote

    token = os.environ.get(TOKEN, "")
    if not token:
        from PySide6.QtWidgets import QInputDialog, QLineEdit

        token, ok = QInputDialog.getText(
            None, "Syncdesk", f"Token of the engine at {_host(address)}", QLineEdit.EchoMode.Password
        )
        if not ok or not token:
            return None
    return Remote(address if "://" in address else f"http://{address}", token.strip())


def _host(address: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(address if "://" in address else f"http://{address}").hostname or address


def _hook(window: Shell) -> None:
    """An error in a slot must neither vanish nor end the console: written to stderr, said once each."""
    said: set[str] = set()
    former = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: object) -> None:
        former(kind, error, trace)  # type: ignore[arg-type]
        mark = f"{kind.__name__}:{error}"
        if isinstance(error, Exception) and mark not in said and len(said) < 100:
            said.add(mark)
            window.desk.say(f"Something in the console went wrong ({kind.__name__}). The engine is not touched by it.")

    sys.excepthook = hook


def _measure(app: QApplication, window: Shell) -> None:
    """Print the milliseconds from the start of the process to the first painted window, and end."""
    from PySide6.QtCore import QTimer

    begun = float(os.environ.get(STARTED) or time.time())

    def painted() -> None:
        window.repaint()
        print(f"{(time.time() - begun) * 1000:.0f}", flush=True)
        app.quit()

    QTimer.singleShot(0, painted)


if __name__ == "__main__":
    sys.exit(main())
