"""Models under the model tester, and what they promise a reader: rows change in place, nothing jumps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QPersistentModelIndex
from pytestqt.modeltest import ModelTester
from pytestqt.qtbot import QtBot

from engine.api import types_jobs
from gui.client.api import Client, path
from gui.models.paged import PAGE, Paged
from gui.models.rows import ROW, Rows
from tests.console.conftest import WAIT_MS
from tests.console.support import scenes
from tests.console.support.server import TOKEN, Server


@dataclass(frozen=True)
class Thing:
    id: str
    value: int = 0


def things(*ids: str) -> list[Thing]:
    return [Thing(id_) for id_ in ids]


def keys(model: Rows) -> list[str]:
    return [model.key(row) for row in model.rows]


@pytest.fixture
def model(qtmodeltester: ModelTester) -> Rows:
    made = Rows(lambda row: row.id, lambda row: f"thing {row.id}")
    qtmodeltester.check(made)
    return made


def test_rows_become_what_is_shown(model: Rows) -> None:
    model.show(things("a", "b", "c", "d"))
    model.show(things("x", "b", "d", "a"))
    assert keys(model) == ["x", "b", "d", "a"]
    assert model.index(1).data() == "thing b"


def test_a_changed_row_is_told_alone(model: Rows, qtbot: QtBot) -> None:
    model.show(things("a", "b", "c", "d"))
    told: list[tuple[int, int]] = []
    model.dataChanged.connect(lambda first, last, _roles: told.append((first.row(), last.row())))
    model.show([Thing("a"), Thing("b", 7), Thing("c", 7), Thing("d")])
    assert told == [(1, 2)]
    told.clear()
    model.show([Thing("a"), Thing("b", 7), Thing("c", 7), Thing("d")])
    assert told == []


def test_what_is_held_stays_in_place(model: Rows) -> None:
    model.show(things("a", "b", "c"))
    waiting = model.show([Thing("new"), Thing("c", 1), Thing("a")], hold=True)
    assert waiting == 1
    assert keys(model) == ["a", "b", "c"]
    assert model.stale == {"b"}
    assert model.get("c").value == 1
    assert model.show([Thing("new"), Thing("c", 1), Thing("a")]) == 0
    assert keys(model) == ["new", "c", "a"]
    assert model.stale == set()


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), unique=True), max_size=6))
def test_any_sequence_of_lists_is_followed(lists: list[list[str]]) -> None:
    model = Rows(lambda row: row.id, lambda row: row.id)
    model.show(things("a", "c", "e"))
    kept = QPersistentModelIndex(model.index(1))
    lived = True
    for wanted in lists:
        model.show(things(*wanted))
        assert keys(model) == wanted
        lived = lived and "c" in wanted
        assert kept.isValid() == lived
        if lived:
            assert kept.data(ROW).id == "c"


@pytest.fixture
def full() -> Iterator[Server]:
    with Server(scenes.World("full").answers()) as server:
        yield server


def jobs(client: Client) -> Paged:
    def address(after: str | None, limit: int) -> str:
        return path("jobs", after=after, limit=limit)

    def pick(page: types_jobs.JobPage) -> Sequence[Any]:
        return page.jobs

    return Paged(client, types_jobs.JobPage, address, pick, lambda job: job.id, lambda job: job.label)  # type: ignore[arg-type]


def test_a_long_list_is_fetched_as_it_is_scrolled_to(full: Server, qtbot: QtBot, qtmodeltester: ModelTester) -> None:
    client = Client()
    client.attach(full.url, TOKEN)
    model = jobs(client)
    with qtbot.waitSignal(model.answered, timeout=WAIT_MS):
        model.refresh()
    assert model.rowCount() == PAGE
    assert not model.complete
    for pages in (2, 3):
        assert model.canFetchMore()
        with qtbot.waitSignal(model.answered, timeout=WAIT_MS):
            model.fetchMore()
        assert not model.canFetchMore() or model.rowCount() == pages * PAGE
    with qtbot.waitSignal(model.answered, timeout=WAIT_MS):
        model.refresh()
    assert model.rowCount() == 3 * PAGE
    assert len(set(keys(model))) == 3 * PAGE
    qtmodeltester.check(model)
    client.abort()


def test_a_refresh_asked_for_meanwhile_comes_after(full: Server, qtbot: QtBot) -> None:
    client = Client()
    client.attach(full.url, TOKEN)
    model = jobs(client)
    seen: list[object] = []
    model.answered.connect(seen.append)
    for _ in range(5):
        model.refresh()
    qtbot.waitUntil(lambda: len(seen) == 2, timeout=WAIT_MS)
    assert sum(asked.startswith("/api/jobs") for asked in full.asked) == 2
    client.abort()


def test_a_persons_own_action_lets_rows_go_also_while_a_call_is_out(qtbot: QtBot) -> None:
    world = scenes.World("trouble")
    with Server(world.answers()) as server:
        client = Client()
        client.attach(server.url, TOKEN)
        model = jobs(client)
        model.holding = lambda: True
        with qtbot.waitSignal(model.answered, timeout=WAIT_MS):
            model.refresh()
        gone = keys(model)[0]
        server.answers["/api/jobs"] = lambda query: types_jobs.JobPage(world.jobs(query).jobs[1:], {}, None)
        model.refresh()
        model.refresh(release=True)
        qtbot.waitUntil(lambda: gone not in keys(model), timeout=WAIT_MS)
