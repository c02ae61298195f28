"""Every failure of a call to Plaid as a typed error.

What is done about each code is one table, `engine.plaid.table`; `plaid_error` builds the typed error from it. Words
for people are in `engine.plaid.words`. Both are reachable from here.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

from engine.errors import SyncdeskError
from engine.plaid.table import POLICIES, UNREACHABLE, Policy, Reaction, react
from engine.plaid.words import Words, words, words_for_state

__all__ = [
    "POLICIES",
    "BankTrouble",
    "InstallTrouble",
    "ItemBroken",
    "ItemGone",
    "MustRestart",
    "NeedsPerson",
    "NotReady",
    "OurBug",
    "PlaidError",
    "PlaidUnreachable",
    "Policy",
    "RateLimited",
    "Reaction",
    "Transient",
    "UnknownAnswer",
    "Words",
    "not_plaid",
    "plaid_error",
    "react",
    "request_id_in",
    "words",
    "words_for_state",
]

_REQUEST_ID: Final = re.compile(rb'"request_id"\s*:\s*"([A-Za-z0-9_.-]{4,80})"')


class PlaidError(SyncdeskError):
    """Plaid refused or did not answer a call.

    ``plaid_code`` and ``plaid_type`` are Plaid's own words, ``request_id`` is what its support
    asks for, ``http_status`` is 0 where there was no answer. None of it holds personal data.
    """

    code: ClassVar[str] = "PLAID"
    reaction: ClassVar[Reaction] = Reaction.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        plaid_code: str,
        plaid_type: str = "",
        request_id: str | None = None,
        http_status: int = 0,
        **detail: Any,
    ) -> None:
        super().__init__(
            message,
            plaid_code=plaid_code,
            plaid_type=plaid_type,
            request_id=request_id,
            http_status=http_status,
            **detail,
        )
        self.plaid_code = plaid_code
        self.plaid_type = plaid_type
        self.request_id = request_id
        self.http_status = http_status


class NeedsPerson(PlaidError):
    """The item needs its person; nothing but a new sign-in or choice helps."""

    code = "PLAID_NEEDS_PERSON"
    reaction = Reaction.NEEDS_YOU


class NotReady(PlaidError):
    """The bank still prepares the data; the webhook will tell."""

    code = "PLAID_NOT_READY"
    reaction = Reaction.NOT_READY
    retryable = True


class ItemBroken(PlaidError):
    """The link itself no longer works."""

    code = "PLAID_ITEM_ERROR"
    reaction = Reaction.ITEM_ERROR


class ItemGone(PlaidError):
    """Plaid no longer knows the item."""

    code = "PLAID_ITEM_REMOVED"
    reaction = Reaction.REMOVED


class InstallTrouble(PlaidError):
    """Keys, environment, product or plan of the whole install."""

    code = "PLAID_INSTALL"
    reaction = Reaction.INSTALL


class OurBug(PlaidError):
    """We worded a request wrongly."""

    code = "PLAID_REQUEST"
    reaction = Reaction.OUR_BUG


class MustRestart(PlaidError):
    """Data changed while we paged through it."""

    code = "PLAID_MUTATION"
    reaction = Reaction.RESTART
    retryable = True


class RateLimited(PlaidError):
    """Too many calls; ``retry_after_s`` in ``detail`` where Plaid named one."""

    code = "PLAID_RATE_LIMIT"
    reaction = Reaction.RATE_LIMIT
    retryable = True


class BankTrouble(PlaidError):
    """The bank does not answer Plaid."""

    code = "PLAID_BANK"
    reaction = Reaction.BANK_TROUBLE
    retryable = True


class Transient(PlaidError):
    """Plaid itself has trouble."""

    code = "PLAID_TRANSIENT"
    reaction = Reaction.TRANSIENT
    retryable = True


class PlaidUnreachable(Transient):
    """No answer at all, or one that is not Plaid's (a proxy's page, an empty or cut body)."""

    code = "PLAID_UNREACHABLE"


class UnknownAnswer(PlaidError):
    """A code that this version does not know: treated as passing trouble, shown as it is."""

    code = "PLAID_UNKNOWN"
    retryable = True


_CLASSES: dict[Reaction, type[PlaidError]] = {
    kind.reaction: kind
    for kind in (
        NeedsPerson,
        NotReady,
        ItemBroken,
        ItemGone,
        InstallTrouble,
        OurBug,
        MustRestart,
        RateLimited,
        BankTrouble,
        Transient,
        UnknownAnswer,
    )
}


def plaid_error(
    code: str, kind: str = "", *, request_id: str | None = None, http_status: int = 0, **detail: Any
) -> PlaidError:
    """The typed error for an answer of Plaid; its message is the sentence for the person, without the bank's name."""
    said = words(code, None)
    return _CLASSES[react(code, kind)](
        f"{said.title}. {said.sentence}",
        plaid_code=code,
        plaid_type=kind,
        request_id=request_id,
        http_status=http_status,
        **detail,
    )


def request_id_in(raw: bytes) -> str | None:
    """The request id that stands in an answer, whatever else the answer is."""
    found = _REQUEST_ID.search(raw)
    return found[1].decode() if found else None


def not_plaid(path: str, status: int, raw: bytes) -> PlaidError:
    """What came is no answer of Plaid to this request: a proxy's page, nothing, a part, or other types."""
    return PlaidUnreachable(
        "Something that is not Plaid answered in its place, such as a proxy.",
        plaid_code=UNREACHABLE,
        request_id=request_id_in(raw),
        http_status=status,
        path=path,
        reason="not Plaid's answer",
    )
