"""The banks that the simulated Plaid knows: its published test names, and some of our own in other scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from engine.sandbox.refusals import Refusal


@dataclass(frozen=True)
class Institution:
    """``locale`` picks the merchants, ``currency`` the money, ``persistent`` whether accounts keep an id over links."""

    institution_id: str
    name: str
    locale: str = "US"
    currency: str = "USD"
    countries: tuple[str, ...] = ("US",)
    color: str = "#2f5d62"
    oauth: bool = False
    persistent: bool = False
    listed: bool = True


_ALL = (
    Institution("ins_900001", "First Lakeside Bank", color="#23527c", persistent=True),
    Institution("ins_900002", "Harborview Credit Union", color="#1f6f54", countries=("US", "CA")),
    Institution("ins_900003", "桜信託銀行 Sakura Trust", "JP", "JPY", color="#b5446e"),
    Institution("ins_900004", "Cedar & Pine", "CA", "CAD", ("CA", "US"), "#5b4636", oauth=True),
    Institution("ins_900005", "بنك الواحة Oasis Bank", "AE", "AED", color="#8a6d1d"),
    Institution("ins_900006", "Kastanien Sparbank", "DE", "EUR", ("DE", "AT", "US"), "#7a2e2e"),
    Institution("ins_900007", "Northgate Building Society", "GB", "GBP", ("GB", "IE", "US"), "#37415c"),
    Institution("ins_109508", "First Platypus Bank", countries=("US", "CA"), listed=False),
    Institution("ins_109509", "First Gingham Credit Union", listed=False),
    Institution("ins_109510", "Tattersall Federal Credit Union", listed=False),
    Institution("ins_109511", "Tartan Bank", listed=False),
    Institution("ins_109512", "Houndstooth Bank", listed=False),
    Institution("ins_127287", "Platypus OAuth Bank", oauth=True, listed=False),
    Institution("ins_117650", "Royal Bank of Plaid", countries=("GB", "US"), currency="GBP", locale="GB", listed=False),
)

BY_ID: Mapping[str, Institution] = MappingProxyType({each.institution_id: each for each in _ALL})


def find(institution_id: str) -> Institution:
    """The institution of this id.

    Raises:
        Refusal: there is none.
    """
    found = BY_ID.get(institution_id)
    if found is None:
        raise Refusal("INVALID_INSTITUTION")
    return found


def listed() -> list[Institution]:
    """Those that a person may choose from."""
    return [each for each in _ALL if each.listed]
