"""The short form of the table of faults: a small world, two faults, and that the comparison sees what it must."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from tests.faults import base as bases
from tests.faults import run, truth
from tests.faults.base import Base
from tests.faults.catalogue import faults
from tests.faults.truth import Difference, Snapshot
from tests.faults.world import Shape, World, opened
from tests.support.wait import until

ITEMS = 12
EVENTS = 50

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals"),
]


@pytest.fixture(scope="module")
def base() -> Iterator[Base]:
    made = bases.prepare(ITEMS)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def reference(base: Base) -> Snapshot:
    return run.undisturbed(base, EVENTS)


@pytest.mark.parametrize("name", ["worker_killed", "database_killed"])
def test_a_fault_leaves_no_trace(name: str, base: Base, reference: Snapshot) -> None:
    outcome = run.disturbed(base, faults()[name], reference, EVENTS)
    assert outcome.difference == Difference(True, 0, 0, "")
    assert outcome.recovery_s is not None


#: What could go wrong in a database, and how it is told.
WRONGS = {
    "update syncdesk.transactions set name = name || '!' where id = (select max(id) from syncdesk.transactions)": (
        "1 rows lost, 1 rows that their history does not tell"
    ),
    "insert into syncdesk.transaction_history (item_id, user_id, transaction_id, change, new, source)"
    " select item_id, user_id, transaction_id, change, new, source from syncdesk.transaction_history"
    " where id = (select max(id) from syncdesk.transaction_history where change = 'added')": "1 rows doubled",
    "update syncdesk.items set cursor = null where id = (select id from syncdesk.items limit 1)": "1 items behind",
    "update syncdesk.items set wanted = wanted + 1 where id = (select id from syncdesk.items limit 1)": (
        "1 wishes, webhooks or notices open"
    ),
}


def test_the_comparison_sees_what_is_wrong(base: Base) -> None:
    with opened(base, Shape(), EVENTS) as world:
        world.start()
        with world.bank.control() as control:
            told = truth.truth(control)
        assert truth.compare(_at_rest(world), told, base.tops, None) == Difference(True, 0, 0, "")
        for wrong, words in WRONGS.items():
            assert truth.compare(_at_rest(world, wrong), told, base.tops, None).words == words, wrong


def _at_rest(world: World, wrong: str = "select 1") -> Snapshot:
    """The database after ``wrong``, which is taken back, at a moment when no wish of its own is open."""
    with world.database() as connection:
        return until(lambda: _now(connection, wrong), 60, "a moment without open wishes")


def _now(connection: psycopg.Connection[Any], wrong: str) -> Snapshot | None:
    with suppress(psycopg.errors.SerializationFailure), connection.transaction(force_rollback=True):
        connection.execute("set transaction isolation level repeatable read")
        if truth.unfinished(connection) == 0:
            connection.execute(wrong)
            return truth.read(connection)
    return None
