"""Random histories of banks, triggers and faults: once the dust settles, the database holds exactly the bank's truth.

Every row, the history that folds to it, each arrival and each going told once, the cursor at the bank's end, and
nothing left of any run. `tests.support.histories` has the steps; a failing history is shrunk and printed as a list of
them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, note, seed, settings
from hypothesis import strategies as st

from engine.errors import BrokerUnavailable, StoreUnavailable
from engine.store.direct import Direct
from tests.integration.test_sync_history import fold, normal, plain, stored
from tests.support import histories, servers
from tests.support.bank import running_bank
from tests.support.histories import HERE, History, Linked, Servers, Step
from tests.support.queue import bench
from tests.support.stepped import PLACES, QUEUE_FAULTS, STORE_FAULTS

USUAL = 50
COUNT = int(os.environ.get("SYNCDESK_TEST_HISTORIES", str(USUAL)))
PHASES = [Phase.generate, Phase.shrink]

which = st.integers(0, 1)
index = st.integers(0, 30)
told = st.sampled_from(["once", "once", "once", "twice", "unhinted", "no"])
hinted = st.sampled_from(["once", "twice", "unhinted"])
BREAKS = ["ITEM_LOGIN_REQUIRED", "PENDING_EXPIRATION", "USER_PERMISSION_REVOKED"]
ERRORS = [
    "INTERNAL_SERVER_ERROR", "RATE_LIMIT_EXCEEDED", "TRANSACTIONS_SYNC_LIMIT", "INSTITUTION_DOWN", "PRODUCT_NOT_READY",
    "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION", "INVALID_API_KEYS", "A_CODE_OF_TOMORROW",
]  # fmt: skip


def step(name: str, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(name), *parts)


def at_the_bank(which: st.SearchStrategy[int]) -> st.SearchStrategy[Step]:
    return st.one_of(
        step("add", which, st.integers(1, 12), st.sampled_from(["plain", "plain", "pending", "gym", "account"]), told),
        step("post", which, index, told),
        step("modify", which, index, told),
        step("remove", which, index, told),
        step("mutate", which),
        step("ready", which, st.sampled_from(["INITIAL_UPDATE_COMPLETE", "HISTORICAL_UPDATE_COMPLETE"])),
    )


AT_THE_BANK = at_the_bank(which)
PERSON = st.one_of(step("manual", which), step("note", which, index))
TRIGGERS = st.one_of(PERSON, step("schedule"), step("reconcile"), step("sweep"))
TROUBLE = st.one_of(
    step("breaks", which, st.sampled_from(BREAKS), st.booleans()),
    step("repairs", which),
    step("trouble", which, st.just("error"), st.sampled_from(ERRORS), st.integers(1, 4)),
    step("trouble", which, st.sampled_from(["html", "empty", "truncated", "reset"]), st.just(""), st.integers(1, 3)),
    step("forget_cursor", which, st.sampled_from(["lost", "refused"])),
)
AWAY = st.one_of(
    step("wipe"), step("cut_redis"), step("cut_postgres"), step("passes", st.sampled_from([3, 60, 1000])), step("lapse")
)
here = st.sampled_from([0, 1, HERE, HERE, HERE])
#: What may happen in the middle of a run; a second worker may then run the same item.
MEANWHILE = st.lists(
    st.one_of(
        at_the_bank(here), at_the_bank(here), step("manual", here), step("note", here, index), step("repairs", here),
        step("forget_cursor", here, st.sampled_from(["lost", "refused"])), TRIGGERS, AWAY, step("end"),
        step("work", st.integers(1, 3)),
    ),
    min_size=1, max_size=3,
)  # fmt: skip
#: The worker was stopped for so long that another one took over and finished.
OVERTAKEN = at_the_bank(here).map(lambda news: [("lapse",), news, ("reconcile",), ("work", 3)])
HAPPENS = st.one_of(MEANWHILE, MEANWHILE, OVERTAKEN)
MOMENT = st.tuples(st.sampled_from(PLACES), st.integers(0, 2), HAPPENS)
#: What was fetched is void; then something happens.
RESTART = st.tuples(st.integers(1, 2), st.lists(MOMENT, max_size=1), HAPPENS).map(
    lambda made: [("before page", made[0], [("mutate", HERE)]), ("after sync_abort", 0, made[2]), *made[1]]
)
#: The last that is told of an item comes while a run of it is under way.
NEWS = step("add", st.just(HERE), st.integers(1, 12), st.sampled_from(["plain", "pending", "gym"]), hinted)
LATE = st.tuples(st.sampled_from(PLACES), st.just(0), st.lists(NEWS, min_size=1, max_size=1)).map(lambda one: [one])
MOMENTS = st.one_of(st.just([]), st.lists(MOMENT, min_size=1, max_size=3), RESTART, LATE)
FAULT = st.one_of(
    st.just(()),
    st.tuples(st.just("store"), st.integers(0, 9), st.sampled_from(STORE_FAULTS)),
    st.tuples(st.just("queue"), st.sampled_from(QUEUE_FAULTS)),
)
WORK = st.one_of(
    step("work", st.integers(1, 4), FAULT, st.booleans()),
    step("work", st.integers(1, 4), st.just(()), st.booleans(), MOMENTS),
    step("work", st.integers(1, 4), FAULT, st.booleans(), MOMENTS),
)
#: News, and somebody at work; a pending row with a note that is posted; a cursor that is lost while rows go.
LIVED = st.tuples(AT_THE_BANK, WORK).map(list)
POSTED = st.tuples(which, index, WORK).map(
    lambda made: [
        ("add", made[0], 2, "pending", "once"), ("work", 3), ("note", made[0], made[1]),
        ("post", made[0], made[1], "once"), made[2],
    ]
)  # fmt: skip
RESTORED = st.tuples(which, index, st.sampled_from(["lost", "refused"]), WORK).map(
    lambda made: [("forget_cursor", made[0], made[2]), ("remove", made[0], made[1], "once"), made[3]]
)
ALONE = st.one_of(AT_THE_BANK, WORK, TRIGGERS, TROUBLE, AWAY).map(lambda one: [one])
#: Several pages, during which something happens.
PAGES = st.tuples(
    step("add", which, st.integers(6, 14), st.just("plain"), st.just("once")),
    step("work", st.integers(2, 4), st.just(()), st.booleans(), st.one_of(RESTART, LATE)),
).map(list)
ALONE = st.one_of(AT_THE_BANK, WORK, TRIGGERS, TROUBLE, AWAY).map(lambda one: [one])
LEAST = 3
CHAPTERS = st.lists(st.one_of(ALONE, LIVED, LIVED, PAGES, POSTED, RESTORED), min_size=LEAST, max_size=9)
#: Most begin with rows in the database, some with trouble during the first sync.
BEGUN = st.one_of(
    st.just([]), st.just([("work", 4)]), step("work", st.just(4), FAULT, st.booleans(), MOMENTS).map(lambda one: [one])
).map(lambda works: [("reconcile",), *works])


@pytest.fixture(scope="module")
def shared(cluster: servers.Cluster) -> Iterator[Servers]:
    with cluster.fresh() as url, running_bank() as bank:
        store = Direct(url)
        with histories.servers(store, url, bank) as made:
            yield made
        store.close()


@pytest.fixture(scope="module")
def own_broker() -> Iterator[str]:
    """Emptied by every history."""
    with servers.broker() as made:
        yield made.url


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(COUNT))
def test_the_database_equals_the_bank_in_the_end(shared: Servers, own_broker: str, number: int) -> None:
    """Fifty histories, the same each time; ``SYNCDESK_TEST_HISTORIES=1000`` for as many.

    Each is drawn by a seed of its own: of many that hypothesis draws from one, most are like the one before.
    """

    @seed(number)
    @settings(
        max_examples=1,
        deadline=None,
        database=None,
        phases=PHASES,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(begun=BEGUN, chapters=CHAPTERS, last=st.one_of(PAGES, ALONE))
    def plays(begun: list[Step], chapters: list[list[Step]], last: list[Step]) -> None:
        assume(len(chapters) > LEAST)  # the simplest one comes first, and says nothing
        steps = [*begun, *itertools.chain(*chapters), *last]
        note(f"steps = {steps!r}")
        play(shared, own_broker, steps)

    plays()


def play(shared: Servers, broker: str, steps: list[Step]) -> None:
    """One history from its beginning to the checks."""
    with bench(broker, "histories", shared.store) as world:
        history = History(shared, world)
        history.begin()
        for one in steps:
            with contextlib.suppress(BrokerUnavailable, StoreUnavailable):
                history.take(one)  # whoever did it met the outage; the promise is about what comes of it
        for number in history.hear_all():
            check_rows(history, number, history.items[number])
        history.settle()
        for number, item in enumerate(history.items):
            check_rows(history, number, item)
            check_history(shared, item)
            check_postings(history, number)
            check_item(history, number, item)
        check_rest(shared)


def check_rows(history: History, number: int, item: Linked) -> None:
    """Row for row and field for field what the bank has."""
    truth = history.truth(number)
    rows = history.shared.rows("select * from syncdesk.transactions where item_id = %s and removed_at is null", item.id)
    ours = {row["transaction_id"]: row for row in rows}
    assert sorted(ours) == sorted(truth)
    for identity, theirs in truth.items():
        row = ours[identity]
        got = (
            row["amount"],
            row["date"].isoformat(),
            row["name"],
            row["merchant_name"],
            row["pending"],
            row["account_id"],
        )
        assert got == (
            Decimal(theirs["amount"]), theirs["date"], theirs["name"], theirs.get("merchant_name"), theirs["pending"],
            theirs["account_id"],
        ), identity  # fmt: skip
    count = history.shared.rows("select transactions from syncdesk.items where id = %s", item.id)[0]["transactions"]
    assert count == len(truth)


class Seen:
    """One item as the checks of the history read it."""

    def __init__(self, shared: Servers, item: str) -> None:
        self.item, self.rows = item, shared.rows


def check_history(shared: Servers, item: Linked) -> None:
    """It folds to the row; nothing was added or removed twice, nor counted by more than one run."""
    seen: Any = Seen(shared, item.id)
    lines: dict[str, list[dict[str, Any]]] = {}
    for line in shared.rows("select * from syncdesk.transaction_history where item_id = %s order by id", item.id):
        lines.setdefault(line["transaction_id"], []).append(line)
    rows = stored(seen)
    assert sorted(lines) == sorted(rows)
    arrivals, told_rows = 0, normal(seen, {identity: fold(found) for identity, found in lines.items()})
    for identity, row in rows.items():
        assert plain(told_rows[identity]) == plain(row), identity
        first = [number for number, line in enumerate(lines[identity]) if _arrived(line)]
        assert first == [0], (identity, [line["change"] for line in lines[identity]])
        assert [line["change"] for line in lines[identity] if line["change"] in ("removed", "restored")] in (
            [], ["removed"],
        ), identity  # fmt: skip
        arrivals += 1
    counted = shared.rows(
        "select coalesce(sum(added), 0) as added from syncdesk.sync_runs where item_id = %s and state = 'done'", item.id
    )
    assert counted[0]["added"] == arrivals


def check_postings(history: History, number: int) -> None:
    """What was pending went over to the row that names it, with the person's note."""
    rows = history.shared.rows("select * from syncdesk.transactions where item_id = %s", history.items[number].id)
    ours = {row["transaction_id"]: row for row in rows}
    for identity, theirs in history.truth(number).items():
        was = ours.get(theirs.get("pending_transaction_id") or "")
        if was is not None:
            assert was["replaced_by"] == identity
            assert was["note"] is None or ours[identity]["note"] is not None


