"""Bank descriptors and bill names made comparable, and how alike two of them are.

A descriptor is folded (width, case, accents, kana), split into words, and rid of what banks
and card networks put around a merchant's name. Scripts without spaces are compared as one
run of characters. Everything here is a pure function of its text; results are cached
because the same descriptors come back every month.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from rapidfuzz import fuzz

# What processors, rails and banks print around a name. No merchant is called by these alone.
_NOISE = frozenset(
    """
    sq tst sp pp py paypal pos debit credit purchase checkcard card visa mastercard mc recurring payment payments
    pmt pymt paymt pmts pay paid billpay bill ach web online autopay auto des id indn co ppd ccd tel dd mbp so
    direct deposit ref reference conf conf# transaction txn trn inst xfer transfer zelle venmo interac etrf e trf to
    from for the and of www com net org http https bpay eftpos osko
    sepa lastschrift einzugserm einzugsermachtigung mandat mandate prlv prelevement vir virement cb carte
    achat paiement preautorise gmbh mbh ag kg ug ev e.v sa sas sarl ltd limited plc inc llc corp gbr aus usa uk
    """.split()  # noqa: SIM905 - a list of words reads as words
)
_NOISE_RUNS = re.compile(r"口座振替|口座引落|引落|振込|デビット|カード|ﾃﾞﾋﾞﾂﾄ")

# Words that say what a bill is, not whom it is paid to: one of them alone is weak evidence.
GENERIC = frozenset(
    """
    electric electricity power energy gas water sewer trash garbage waste internet wifi cable tv phone phones mobile
    cell rent mortgage loan loans lease insurance ins car auto truck home house life health dental student card
    credit gym fitness club membership music video streaming news paper storage alarm security donation charity
    tax taxes council school lessons tuition daycare childcare parking spot share shares utilities utility bill
    subscription autoship service services fee fees dues plan online bank financial mom dad my our guy lawn one plus
    strom gaz eau assurance assurances versicherung miete loyer handy internetanschluss fitnessstudio
    """.split()  # noqa: SIM905 - a list of words reads as words
)

_SMALL_KANA = str.maketrans("ァィゥェォッャュョヮヵヶ", "アイウエオツヤユヨワカケ")
_WORD = re.compile(r"[^\W_]+")
_STATE_TAIL = re.compile(
    r"\b(?:AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|IA|ID|IL|IN|KS|KY|LA|MA|MD|ME|MI|MN|MO|MS|MT|NC|ND|NE|NH|NJ|NM|NV|NY"
    r"|OH|OK|OR|PA|RI|SC|SD|TN|TX|UT|VA|VT|WA|WI|WV|WY|DC)[\s\d]*$"
)


class Words(NamedTuple):
    """A text made comparable: its words in order, and all of them run together."""

    words: tuple[str, ...]
    run: str


def fold(text: str) -> str:
    """Case, width, accents and kana folded; Latin accents go, other scripts keep their marks."""
    if "Ã" in text or "Â" in text:  # UTF-8 that a bank read as Latin-1
        try:
            text = text.encode("cp1252").decode("utf-8")
        except (UnicodeEncodeError, UnicodeDecodeError):
            text = text.replace("Ã", "A")
    text = unicodedata.normalize("NFKC", text).casefold()
    if text.isascii():
        return text
    plain: list[str] = []
    for char in unicodedata.normalize("NFD", text):
        if unicodedata.combining(char) and plain and plain[-1].isascii():
            continue
        plain.append(char)
    text = unicodedata.normalize("NFC", "".join(plain))
    text = "".join(chr(ord(char) + 0x60) if "ぁ" <= char <= "ゖ" else char for char in text)
    return text.translate(_SMALL_KANA).replace("ー", "")


@lru_cache(maxsize=5_000)
def normalise(text: str, *, descriptor: bool = True) -> Words:
    """Words of a descriptor, or of a name as a person typed it (``descriptor=False``: nothing is noise but articles).

    Digit runs, references (four or more characters with two or more digits) and a tail with a
    state are dropped from descriptors.
    """
    if descriptor:
        text = _STATE_TAIL.sub("", text)
    folded = _NOISE_RUNS.sub(" ", fold(text)).replace("'", "").replace("’", "")
    words = _WORD.findall(folded)
    kept = [word for word in words if not _is_noise(word)] if descriptor else [w for w in words if w not in ("the",)]
    if not kept:
        kept = words
    return Words(tuple(kept), "".join(kept))


def _is_noise(word: str) -> bool:
    if word in _NOISE or word.isdecimal():
        return True
    digits = sum(char.isdecimal() for char in word)
    return digits >= 2 and len(word) >= 4 and digits * 3 >= len(word)


def likeness(name: str, text: str) -> float:
    """How much of a bill's name (or alias) a descriptor or merchant name holds: 0 to 1.

    The name's own words count; words that only say what kind of bill it is count where the
    name has no others. Names of four letters or fewer must be a whole word.
    """
    return _likeness(normalise(name, descriptor=False), normalise(text))


@lru_cache(maxsize=5_000)
def _likeness(name: Words, text: Words) -> float:
    if not name.run or not text.run:
        return 0.0
    own = [word for word in name.words if word not in GENERIC and word not in _NOISE]
    if not own:
        return 1.0 if all(_holds(text, word) >= 0.9 for word in name.words) else 0.0
    if len(name.run) > 4 and (name.run in text.run or (len(text.run) >= 6 and name.run.startswith(text.run))):
        return 1.0
    if _is_initials(own, text) or _runs_initials(name, text) or _is_within(text, name):
        return 0.9
    total = sum(len(word) for word in own)
    covered = sum(len(word) * _holds(text, word) for word in own) / total
    joined = "".join(own)
    if covered < 0.9 and len(joined) > 4:
        if joined in text.run or (len(text.run) >= 6 and joined.startswith(text.run)):
            return 0.95
        covered = max(covered, _fuzzy(joined, text.run))
    return covered


def _holds(text: Words, word: str) -> float:
    """Whether ``text`` holds the word: whole, cut off by the bank, run together with others, or mistyped."""
    if word in text.words:
        return 1.0
    if not word.isascii():
        return 1.0 if len(word) >= 2 and word in text.run else 0.0
    if len(word) <= 4:
        return 0.0
    if word in text.run:
        return 0.95
    best = 0.0
    for other in text.words:
        if len(other) >= 4 and (word.startswith(other) or other.startswith(word)):
            best = max(best, 0.9 if len(other) >= 5 else 0.7)
        elif len(other) >= 5 and fuzz.ratio(word, other) >= 84:
            best = max(best, 0.85)
    return best


def _fuzzy(joined: str, run: str) -> float:
    """Runs compared as such, for names that banks write without their spaces or with a letter gone."""
    if len(joined) < 6 or len(run) < 6:
        return 0.0
    share = fuzz.partial_ratio(joined, run) / 100
    return share if share >= 0.88 else 0.0


def _is_initials(own: list[str], text: Words) -> bool:
    """NYT for The New York Times."""
    if len(own) != 1 or not 2 <= len(own[0]) <= 4 or len(text.words) < 2:
        return False
    initials = "".join(word[0] for word in text.words)
    return initials.startswith(own[0])


def _runs_initials(name: Words, text: Words) -> bool:
    """NYTimes for The New York Times: initials of all words but the last, run together with it."""
    if len(name.words) < 3:
        return False
    return "".join(word[0] for word in name.words[:-1]) + name.words[-1] in text.words


def _is_within(text: Words, name: Words) -> bool:
    """Chewy for "Chewy autoship": all that the bank says is in the name, and says more than a kind of bill."""
    return len(text.run) >= 5 and any(w not in GENERIC for w in text.words) and set(text.words) <= set(name.words)
