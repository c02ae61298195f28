"""A console's window on the small server of the tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.console.conftest import WAIT_MS
from tests.console.support.server import TOKEN, Server

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from gui.shell import Shell


@contextlib.contextmanager
def opened(server: Server, qtbot: QtBot, size: tuple[int, int] | None = None) -> Iterator[Shell]:
    """It is shown and knows its engine; closed at the end."""
    from gui.client.connection import Remote
    from gui.main import build

    window = build(Remote(server.url, TOKEN), start=False, remember=False)
    qtbot.addWidget(window)
    if size is not None:
        window.resize(*size)
    window.show()
    window.desk.connection.open()
    qtbot.waitUntil(lambda: window.desk.known is not None, timeout=WAIT_MS)
    try:
        yield window
    finally:
        window.close()