def _arrived(line: dict[str, Any]) -> bool:
    return line["change"] == "added" or (line["change"] == "posted" and "transaction_id" in (line["old"] or {}))


def check_item(history: History, number: int, item: Linked) -> None:
    """Nothing is wished for, each run began where the one before ended, the last where the bank has no more, and none
    left anything."""
    rows = history.shared.rows
    found = rows("select state, wanted, done, cursor, update_status from syncdesk.items where id = %s", item.id)[0]
    assert (found["state"], found["wanted"]) == ("healthy", found["done"])
    assert history.news(item, found["cursor"]) == (0, False)
    done = rows(
        "select from_cursor, to_cursor from syncdesk.sync_runs where item_id = %s and state = 'done' order by fence",
        item.id,
    )
    assert done[-1]["to_cursor"] == found["cursor"]
    if number not in history.forgotten:
        assert [run["from_cursor"] for run in done] == [None, *(run["to_cursor"] for run in done[:-1])]
    assert rows("select state from syncdesk.sync_runs where item_id = %s and state = 'running'", item.id) == []
    assert rows("select 1 from syncdesk.item_leases where item_id = %s", item.id) == []
    ghosts = rows(
        "select m.id from syncdesk.matches m join syncdesk.transactions t"
        " on t.item_id = m.item_id and t.transaction_id = m.transaction_id"
        " where m.item_id = %s and m.state in ('auto', 'suggested') and t.removed_at is not null",
        item.id,
    )
    assert ghosts == []


def check_rest(shared: Servers) -> None:
    """Every webhook was dealt with; no page is left behind; no notice was told twice."""
    assert shared.rows("select id, state from syncdesk.inbox where state in ('received', 'failed')") == []
    assert shared.rows("select run_id from syncdesk.stage") == []
    assert shared.rows("select outbox_id from syncdesk.notices group by 1 having count(*) > 1") == []
