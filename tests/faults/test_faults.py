"""The short form of the table of faults: a small world, two faults, and that the comparison sees what it must."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.faults import base as bases
from tests.faults import run, truth
from tests.faults.base import Base
from tests.faults.catalogue import faults
from tests.faults.truth import Difference, Snapshot
from tests.faults.world import Shape, World, opened

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
        assert _difference(world) == Difference(True, 0, 0, "")
        for wrong, words in WRONGS.items():
            with world.database() as connection, connection.transaction(force_rollback=True):
                connection.execute(wrong)
                found = truth.read(connection)
            with world.bank.control() as control:
                assert truth.compare(found, truth.truth(control), base.tops, None).words == words, wrong


def _difference(world: World) -> Difference:
    with world.database() as connection, world.bank.control() as control:
        return truth.compare(truth.snapshot(connection), truth.truth(control), world.base.tops, None)
