"""Cursors of the sandbox bank: whatever happens, folding the pages gives what the bank has."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sandbox.ledger import NOT_OURS, Ledger, Page
from engine.sandbox.model import Transaction
from engine.sandbox.refusals import Refusal

MUTATION = "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION"


def row(number: int, cents: int = 100) -> Transaction:
    return Transaction(
        transaction_id=f"t{number}", account_id="a", amount=Decimal(cents) / 100, date="2026-01-01", name=f"n{number}"
    )


class Reader:
    """A client of /transactions/sync that keeps the rules, strictly."""

    def __init__(self) -> None:
        self.rows: dict[str, Transaction] = {}
        self.cursor: str | None = None
        self.restarts = 0

    def begin(self) -> None:
        self.staged = dict(self.rows)
        self.at = self.cursor

    def step(self, ledger: Ledger, count: int) -> bool:
        """One page; False where the update is complete or was thrown away."""
        try:
            page = ledger.page(self.at, count)
        except Refusal as refusal:
            if refusal.plaid_code != MUTATION:
                raise
            self.restarts += 1
            return False
        assert len(page.added) + len(page.modified) + len(page.removed) <= count
        self.fold(page)
        self.at = page.next_cursor
        if not page.has_more:
            self.rows, self.cursor = self.staged, page.next_cursor
        return page.has_more

    def fold(self, page: Page) -> None:
        for each in page.added:
            assert each.transaction_id not in self.staged, "added twice"
            self.staged[each.transaction_id] = each
        for each in page.modified:
            assert each.transaction_id in self.staged, "modified before it was added"
            self.staged[each.transaction_id] = each
        for each in page.removed:
            del self.staged[each.transaction_id]

    def update(self, ledger: Ledger, count: int) -> None:
        self.begin()
        while self.step(ledger, count):
            pass


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["add", "modify", "remove", "page", "update", "disturb"]), st.integers(0, 40), st.integers(1, 7)
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(CHANGES)
def test_folding_the_pages_gives_the_truth(changes: list[tuple[str, int, int]]) -> None:
    ledger, reader, under_way, made = Ledger("item"), Reader(), False, 0
    for what, which, count in changes:
        live = list(ledger.live())
        if what == "add":
            ledger.add([row(made + number) for number in range(count)])
            made += count
        elif what == "modify" and live:
            ledger.modify(row(int(live[which % len(live)].transaction_id[1:]), which * 100 + count))
        elif what == "remove" and live:
            ledger.remove(live[which % len(live)].transaction_id)
        elif what == "disturb":
            ledger.disturb()
        elif what == "page":
            if not under_way:
                reader.begin()
            under_way = reader.step(ledger, count)
        elif what == "update":
            reader.update(ledger, count)
            under_way = False
    if under_way:
        while reader.step(ledger, 3):
            pass
    reader.update(ledger, 5)
    assert reader.rows == {each.transaction_id: each for each in ledger.live()}
    replay = Reader()
    replay.update(ledger, 4)
    assert replay.rows == reader.rows


def test_a_change_within_an_update_is_said_only_until_it_restarts() -> None:
    ledger = Ledger("item")
    ledger.add(row(number) for number in range(6))
    first = ledger.page(None, 2)
    assert first.has_more
    ledger.modify(row(0, 999))
    with pytest.raises(Refusal) as caught:
        ledger.page(first.next_cursor, 2)
    assert caught.value.plaid_code == MUTATION
    again = ledger.page(None, 10)
    assert not again.has_more
    assert [each.amount for each in again.added if each.transaction_id == "t0"] == [Decimal("9.99")]
    assert ledger.page(again.next_cursor, 10).added == []


def test_new_rows_within_an_update_join_it() -> None:
    ledger = Ledger("item")
    ledger.add(row(number) for number in range(4))
    first = ledger.page(None, 3)
    ledger.add([row(9)])
    second = ledger.page(first.next_cursor, 3)
    assert [each.transaction_id for each in second.added] == ["t3", "t9"]


def test_what_came_and_went_between_two_updates_is_not_mentioned() -> None:
    ledger = Ledger("item")
    ledger.add([row(1)])
    seen = ledger.page(None, 10).next_cursor
    ledger.add([row(2)])
    ledger.remove("t2")
    page = ledger.page(seen, 10)
    assert (page.added, page.modified, page.removed, page.has_more) == ([], [], [], False)


def test_a_cursor_of_another_item_is_refused() -> None:
    ours, other = Ledger("ours"), Ledger("other")
    for ledger in (ours, other):
        ledger.add([row(1)])
    with pytest.raises(Refusal) as caught:
        ours.page(other.page(None, 10).next_cursor, 10)
    assert (caught.value.plaid_code, caught.value.message) == ("INVALID_FIELD", NOT_OURS)


@given(st.text(max_size=60))
def test_anything_else_is_no_cursor(text: str) -> None:
    ledger = Ledger("item")
    if text:
        with pytest.raises(Refusal):
            ledger.page(text, 10)


def test_a_cursor_of_a_later_state_is_refused() -> None:
    now, later = Ledger("item"), Ledger("item")
    later.add([row(1)])
    with pytest.raises(Refusal):
        now.page(later.page(None, 10).next_cursor, 10)


def test_an_id_is_never_used_again() -> None:
    ledger = Ledger("item")
    ledger.add([row(1)])
    ledger.remove("t1")
    with pytest.raises(ValueError, match="used before"):
        ledger.add([row(1)])
