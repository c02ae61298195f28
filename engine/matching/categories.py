"""Categories as evidence: what a bill's category, or the kind of bill its name tells, says about a payment's."""

from __future__ import annotations

from functools import lru_cache

from engine.matching.normalise import fold

# Words of bill names that tell the kind of bill, with Plaid's detailed category of it.
_KINDS: dict[str, str] = {
    **dict.fromkeys(
        ("electric", "electricity", "power", "gas", "energy", "hydro", "strom"),
        "RENT_AND_UTILITIES_GAS_AND_ELECTRICITY",
    ),
    **dict.fromkeys(("water", "wasser", "eau", "水道"), "RENT_AND_UTILITIES_WATER"),
    **dict.fromkeys(("sewer", "trash", "garbage", "waste"), "RENT_AND_UTILITIES_SEWAGE_AND_WASTE_MANAGEMENT"),
    **dict.fromkeys(("internet", "wifi", "cable", "broadband"), "RENT_AND_UTILITIES_INTERNET_AND_CABLE"),
    **dict.fromkeys(("phone", "phones", "mobile", "cell", "handy"), "RENT_AND_UTILITIES_TELEPHONE"),
    **dict.fromkeys(("rent", "miete", "loyer", "家賃"), "RENT_AND_UTILITIES_RENT"),
    **dict.fromkeys(("insurance", "ins", "versicherung", "assurance", "保険"), "GENERAL_SERVICES_INSURANCE"),
    **dict.fromkeys(("gym", "fitness", "fitnessstudio", "ジム"), "PERSONAL_CARE_GYMS_AND_FITNESS_CENTERS"),
    **dict.fromkeys(("storage",), "GENERAL_SERVICES_STORAGE"),
    **dict.fromkeys(("daycare", "childcare", "kita"), "GENERAL_SERVICES_CHILDCARE"),
    **dict.fromkeys(("music",), "ENTERTAINMENT_MUSIC_AND_AUDIO"),
    **dict.fromkeys(("streaming", "tv"), "ENTERTAINMENT_TV_AND_MOVIES"),
    **dict.fromkeys(("donation", "charity"), "GOVERNMENT_AND_NON_PROFIT_DONATIONS"),
    **dict.fromkeys(("alarm", "security"), "HOME_IMPROVEMENT_SECURITY"),
    **dict.fromkeys(("mortgage",), "LOAN_PAYMENTS_MORTGAGE_PAYMENT"),
    **dict.fromkeys(("tolls",), "TRANSPORTATION_TOLLS"),
}
_LOANS = {"car": "CAR", "auto": "CAR", "truck": "CAR", "student": "STUDENT_LOAN", "card": "CREDIT_CARD"}
_PRIMARIES = (  # noqa: SIM905
    "INCOME TRANSFER_IN TRANSFER_OUT LOAN_PAYMENTS BANK_FEES ENTERTAINMENT FOOD_AND_DRINK GENERAL_MERCHANDISE "
    "HOME_IMPROVEMENT MEDICAL PERSONAL_CARE GENERAL_SERVICES GOVERNMENT_AND_NON_PROFIT TRANSPORTATION TRAVEL "
    "RENT_AND_UTILITIES OTHER"
).split()


@lru_cache(maxsize=4096)
def primary_of(category: str) -> str:
    """The primary category that a detailed (or primary) one belongs to."""
    return next((primary for primary in _PRIMARIES if category.startswith(primary)), category)


@lru_cache(maxsize=4096)
def told_by_name(name: str) -> str | None:
    """The category that a bill's name tells ("Electric", "Car loan"), or None."""
    words = fold(name).replace("'s", "").split()
    if "loan" in words or "payment" in words or "lease" in words or "card" in words:
        for word in words:
            if word in _LOANS:
                return f"LOAN_PAYMENTS_{_LOANS[word]}_PAYMENT"
    for word in reversed(words):
        if word in _KINDS:
            return _KINDS[word]
    return None


def of_bill(category: str | None, name: str) -> str | None:
    """A bill's category; where it has none or only a primary one, the detail that its name tells."""
    told = told_by_name(name)
    if category is None or (told is not None and told.startswith(category)):
        return told
    return category


def agreement(category: str | None, primary: str | None, detailed: str | None) -> float:
    """How a bill's category agrees with a payment's: 1 the same detail, 0.6 the same primary only, else 0.

    A bill that names a primary category agrees fully with each of its details.
    """
    if category is None or (primary is None and detailed is None):
        return 0.0
    if category in (detailed, primary):
        return 1.0
    mine, theirs = primary_of(category), primary or primary_of(detailed or "")
    return 0.6 if mine == theirs else 0.0
