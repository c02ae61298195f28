"""Words for numbers and times as a person reads them, by the locale; times say how long ago."""

from __future__ import annotations

import html
import unicodedata
from datetime import datetime
from decimal import Decimal, InvalidOperation

from PySide6.QtCore import QDate, QLocale, Qt

from engine import clock


def plural(number: int, one: str, many: str | None = None) -> str:
    """``1 bank``, ``1,204 banks``."""
    return f"{count(number)} {one if number == 1 else (many or one + 's')}"


def ordinal(number: int) -> str:
    """``1st``, ``22nd``, ``113th``."""
    ends = {1: "st", 2: "nd", 3: "rd"}
    end = "th" if number % 100 in {11, 12, 13} else ends.get(number % 10, "th")
    return f"{count(number)}{end}"


def count(number: int) -> str:
    """A whole number with the locale's groups."""
    return QLocale().toString(number)


def duration(ms: float | None) -> str:
    """``41 ms``, ``1.1 s``, ``12 s``, ``1 min 8 s``, ``5 h 24 min``, ``9 days``; empty where unknown."""
    if ms is None:
        return ""
    if ms < 995:
        return f"{round(ms)} ms"
    if ms < 9950:
        return f"{QLocale().toString(ms / 1000, 'f', 1)} s"
    whole = round(ms / 1000)
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        parts = (f"{minutes} min" if minutes else "", f"{rest} s" if rest and minutes < 10 else "")
    elif whole < 86400:
        parts = (f"{whole // 3600} h", f"{whole % 3600 // 60} min" if whole % 3600 >= 60 else "")
    else:
        parts = (plural(whole // 86400, "day"), "")
    return " ".join(part for part in parts if part)


def span(seconds: float | None) -> str:
    """A rough span without parts of seconds: ``now``, ``12 s``, ``9 min``, ``5 h 24 min``, ``9 days``."""
    if seconds is None:
        return ""
    if seconds < 1:
        return "now"
    if seconds < 60:
        return f"{int(seconds)} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min"
    return duration(int(seconds) * 1000)


def moment(text: str | None) -> datetime | None:
    """An ISO time of the API in the machine's own zone; None for null and for what is no time."""
    if not text:
        return None
    try:
        return clock.parse(text).astimezone()
    except ValueError:
        return None


def _now() -> datetime:
    """Now in the machine's own zone."""
    return clock.now().astimezone()


def _today() -> QDate:
    now = _now()
    return QDate(now.year, now.month, now.day)


def age_s(text: str | None) -> float | None:
    """Seconds since a time of the API; negative for the future."""
    then = moment(text)
    return None if then is None else (clock.now() - then).total_seconds()


def ago(text: str | None, never: str = "never") -> str:
    """``now``, ``8 min ago``, ``5 h 24 min ago``; from a day on the date."""
    seconds = age_s(text)
    if seconds is None:
        return never
    if seconds >= 86400:
        return short_date(text)
    shown = span(max(seconds, 0))
    return shown if shown == "now" else f"{shown} ago"


def until(text: str | None, never: str = "") -> str:
    """``due now``, ``in 9 min``, ``in 12 h 44 min``."""
    seconds = age_s(text)
    if seconds is None:
        return never
    return "due now" if seconds > -1 else f"in {span(-seconds)}"


def time(text: str | None, seconds: bool = False) -> str:
    """The time of day: ``14:45`` or ``14:21:03``."""
    then = moment(text)
    return "" if then is None else then.strftime("%H:%M:%S" if seconds else "%H:%M")


def short_date(text: str | None) -> str:
    """``today``, ``12 Nov``, or with the year where it is another one."""
    then = moment(text)
    if then is None:
        return ""
    now = _now()
    if then.date() == now.date():
        return "today"
    form = "d MMM" if then.year == now.year else "d MMM yyyy"
    return QLocale().toString(QDate(then.year, then.month, then.day), form)


def day(text: str | None) -> str:
    """A plain date (``2026-11-12``) as ``today``, ``12 Nov`` or with its year; as it is if it is none."""
    if not text:
        return ""
    found = QDate.fromString(text[:10], Qt.DateFormat.ISODate)
    if not found.isValid():
        return text
    today = _today()
    if found == today:
        return "today"
    return QLocale().toString(found, "d MMM" if found.year() == today.year() else "d MMM yyyy")


def day_and_time(text: str | None) -> str:
    """``Today 14:45``, ``Tomorrow 03:20``, ``Fri 03:20``, ``12 Nov 03:20``."""
    then = moment(text)
    if then is None:
        return ""
    distance = (then.date() - _now().date()).days
    if distance == 0:
        name = "Today"
    elif distance == 1:
        name = "Tomorrow"
    elif distance == -1:
        name = "Yesterday"
    elif 0 < distance < 7:
        name = QLocale().toString(QDate(then.year, then.month, then.day), "ddd")
    else:
        name = short_date(text)
    return f"{name} {time(text)}"


def exact(text: str | None) -> str:
    """The exact time for a tooltip, with its date and zone."""
    then = moment(text)
    return "" if then is None else then.strftime("%Y-%m-%d %H:%M:%S %Z")


def money(amount: str | None, currency: str | None) -> str:
    """An amount (decimal text) in its currency by the locale; money in has a plus sign (Plaid: negative)."""
    if amount is None:
        return ""
    try:
        value = Decimal(amount)
    except InvalidOperation:
        return amount
    code = currency or ""
    symbol = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "CAD": "CA$"}.get(code, f"{code} " if code else "")
    digits = max(0, -int(value.as_tuple().exponent)) if isinstance(value.as_tuple().exponent, int) else 2
    digits = 0 if code in {"JPY", "KRW"} and value == value.to_integral() else max(2, digits)
    whole, _, part = f"{abs(value):.{digits}f}".partition(".")
    locale = QLocale()
    shown = locale.toString(int(whole)) + (locale.decimalPoint() + part if part else "")
    return f"{'+' if value < 0 else ''}{symbol}{shown}"


def monogram(name: str) -> str:
    """A bank's letters: first letters of two words, or the first character of a name in another script."""
    words = [word for word in name.replace("&", " ").split() if word[:1].isalnum() and word != "The"]
    if not words:
        return "?"
    first = words[0][0]
    if unicodedata.category(first) == "Lo":
        return first
    second = words[1][0] if len(words) > 1 else words[0][1:2]
    return (first + second).upper()


def short_id(text: str) -> str:
    """``7f3a…c21`` of a long id."""
    return text if len(text) <= 10 else f"{text[:4]}…{text[-3:]}"


def days_from_now(text: str | None) -> int | None:
    """Whole days from today to a plain date."""
    found = QDate.fromString((text or "")[:10], Qt.DateFormat.ISODate)
    return _today().daysTo(found) if found.isValid() else None


def tip(text: str) -> str:
    """Text for a tooltip, which Qt would otherwise read as markup where it looks like some."""
    return f"<p style='white-space:pre-wrap'>{html.escape(text)}</p>" if "<" in text else text
