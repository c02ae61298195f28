"""Descriptors made comparable, and the calendar of due dates."""

from __future__ import annotations

import datetime as dt
from calendar import monthrange
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.matching import periods
from engine.matching.categories import agreement, told_by_name
from engine.matching.normalise import fold, likeness, normalise
from engine.matching.types import Bill

# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SQ *THAI VILLA", "thai villa"),
        ("PAYPAL *ADT SECURITY*401 1640595268 NY", "adt security"),
        ("CHECKCARD 0706 CHEWY.COM JERSEY CITY NJ 03175180709773543561864", "chewy jersey city"),
        ("ACH WEB PMT ROCKET MORTGAGE 84227424", "rocket mortgage"),
        ("PRLV SEPA MAIF 516KGKGE3GWN", "maif"),
        ("1PASSWORD 1PASSWORD.CO 7P0312H", "1password 1password"),
        ("Stadtwerke München GmbH", "stadtwerke munchen"),
        ("口座振替 ニホンセイメイ", "ニホンセイメイ"),
        ("12345", "12345"),
    ],
)
def test_what_banks_put_around_a_name_goes(text: str, words: str) -> None:
    assert " ".join(normalise(text).words) == words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hydro-Québec", "HYDRO-QUEBEC"),
        ("ｱｯﾌﾟﾙ", "アップル"),
        ("シャチョウ", "シヤチヨウ"),
        ("SÃ¼ddeutsche", "Süddeutsche"),
        ("Straße", "STRASSE"),
        ("サーバー", "サバ"),
    ],
)
def test_forms_of_one_text_fold_to_the_same(one: str, other: str) -> None:
    assert fold(one) == fold(other)


def test_marks_of_other_scripts_are_kept() -> None:
    assert fold("ガス") != fold("カス")
    assert fold("كهرباء") == "كهرباء"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("T-Mobile", "TMOBILE*AUTO PAY 800-937-8997 WA"),
        ("Con Edison", "CONSOLIDATED EDI WEB PAY 230617 Con Edison"),
        ("Planet Fitness", "ABC*PLANET FITNESS CLU"),
        ("YouTube Premium", "GOOGLE *YouTubePremium g.co/helppay# CA"),
        ("NYT", "The New York Times"),
        ("Suburban Propane", "SUBURBAN PROPAN"),
        ("Geico car insurance", "GEICO BILL PAYMT 0911158"),
        ("日本生命", "口座振替 日本生命保険"),
        ("Rent", 'Zelle payment to Deshawn Carter for "rent" Conf# 7APGZZMBS'),
    ],
)
def test_names_that_fit(name: str, text: str) -> None:
    assert likeness(name, text) >= 0.75


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("EE", "COFFEE BEAN"),
        ("Gas", "LAS VEGAS HOTEL"),
        ("Netflix", "NORDSTROM"),
        ("Electric", "CON ED OF NY WEB PAY"),
        ("Car insurance", "CARMAX"),
        ("Apple Music", "SPOTIFY MUSIC"),
        ("", "ANYTHING"),
    ],
)
def test_names_that_do_not(name: str, text: str) -> None:
    assert likeness(name, text) < 0.75


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_can_be_compared(name: str, text: str) -> None:
    assert 0.0 <= likeness(name, text) <= 1.0


def test_categories_agree_by_detail_then_by_primary() -> None:
    detail = "RENT_AND_UTILITIES_WATER"
    assert agreement(detail, "RENT_AND_UTILITIES", detail) == 1.0
    assert agreement("RENT_AND_UTILITIES", "RENT_AND_UTILITIES", detail) == 1.0
    assert 0 < agreement("RENT_AND_UTILITIES_RENT", "RENT_AND_UTILITIES", detail) < 1
    assert agreement("ENTERTAINMENT", "RENT_AND_UTILITIES", detail) == 0
    assert agreement(None, "RENT_AND_UTILITIES", detail) == 0
    assert agreement(detail, None, None) == 0
    assert told_by_name("Truck payment") == "LOAN_PAYMENTS_CAR_PAYMENT"
    assert told_by_name("Mom phone") == "RENT_AND_UTILITIES_TELEPHONE"
    assert told_by_name("Netflix") is None


# ---------------------------------------------------------------- periods


def bill(cadence: Any, anchor: dt.date, **more: Any) -> Bill:
    return Bill(id="b", name="b", cadence=cadence, anchor_date=anchor, **more)


def days(found: Any) -> list[str]:
    return [day.isoformat() for day in found]


def test_the_last_day_of_a_month_is_cut_and_comes_back() -> None:
    found = periods.dues(bill("monthly", dt.date(2024, 1, 31)), dt.date(2024, 1, 1), dt.date(2024, 5, 31))
    assert days(found) == ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30", "2024-05-31"]


