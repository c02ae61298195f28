"""Words for numbers and times."""

from __future__ import annotations

from datetime import timedelta

import pytest

QtCore = pytest.importorskip("PySide6.QtCore", reason="needs Qt's system libraries", exc_type=ImportError)

from engine import clock  # noqa: E402
from gui import words  # noqa: E402

pytestmark = pytest.mark.usefixtures("english")


@pytest.fixture(autouse=True)
def standing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes between a moment and the words for it."""
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)


def ago(seconds: float) -> str:
    return clock.iso(clock.now() - timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (None, ""), (41, "41 ms"), (994, "994 ms"), (1100, "1.1 s"), (12_000, "12 s"), (68_000, "1 min 8 s"),
        (600_000, "10 min"), (3_600_000, "1 h"), (19_440_000, "5 h 24 min"), (9 * 86_400_000, "9 days"),
    ],
)  # fmt: skip
def test_durations(ms: float | None, said: str) -> None:
    assert words.duration(ms) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "now"), (30.5, "30 s ago"), (480.5, "8 min ago"), (19_441, "5 h 24 min ago")]
)
def test_how_long_ago(seconds: float, said: str) -> None:
    assert words.ago(ago(seconds)) == said


def test_the_future_and_the_unknown() -> None:
    assert words.until(ago(-540.5)) == "in 9 min"
    assert words.until(ago(5)) == "due now"
    assert words.ago(None) == "never"
    assert words.time("no time") == ""


@pytest.mark.parametrize(
    ("amount", "currency", "said"),
    [
        ("84.12", "USD", "$84.12"), ("-2450.00", "USD", "+$2,450.00"), ("6430", "JPY", "¥6,430"),
        ("12.5", "EUR", "€12.50"), ("1.234", "BHD", "BHD 1.234"), (None, "USD", ""), ("x", "USD", "x"),
        ("12345678901234567.89", "USD", "$12,345,678,901,234,567.89"),
    ],
)  # fmt: skip
def test_money(amount: str | None, currency: str, said: str) -> None:
    assert words.money(amount, currency) == said


def test_money_follows_the_locale() -> None:
    QtCore.QLocale.setDefault(QtCore.QLocale("de_DE"))
    assert words.money("2450.5", "EUR") == "€2.450,50"


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("First Lakeside Bank", "FL"), ("The Farmers & Merchants", "FM"), ("桜信託銀行 Sakura Trust", "桜"),
        ("Chase", "CH"), ("", "?"), ("بنك الواحة", "ب"),
    ],
)  # fmt: skip
def test_monograms(name: str, letters: str) -> None:
    assert words.monogram(name) == letters


@pytest.mark.parametrize(("number", "said"), [(1, "1st"), (2, "2nd"), (13, "13th"), (41, "41st"), (113, "113th")])
def test_ordinals(number: int, said: str) -> None:
    assert words.ordinal(number) == said


def test_tooltips_are_text() -> None:
    assert words.tip("a & b") == "a & b"
    assert "&lt;img" in words.tip("<img src=x>")
