"""How many jobs at a time: what the person set stays set, however slow the engine's answers are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from engine.api import types
from gui.pages.workers import PoolCard, WorkersPage
from tests.console.support import scenes
from tests.console.support.server import Server
from tests.console.support.windows import opened
from tests.console.test_actions import click, wait


class Held:
    """An answer that is given when it is let go."""

    def __init__(self, answer: Any) -> None:
        self.asked, self.go = threading.Event(), threading.Event()
        self._answer = answer

    def __call__(self, _query: dict[str, str]) -> Any:
        self.asked.set()
        self.go.wait(60)
        return self._answer


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(scenes.World("normal").answers()) as made:
        made.answers["/api/queues/webhooks"] = lambda _query: types.Done("")
        yield made


@pytest.fixture
def card(server: Server, qtbot: QtBot) -> Iterator[PoolCard]:
    """The card of a pool of whose page no further look arrives."""
    with opened(server, qtbot) as window:
        window.open("workers")
        page = window.page
        assert isinstance(page, WorkersPage)
        wait(qtbot, lambda: "events" in page.pools)
        look = server.answers["/api/workers"] = Held(scenes.World("normal").workers())
        server.tell("workers")
        wait(qtbot, look.asked.is_set)  # one look at a time: those before it have arrived
        try:
            yield page.pools["events"]
        finally:
            look.go.set()


def changes(server: Server) -> int:
    return server.asked.count("/api/queues/webhooks")


def test_a_look_that_was_taken_before_the_change_does_not_show_the_old_number(card: PoolCard, qtbot: QtBot) -> None:
    stepper, before = card.steppers["webhooks"], card._pool
    click(qtbot, stepper.less)
    wait(qtbot, lambda: stepper._value == 9)  # the engine's word
    card.show_pool(before)
    assert stepper.value.text() == "9"
    card.show_pool(before)  # the next look knows: somebody else has set it back
    assert stepper.value.text() == "10"


def test_a_click_while_the_change_before_it_is_on_its_way_counts(card: PoolCard, server: Server, qtbot: QtBot) -> None:
    stepper = card.steppers["webhooks"]
    change = server.answers["/api/queues/webhooks"] = Held(types.Done(""))
    click(qtbot, stepper.less)
    wait(qtbot, change.asked.is_set)
    click(qtbot, stepper.more)
    wait(qtbot, lambda: not stepper._quiet.isActive())
    assert changes(server) == 1
    change.go.set()
    wait(qtbot, lambda: changes(server) == 2)
    wait(qtbot, lambda: stepper._value == 10)
    assert stepper.value.text() == "10"


def test_a_change_that_the_engine_refuses_is_taken_back(card: PoolCard, server: Server, qtbot: QtBot) -> None:
    stepper = card.steppers["webhooks"]
    server.answers["/api/queues/webhooks"] = lambda _query: types.Problem("CONFLICT", "Not now.")
    click(qtbot, stepper.less)
    assert stepper.value.text() == "9"
    wait(qtbot, lambda: stepper.value.text() == "10")
    assert changes(server) == 1