@pytest.mark.parametrize(
    ("anchor", "expected"),
    [
        ("2024-02-15", ["2024-02-15", "2024-02-29", "2024-03-15", "2024-03-31"]),
        ("2024-04-30", ["2024-02-15", "2024-02-29", "2024-03-15", "2024-03-31"]),
        ("2024-01-03", ["2024-02-03", "2024-02-18", "2024-03-03", "2024-03-18"]),
        ("2024-01-20", ["2024-02-05", "2024-02-20", "2024-03-05", "2024-03-20"]),
        ("2024-01-30", ["2024-02-15", "2024-02-29", "2024-03-15", "2024-03-30"]),
    ],
)
def test_twice_a_month(anchor: str, expected: list[str]) -> None:
    one = bill("semimonthly", dt.date.fromisoformat(anchor))
    assert days(periods.dues(one, dt.date(2024, 2, 1), dt.date(2024, 3, 31))) == expected


def test_a_leap_day_each_year() -> None:
    found = periods.dues(bill("yearly", dt.date(2024, 2, 29)), dt.date(2022, 1, 1), dt.date(2028, 12, 31))
    assert days(found) == [
        "2022-02-28",
        "2023-02-28",
        "2024-02-29",
        "2025-02-28",
        "2026-02-28",
        "2027-02-28",
        "2028-02-29",
    ]


def test_start_and_end_bound_the_due_dates() -> None:
    one = bill("monthly", dt.date(2024, 1, 5), start_date=dt.date(2024, 3, 5), end_date=dt.date(2024, 5, 4))
    assert days(periods.dues(one, dt.date(2024, 1, 1), dt.date(2024, 12, 31))) == ["2024-03-05", "2024-04-05"]


def test_weekends_shift_both_ways_or_not() -> None:
    saturday, sunday, friday = dt.date(2024, 6, 1), dt.date(2024, 6, 2), dt.date(2024, 5, 31)
    assert periods.shifted(saturday, "next") == periods.shifted(sunday, "next") == dt.date(2024, 6, 3)
    assert periods.shifted(saturday, "previous") == periods.shifted(sunday, "previous") == friday
    assert periods.shifted(saturday, "none") == saturday
    assert periods.shifted(friday, "next") == friday


CADENCES = st.sampled_from(["weekly", "biweekly", "semimonthly", "monthly", "bimonthly", "quarterly", "yearly"])
DATES = st.dates(dt.date(1990, 1, 1), dt.date(2060, 12, 31))


@given(CADENCES, DATES, DATES, st.integers(0, 800))
def test_due_dates_do_not_depend_on_where_one_looks_from(
    cadence: Any, anchor: dt.date, first: dt.date, span: int
) -> None:
    one, last = bill(cadence, anchor), first + dt.timedelta(days=span)
    found = list(periods.dues(one, first, last))
    assert found == sorted(set(found))
    assert all(first <= due <= last for due in found)
    wide = list(periods.dues(one, first - dt.timedelta(days=400), last + dt.timedelta(days=400)))
    assert [due for due in wide if first <= due <= last] == found


@given(CADENCES, DATES)
def test_the_anchor_is_a_due_date_unless_its_pair_says_otherwise(cadence: Any, anchor: dt.date) -> None:
    found = list(periods.dues(bill(cadence, anchor), anchor, anchor))
    if cadence == "semimonthly" and anchor.day < monthrange(anchor.year, anchor.month)[1]:
        assert found in ([anchor], [])
    else:
        assert found == [anchor]


@given(st.sampled_from(["monthly", "bimonthly", "quarterly", "yearly"]), DATES, DATES)
def test_months_are_counted_from_the_anchor(cadence: Any, anchor: dt.date, first: dt.date) -> None:
    step = {"monthly": 1, "bimonthly": 2, "quarterly": 3, "yearly": 12}[cadence]
    for due in periods.dues(bill(cadence, anchor), first, first + dt.timedelta(days=900)):
        assert (due.year * 12 + due.month - anchor.year * 12 - anchor.month) % step == 0
        assert due.day == min(anchor.day, monthrange(due.year, due.month)[1])


@given(CADENCES, DATES, DATES)
def test_near_gives_the_next_due_dates_first(cadence: Any, anchor: dt.date, paid: dt.date) -> None:
    found = periods.near(bill(cadence, anchor), paid)
    before, after = periods.WINDOWS[cadence]
    assert [abs(late) for _, late in found] == sorted(abs(late) for _, late in found)
    assert all(-before <= late <= after and (paid - due).days == late for due, late in found)
    assert after + 4 <= periods.WIDEST_DAYS
