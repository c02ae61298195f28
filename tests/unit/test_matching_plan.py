"""A plan made from what arrived equals one made from everything, and keeps the rules of one payment, one period."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.matching.assign import assign
from engine.matching.cleanup import FRESH_DAYS, no_payments
from engine.matching.evaluate import apply
from engine.matching.nearest import nearest
from engine.matching.plan import plan, plan_all
from engine.matching.types import Bill, Held, Key, MatchInputs, Payment, PlannedMatch

DAY0 = dt.date(2026, 1, 1)
TODAY = dt.date(2026, 6, 30)
NETFLIX = Bill(
    id="netflix",
    name="Netflix",
    amount=Decimal("15.49"),
    anchor_date=dt.date(2026, 1, 12),
    category="ENTERTAINMENT_TV_AND_MOVIES",
)


def paid(key: str, name: str, amount: str, day: dt.date, **more: Any) -> Payment:
    values = {"item_id": "i", "account_id": "a", "currency": "USD", "merchant": name, **more}
    return Payment(transaction_id=key, name=name.upper(), amount=Decimal(amount), date=day, **values)


def inputs(
    bills: Iterable[Bill],
    payments: Iterable[Payment] = (),
    matches: Iterable[PlannedMatch | Held] = (),
    since: dt.date | None = None,
) -> MatchInputs:
    held = [
        match
        if isinstance(match, Held)
        else Held(
            bill_id=match.bill_id,
            item_id=match.item_id,
            transaction_id=match.transaction_id,
            period=match.period,
            state="auto" if match.state == "auto" else "suggested",
        )
        for match in matches
    ]
    return MatchInputs(bills=tuple(bills), payments=tuple(payments), matches=tuple(held), since=since)


def facts(changes: Iterable[PlannedMatch]) -> list[tuple[str, str, dt.date, str]]:
    return sorted((change.transaction_id, change.bill_id, change.period, change.state) for change in changes)


# ---------------------------------------------------------------- the property

BILLS = (
    NETFLIX,
    Bill(id="apple", name="Apple", amount=Decimal("2.99"), anchor_date=dt.date(2026, 1, 4), aliases=("iCloud",)),
    Bill(id="music", name="Apple Music", amount=Decimal("3.05"), anchor_date=dt.date(2026, 1, 8)),
    Bill(id="piano", name="Piano", amount=Decimal("35"), anchor_date=dt.date(2026, 1, 6), cadence="weekly"),
    Bill(
        id="power",
        name="Con Edison",
        amount_min=Decimal("50"),
        amount_max=Decimal("160"),
        anchor_date=dt.date(2026, 1, 20),
        category="RENT_AND_UTILITIES",
    ),
)
SHOPS = (
    ("Netflix", "15.49"),
    ("Netflix", "16.50"),
    ("Apple", "2.99"),
    ("Apple", "3.05"),
    ("Piano", "35"),
    ("Piano", "20"),
    ("Piano", "15"),
    ("Con Edison", "90"),
    ("Con Edison", "150"),
    ("Grocer", "15.49"),
    ("Netflix", "-15.49"),
    ("Piano", "-35"),
)
CATEGORIES = (None, "ENTERTAINMENT_TV_AND_MOVIES", "RENT_AND_UTILITIES_GAS_AND_ELECTRICITY")


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[list[Payment], set[Key]]]:
    """Steps of rows that arrive (some again with other values, some pending) and rows that go."""
    known: list[str] = []
    steps = []
    for step in range(draw(st.integers(1, 6))):
        arrived: dict[str, Payment] = {}
        for n in range(draw(st.integers(0, 5))):
            again = known and draw(st.booleans()) and draw(st.booleans())
            key = draw(st.sampled_from(known)) if again else f"t{step}-{n}"
            shop, amount = draw(st.sampled_from(SHOPS))
            pending = draw(st.sampled_from((False, False, False, True)))
            link = draw(st.sampled_from(known)) if known and not pending and draw(st.booleans()) else None
            arrived[key] = paid(
                key,
                shop,
                amount,
                DAY0 + dt.timedelta(days=draw(st.integers(0, 180))),
                pending=pending,
                pending_transaction_id=link,
                detailed=draw(st.sampled_from(CATEGORIES)),
            )
        gone = (
            {("i", key) for key in draw(st.lists(st.sampled_from(known), max_size=2, unique=True))} if known else set()
        )
        steps.append((list(arrived.values()), {key for key in gone if key[1] not in arrived}))
        known = sorted({*known, *arrived})
    return steps


def replay(
    steps: list[tuple[list[Payment], set[Key]]], since: dt.date | None
) -> tuple[dict[Key, Payment], dict[Key, PlannedMatch]]:
    rows: dict[Key, Payment] = {}
    matches: dict[Key, PlannedMatch] = {}
    for arrived, gone in steps:
        seen = [row for row in rows.values() if since is None or row.date >= since]
        changes = plan(inputs(BILLS, seen, matches.values(), since), arrived, gone, TODAY)
        rows |= {row.key: row for row in arrived}
        for key in gone:
            rows.pop(key, None)
        apply(matches, changes)
    return rows, matches


@settings(max_examples=150, deadline=None)
@given(histories())
def test_step_by_step_equals_all_at_once(steps: list[tuple[list[Payment], set[Key]]]) -> None:
    rows, matches = replay(steps, None)
    assert facts(matches.values()) == facts(plan_all(inputs(BILLS, rows.values()), TODAY))


@settings(max_examples=100, deadline=None)
@given(histories(), st.integers(0, 120))
def test_a_window_leaves_nothing_to_do_for_a_full_plan(steps: list[tuple[list[Payment], set[Key]]], days: int) -> None:
    since = DAY0 + dt.timedelta(days=days)
    kept = [([row for row in arrived if row.date >= since], gone) for arrived, gone in steps]
    rows, matches = replay(kept, since)
    assert plan_all(inputs(BILLS, rows.values(), matches.values(), since), TODAY) == []


@settings(max_examples=100, deadline=None)
@given(histories())
def test_one_payment_for_one_period_or_parts_that_add_up(steps: list[tuple[list[Payment], set[Key]]]) -> None:
    rows, matches = replay(steps, None)
    paid_by: dict[tuple[str, dt.date], list[Key]] = {}
    for key, match in matches.items():
        paid_by.setdefault((match.bill_id, match.period), []).append(key)
    amounts = {one.id: one.amount for one in BILLS}
    for (bill_id, _), keys in paid_by.items():
        assert len(keys) == 1 or sum(rows[key].amount for key in keys) == amounts[bill_id]
    assert all(rows[key].amount > 0 for key in matches)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.floats(-1, 5), max_size=12),
)
def test_the_assignment_is_the_best_there_is(
    height: int, width: int, given_scores: dict[tuple[int, int], float]
) -> None:
    scores = {spot: score for spot, score in given_scores.items() if spot[0] < height and spot[1] < width}
    chosen = assign(range(height), range(width), scores)
    assert len(set(chosen.values())) == len(chosen)
    total = sum(scores[pair] for pair in chosen.items())
    places = [*range(width), *[-1] * height]
    best = max(
        sum(max(0.0, scores.get((row, column), 0.0)) for row, column in enumerate(order))
        for order in set(permutations(places, height))
    )
    assert total == pytest.approx(best)


# ---------------------------------------------------------------- what life does


def test_a_webhooks_row_is_tagged_with_its_reasons() -> None:
    row = paid("t1", "Netflix", "15.49", dt.date(2026, 6, 14), detailed="ENTERTAINMENT_TV_AND_MOVIES")
    [match] = plan(inputs([NETFLIX]), [row], (), TODAY)
    assert (match.bill_id, match.period, match.state) == ("netflix", dt.date(2026, 6, 12), "auto")
    assert [(line.feature, line.fits) for line in match.evidence] == [
        ("amount", True),
        ("name", True),
        ("category", True),
        ("date", True),
    ]
    assert match.evidence[0].text == "15.49 USD is the bill's amount."
    assert match.evidence[3].text == "Paid 2 days after it was due, 12 June 2026."
    assert 0 < match.score <= 1


def test_the_second_charge_of_a_period_is_kept_as_a_rival_with_why() -> None:
    first = paid("t1", "Netflix", "15.49", dt.date(2026, 6, 12))
    second = paid("t2", "Netflix", "15.49", dt.date(2026, 6, 13))
    [match] = [
        m for m in plan(inputs([NETFLIX]), [first, second], (), TODAY) if m.state == "auto" and m.transaction_id == "t1"
    ]
    [rival] = [other for other in match.others if other.transaction_id == "t2"]
    assert rival.evidence[0].feature == "taken"
    assert not rival.evidence[0].fits


def test_a_refund_takes_the_tag_back_and_a_new_charge_gets_it() -> None:
    charge = paid("t1", "Netflix", "15.49", dt.date(2026, 6, 12))
    matches: dict[Key, PlannedMatch] = {}
    apply(matches, plan(inputs([NETFLIX]), [charge], (), TODAY))
    refund = paid("t2", "Netflix", "-15.49", dt.date(2026, 6, 14))
    changes = plan(inputs([NETFLIX], [charge], matches.values()), [refund], (), TODAY)
    assert facts(changes) == [("t1", "netflix", dt.date(2026, 6, 12), "none")]
    apply(matches, changes)
    again = paid("t3", "Netflix", "15.49", dt.date(2026, 6, 16))
    changes = plan(inputs([NETFLIX], [charge, refund], matches.values()), [again], (), TODAY)
    assert facts(changes) == [("t3", "netflix", dt.date(2026, 6, 12), "auto")]


def test_a_partial_credit_changes_nothing() -> None:
    charge = paid("t1", "Netflix", "15.49", dt.date(2026, 6, 12))
    matches = plan(inputs([NETFLIX]), [charge], (), TODAY)
    credit = paid("t2", "Netflix", "-5.00", dt.date(2026, 6, 14))
    assert plan(inputs([NETFLIX], [charge], matches), [credit], (), TODAY) == []


def test_money_in_on_another_account_is_no_refund() -> None:
    charge = paid("t1", "Chase card payment", "500", dt.date(2026, 6, 12))
    far_side = paid("t2", "Chase card payment", "-500", dt.date(2026, 6, 12), account_id="card")
    assert no_payments([charge, far_side], TODAY) == {("i", "t2"): "money_in"}


def test_a_pending_payment_moves_to_its_posted_form() -> None:
    pending = paid("p", "Netflix", "15.49", dt.date(2026, 6, 12), pending=True)
    matches = plan(inputs([NETFLIX]), [pending], (), dt.date(2026, 6, 12))
    assert facts(matches) == [("p", "netflix", dt.date(2026, 6, 12), "auto")]
    posted = paid("q", "Netflix", "15.99", dt.date(2026, 6, 14), pending_transaction_id="p")
    given_inputs = inputs([NETFLIX], [pending], matches)
    changes = plan(given_inputs, [posted], {("i", "p")}, dt.date(2026, 6, 14))
    assert facts(changes) == [
        ("p", "netflix", dt.date(2026, 6, 12), "none"),
        ("q", "netflix", dt.date(2026, 6, 12), "auto"),
    ]


@pytest.mark.parametrize(("amount", "reason"), [("15.49", "posted"), ("1.00", "posted"), ("40.00", None)])
def test_a_pending_form_without_a_link_is_found_by_its_twin(amount: str, reason: str | None) -> None:
    pending = paid("p", "Netflix", amount, dt.date(2026, 6, 27), pending=True)
    posted = paid("q", "Netflix", "15.49", dt.date(2026, 6, 29))
    assert no_payments([pending, posted], TODAY).get(("i", "p")) == reason


def test_a_pending_payment_that_never_posts_goes_stale() -> None:
    pending = paid("p", "Netflix", "15.49", TODAY - dt.timedelta(days=FRESH_DAYS + 1), pending=True)
    assert no_payments([pending], TODAY) == {("i", "p"): "stale"}
    assert no_payments([pending], TODAY - dt.timedelta(days=1)) == {}


def test_a_stale_pending_payment_loses_its_tag_without_news() -> None:
    day = dt.date(2026, 6, 12)
    pending = paid("p", "Netflix", "15.49", day, pending=True)
    matches = plan(inputs([NETFLIX]), [pending], (), day)
    held = inputs([NETFLIX], [pending], matches)
    assert plan(held, (), (), day + dt.timedelta(days=FRESH_DAYS)) == []
    changes = plan(held, (), (), day + dt.timedelta(days=FRESH_DAYS + 1))
    assert facts(changes) == [("p", "netflix", day, "none")]


def test_what_the_person_decided_stands() -> None:
    row = paid("t1", "Netflix", "15.49", dt.date(2026, 6, 12))
    other = paid("t2", "Netflix", "15.49", dt.date(2026, 6, 13))
    held = {"bill_id": "netflix", "item_id": "i", "period": dt.date(2026, 6, 12)}
    confirmed = Held(transaction_id="t1", state="confirmed", **held)
    changes = plan_all(inputs([NETFLIX], [row, other], [confirmed]), TODAY)
    assert "t1" not in {change.transaction_id for change in changes}
    assert dt.date(2026, 6, 12) not in {change.period for change in changes}
    rejected = Held(transaction_id="t1", state="rejected", **held)
    assert facts(plan_all(inputs([NETFLIX], [row, other], [rejected]), TODAY)) == [
        ("t2", "netflix", dt.date(2026, 6, 12), "auto")
    ]


def test_a_rejected_pending_payment_stays_rejected_when_it_posts() -> None:
    rejected = Held(bill_id="netflix", item_id="i", transaction_id="p", period=dt.date(2026, 6, 12), state="rejected")
    posted = paid("q", "Netflix", "15.49", dt.date(2026, 6, 14), pending_transaction_id="p")
    assert plan(inputs([NETFLIX], [], [rejected]), [posted], {("i", "p")}, TODAY) == []


def test_another_currency_and_a_bill_that_ended_match_nothing() -> None:
    row = paid("t1", "Netflix", "15.49", dt.date(2026, 6, 12), currency="EUR")
    assert plan(inputs([NETFLIX]), [row], (), TODAY) == []
    values = {name: getattr(NETFLIX, name) for name in ("id", "name", "amount", "anchor_date")}
    ended = Bill(**values, end_date=dt.date(2026, 5, 31))
    row = paid("t1", "Netflix", "15.49", dt.date(2026, 6, 12))
    assert plan(inputs([ended]), [row], (), TODAY) == []


def test_two_subscriptions_at_one_merchant_are_told_apart() -> None:
    rows = [paid("a", "Apple", "3.05", dt.date(2026, 6, 7)), paid("b", "Apple", "2.99", dt.date(2026, 6, 5))]
    assert facts(plan(inputs(BILLS), rows, (), TODAY)) == [
        ("a", "music", dt.date(2026, 6, 8), "auto"),
        ("b", "apple", dt.date(2026, 6, 4), "auto"),
    ]


RENT = Bill(id="rent", name="Rent", amount=Decimal("1640"), anchor_date=dt.date(2026, 1, 1), aliases=("E Morin",))


def test_parts_that_add_up_are_tagged_together_once_the_last_one_is_there() -> None:
    first = paid("p1", "E Morin", "1000", dt.date(2026, 6, 1))
    second = paid("p2", "E Morin", "640", dt.date(2026, 6, 15))
    matches: dict[Key, PlannedMatch] = {}
    apply(matches, plan(inputs([RENT]), [first], (), TODAY))
    assert "auto" not in {match.state for match in matches.values()}
    apply(matches, plan(inputs([RENT], [first], matches.values()), [second], (), TODAY))
    due = dt.date(2026, 6, 1)
    assert facts(matches.values()) == [("p1", "rent", due, "auto"), ("p2", "rent", due, "auto")]
    assert matches["i", "p2"].evidence[0].text == "640.00 USD is one of 2 payments that add up to 1640.00 USD."
    changes = plan(inputs([RENT], [first, second], matches.values()), (), {("i", "p1")}, TODAY)
    assert {(change.transaction_id, change.state) for change in changes} >= {("p1", "none")}
    assert "auto" not in {change.state for change in changes}


def test_a_part_that_the_person_confirmed_leaves_the_period_open_for_the_rest() -> None:
    first = paid("p1", "E Morin", "1000", dt.date(2026, 6, 1))
    second = paid("p2", "E Morin", "640", dt.date(2026, 6, 15))
    due = dt.date(2026, 6, 1)
    held = Held(bill_id="rent", item_id="i", transaction_id="p1", period=due, state="confirmed")
    assert facts(plan(inputs([RENT], [first], [held]), [second], (), TODAY)) == [("p2", "rent", due, "auto")]
    short = paid("p2", "E Morin", "639", dt.date(2026, 6, 15))
    assert ("p2", "rent", due, "auto") not in facts(plan(inputs([RENT], [first], [held]), [short], (), TODAY))


def test_without_bills_or_news_there_is_no_work() -> None:
    row = paid("t1", "Netflix", "15.49", dt.date(2026, 6, 12))
    assert plan(inputs([]), [row], (), TODAY) == []
    assert plan(inputs([NETFLIX], [row]), (), (), TODAY) == []


def test_the_simple_mode_takes_the_nearest_amount_whatever_the_day() -> None:
    rows = [paid(f"t{n}", "Netflix", "15.00", dt.date(2026, 6, 1 + n)) for n in range(3)]
    changes = plan(inputs([NETFLIX]), rows, (), TODAY, mode="simple")
    assert [change.state for change in changes] == ["auto"] * 3
    assert {change.period for change in changes} == {dt.date(2026, 6, 12)}
    back = plan(inputs([NETFLIX], rows, changes), (), {("i", "t1")}, TODAY, mode="simple")
    assert facts(back) == [("t1", "netflix", dt.date(2026, 6, 12), "none")]


def test_why_not() -> None:
    rows = [
        paid("amount", "Netflix", "22.99", dt.date(2026, 6, 12)),
        paid("name", "Grocer", "15.49", dt.date(2026, 6, 11)),
        paid("refused", "Netflix", "15.49", dt.date(2026, 6, 13)),
        paid("far", "Netflix", "15.49", dt.date(2026, 3, 1)),
    ]
    held = Held(bill_id="netflix", item_id="i", transaction_id="refused", period=dt.date(2026, 6, 12), state="rejected")
    found = nearest(inputs([NETFLIX], rows, [held]), "netflix", dt.date(2026, 6, 12), TODAY)
    assert {candidate.transaction_id for candidate in found} == {"amount", "name", "refused"}
    lines = {candidate.transaction_id: candidate.evidence for candidate in found}
    assert lines["refused"][0].feature == "rejected"
    assert [line.feature for line in lines["amount"] if not line.fits] == ["amount", "category"]
    assert "name" in [line.feature for line in lines["name"] if not line.fits]
