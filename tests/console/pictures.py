"""Every page as a picture, light and dark: ``python -m tests.console.pictures FOLDER [NAME ...]``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from tests.console.support import scenes
from tests.console.support.server import TOKEN, Server

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

    from gui.shell import Shell

SETTLE_S = 5.0


@dataclass(frozen=True)
class Picture:
    """A page in a scene; ``then`` brings it into the state to be looked at."""

    name: str
    scene: scenes.Scene
    page: str
    target: str = ""
    size: tuple[int, int] = (1280, 800)
    then: Callable[[Shell], None] | None = None
    down: bool = False
    bulk: dict[str, Any] | None = None


def _open_cause(window: Shell) -> None:
    page = window.page
    page.cause_list.setFocus()  # type: ignore[attr-defined]
    page._opened["f1"] = 4  # type: ignore[attr-defined]
    page._fetch_group("f1")  # type: ignore[attr-defined]


def _job(place: int) -> Callable[[Shell], None]:
    """The first cause opened, and one of its jobs chosen."""

    def choose(window: Shell) -> None:
        from PySide6.QtCore import QTimer

        _open_cause(window)
        view = window.page.cause_list  # type: ignore[attr-defined]
        QTimer.singleShot(300, lambda: view.choose(view.rows.key(view.rows.rows[1 + place])))

    return choose


def _first(view: str) -> Callable[[Shell], None]:
    def choose(window: Shell) -> None:
        found = getattr(window.page, view)
        found.setFocus()
        found.step(1)

    return choose


def _tick_three(window: Shell) -> None:
    from PySide6.QtCore import QTimer

    _open_cause(window)
    view = window.page.cause_list  # type: ignore[attr-defined]
    QTimer.singleShot(300, lambda: view._tick({view.rows.key(row) for row in view.rows.rows[1:4]}))


def _ask_remove(window: Shell) -> None:
    from PySide6.QtCore import QTimer

    _first("view")(window)
    QTimer.singleShot(400, window.page.pane.remove.click)  # type: ignore[attr-defined]


def _search(words: str) -> Callable[[Shell], None]:
    return lambda window: window.page.search.setText(words)  # type: ignore[attr-defined]


def _scrolled(window: Shell) -> None:
    window.page.job_list.verticalScrollBar().setValue(1400)  # type: ignore[attr-defined]


def _ask_all(window: Shell) -> None:
    window.page._ask_all("retry")  # type: ignore[attr-defined]


def _ask_discard(window: Shell) -> None:
    window.page._ask_all("discard")  # type: ignore[attr-defined]


def _toast(window: Shell) -> None:
    window.toast.say("Discarded 3 jobs", lambda: None)


PICTURES = [
    Picture("overview", "normal", "overview"),
    Picture("overview-trouble", "trouble", "overview"),
    Picture("overview-empty", "empty", "overview"),
    Picture("overview-unreachable", "normal", "overview", down=True),
    Picture("overview-narrow", "normal", "overview", size=(960, 600)),
    Picture("jobs", "trouble", "jobs", then=_job(0)),
    Picture("jobs-went-through", "trouble", "jobs", then=_job(1)),
    Picture("jobs-ticked", "trouble", "jobs", then=_tick_three),
    Picture("jobs-ask", "trouble", "jobs", then=_ask_all),
    Picture("jobs-ask-discard", "trouble", "jobs", then=_ask_discard),
    Picture("jobs-held", "trouble", "jobs", bulk={"state": "held"}),
    Picture("jobs-bulk", "trouble", "jobs", then=_job(0), bulk={"state": "running", "done": 6, "skipped": 1}),
    Picture("jobs-stopped", "trouble", "jobs", bulk={"state": "canary"}),
    Picture(
        "jobs-bulk-narrow",
        "trouble",
        "jobs",
        size=(960, 600),
        bulk={"state": "running", "done": 6, "skipped": 1, "failed": 2},
    ),
    Picture("jobs-empty", "normal", "jobs"),
    Picture("jobs-full", "full", "jobs", "all", then=_scrolled),
    Picture("jobs-causes", "full", "jobs"),
    Picture("jobs-narrow", "trouble", "jobs", size=(960, 600), then=_open_cause),
    Picture("jobs-unreachable", "trouble", "jobs", down=True),
    Picture("banks", "trouble", "banks", then=_first("view")),
    Picture("banks-remove", "trouble", "banks", then=_ask_remove),
    Picture("banks-empty", "empty", "banks"),
    Picture("bills", "normal", "bills", then=_first("match_list")),
    Picture("bills-all", "normal", "bills", "bills", then=_first("bill_list")),
    Picture("bills-empty", "empty", "bills"),
    Picture("workers", "normal", "workers"),
    Picture("workers-trouble", "trouble", "workers"),
    Picture("schedule", "normal", "schedule", then=_first("view")),
    Picture("webhooks", "normal", "webhooks"),
    Picture("webhooks-refused", "normal", "webhooks", "697"),
    Picture("webhooks-detail", "normal", "webhooks", then=_first("view")),
    Picture("webhooks-narrow", "normal", "webhooks", size=(960, 600)),
    Picture("webhooks-empty", "empty", "webhooks"),
    Picture("webhooks-nothing", "normal", "webhooks", then=_search("coffee")),
    Picture("toast", "normal", "overview", then=_toast),
]


def _settle(app: QApplication, seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        app.processEvents()
        time.sleep(0.005)
        yield


def take(app: QApplication, picture: Picture, dark: bool, folder: Path) -> Path:
    """Make one picture."""
    from PySide6.QtCore import QPoint
    from PySide6.QtGui import QCursor, QPainter
    from PySide6.QtWidgets import QDialog

    from gui import theme
    from gui.client.connection import Remote
    from gui.main import build

    theme.current().set_dark(dark)
    world = scenes.World(picture.scene)
    if picture.bulk is not None:
        world.bulks = [world.bulk(**picture.bulk)]
    with Server(world.answers()) as server:
        window = build(Remote(server.url, TOKEN), start=False, remember=False)
        window.resize(*picture.size)
        QCursor.setPos(5000, 5000)
        window.show()
        window.desk.connection.open()
        for _ in _settle(app, SETTLE_S):
            if window.desk.known is not None:
                break
        window.open(picture.page, picture.target)
        for _ in _settle(app, 0.6):
            pass
        if picture.then is not None:
            picture.then(window)
            for _ in _settle(app, 0.9):
                pass
        if picture.down:
            server.close()
            for _ in _settle(app, SETTLE_S):
                if window.desk.connection.state == "unreachable":
                    break
            for _ in _settle(app, 0.2):
                pass
        out = folder / f"{picture.name}-{'dark' if dark else 'light'}.png"
        picked = window.grab()
        painter = QPainter(picked)
        for dialog in window.findChildren(QDialog):
            if dialog.isVisible():
                painter.drawPixmap(window.mapFromGlobal(dialog.mapToGlobal(QPoint(0, 0))), dialog.grab())
        painter.end()
        picked.save(str(out))
        window.close()
        window.deleteLater()
        app.processEvents()
    return out


def main(argv: list[str]) -> int:
    """Make the pictures that are named, or all."""
    from PySide6.QtCore import QLocale

    from gui.main import application

    folder = Path(argv[0])
    folder.mkdir(parents=True, exist_ok=True)
    QLocale.setDefault(QLocale(QLocale.Language.English, QLocale.Country.UnitedStates))
    app = application()
    for picture in PICTURES:
        if argv[1:] and picture.name not in argv[1:]:
            continue
        for dark in (False, True):
            print(take(app, picture, dark, folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
