"""Every failure of a call to Plaid, and what is done about it.

`react` is the one table from Plaid's ``error_code`` to a `Reaction` (never by HTTP status or
text); `plaid_error` builds the typed error from it. Words for people are in
`engine.plaid.words` and reachable from here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from engine.errors import SyncdeskError
from engine.plaid.words import Words, words, words_for_state

__all__ = [
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
    "RateLimited",
    "Reaction",
    "Transient",
    "UnknownAnswer",
    "Words",
    "plaid_error",
    "react",
    "words",
    "words_for_state",
]


class Reaction(StrEnum):
    """What an error code asks of us."""

    NEEDS_YOU = "needs_you"  # the person must sign in or choose again; no retry
    NOT_READY = "not_ready"  # wait for the webhook or the schedule; no failure
    ITEM_ERROR = "error"  # this link is broken for good
    REMOVED = "removed"  # gone at Plaid: keep the data
    INSTALL = "install"  # the install's keys or plan: pause all, one alarm
    OUR_BUG = "our_bug"  # fail with detail, no retry
    RESTART = "restart"  # the pagination starts again from its first cursor
    RATE_LIMIT = "rate_limit"  # back off, slow everyone down
    BANK_TROUBLE = "bank_trouble"  # the bank's fault: the item stays healthy
    TRANSIENT = "transient"  # try again with backoff
    UNKNOWN = "unknown"  # as transient, then fail with the raw code shown


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


_N, _E, _I, _B, _R, _T = (
    Reaction.NEEDS_YOU,
    Reaction.ITEM_ERROR,
    Reaction.INSTALL,
    Reaction.BANK_TROUBLE,
    Reaction.RATE_LIMIT,
    Reaction.TRANSIENT,
)

#: Plaid's error_code → reaction. Source: Plaid's public error reference.
TABLE: dict[str, Reaction] = {
    **dict.fromkeys(
        (
            "ITEM_LOGIN_REQUIRED", "INVALID_CREDENTIALS", "INVALID_MFA", "INVALID_UPDATED_USERNAME",
            "MFA_NOT_SUPPORTED", "USER_SETUP_REQUIRED", "ITEM_LOCKED", "USER_INPUT_TIMEOUT", "INVALID_SEND_METHOD",
            "PASSWORD_RESET_REQUIRED", "INSUFFICIENT_CREDENTIALS", "ACCESS_NOT_GRANTED", "NO_ACCOUNTS",
            "NO_AUTH_ACCOUNTS", "ADDITIONAL_CONSENT_REQUIRED", "PRODUCTS_NOT_SUPPORTED", "ITEM_NOT_SUPPORTED",
            "USER_PERMISSION_REVOKED", "USER_ACCOUNT_REVOKED", "ITEM_CONCURRENTLY_DELETED",
        ),
        _N,
    ),
    **dict.fromkeys(("PRODUCT_NOT_READY", "ITEM_PRODUCT_NOT_READY"), Reaction.NOT_READY),
    "INVALID_ACCESS_TOKEN": _E,
    "INSTITUTION_NO_LONGER_SUPPORTED": _E,
    "ITEM_NOT_FOUND": Reaction.REMOVED,
    **dict.fromkeys(
        (
            "INVALID_API_KEYS", "UNAUTHORIZED_ENVIRONMENT", "UNAUTHORIZED_ROUTE_ACCESS", "INVALID_PRODUCT",
            "PRODUCT_NOT_ENABLED", "PRODUCTION_ACCESS_REQUIRED", "PRODUCTION_ACCESS_PENDING",
            "PRODUCTION_ACCESS_DENIED", "CREDITS_EXHAUSTED", "TRIAL_CONNECTION_LIMIT",
        ),
        _I,
    ),
    **dict.fromkeys(
        ("INVALID_FIELD", "MISSING_FIELDS", "UNKNOWN_FIELDS", "INVALID_BODY", "INVALID_HEADERS", "NOT_FOUND"),
        Reaction.OUR_BUG,
    ),
    "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION": Reaction.RESTART,
    **dict.fromkeys(
        (
            "TRANSACTIONS_LIMIT", "TRANSACTIONS_SYNC_LIMIT", "ITEM_GET_LIMIT", "ACCOUNTS_LIMIT", "BALANCE_LIMIT",
            "RATE_LIMIT", "ADDITION_LIMIT",
        ),
        _R,
    ),
    **dict.fromkeys(
        (
            "INSTITUTION_DOWN", "INSTITUTION_NOT_RESPONDING", "INSTITUTION_NOT_AVAILABLE",
            "INSTITUTION_REGISTRATION_REQUIRED",
        ),
        _B,
    ),
    **dict.fromkeys(("INTERNAL_SERVER_ERROR", "PLANNED_MAINTENANCE"), _T),
}  # fmt: skip

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


def react(code: str, kind: str = "") -> Reaction:
    """The reaction to Plaid's ``error_code``; ``kind`` (error_type) only where one code has two meanings.

    INTERNAL_SERVER_ERROR of type INSTITUTION_ERROR is the bank's; an unlisted code that ends
    in a way Plaid uses for whole families is taken for its family by its error_type.
    """
    if code == "INTERNAL_SERVER_ERROR" and kind == "INSTITUTION_ERROR":
        return Reaction.BANK_TROUBLE
    if code not in TABLE and kind == "RATE_LIMIT_EXCEEDED":
        return Reaction.RATE_LIMIT
    return TABLE.get(code, Reaction.UNKNOWN)


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
