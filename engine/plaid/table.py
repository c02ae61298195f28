"""The one table of Plaid's errors: code → reaction → what item, job and schedule do, and whose matter it is.

Everything that reacts to a code reads it here: the run, the jobs, the webhooks, the probe, and ``docs/errors.md``
(`engine.plaid.reference` writes it). What the person reads is in `engine.plaid.words`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


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
    BANK_TROUBLE = "bank_trouble"  # the bank's fault: nothing of ours failed
    TRANSIENT = "transient"  # try again with backoff
    UNKNOWN = "unknown"  # as transient, then fail with the raw code shown


@dataclass(frozen=True)
class Policy:
    """What follows from a reaction.

    ``item``: the state that the bank link enters (None: stays as it is). ``job``: it ``ends`` without a failure,
    ``fails`` at once, or ``retries`` with backoff and fails after its last attempt. ``whose``: who has to do
    something, or whose trouble it is. ``next_try``: what starts the next sync, in words.
    """

    item: str | None
    job: Literal["ends", "fails", "retries"]
    whose: str
    next_try: str

    @property
    def settles(self) -> bool:
        """The wish for this sync is done with: nothing but a new trigger starts another one."""
        return self.job != "retries"


_SIGN_IN = "after a sign-in, by a webhook or a click; asked about once a day"

POLICIES: dict[Reaction, Policy] = {
    Reaction.NEEDS_YOU: Policy("needs_you", "fails", "you", _SIGN_IN),
    Reaction.NOT_READY: Policy(None, "ends", "nobody", "by the webhook, else by the schedule"),
    Reaction.ITEM_ERROR: Policy("error", "fails", "you", _SIGN_IN),
    Reaction.REMOVED: Policy("removed", "fails", "you", "never: link the bank anew"),
    Reaction.INSTALL: Policy(None, "ends", "the install", "one bank at a time tries by the schedule; all go on then"),
    Reaction.OUR_BUG: Policy(None, "fails", "Syncdesk", "by the schedule"),
    Reaction.RESTART: Policy(None, "retries", "nobody", "at once from the first page, then with backoff"),
    Reaction.RATE_LIMIT: Policy(None, "retries", "nobody", "with backoff; all calls slow down"),
    Reaction.BANK_TROUBLE: Policy("bank_trouble", "ends", "the bank", "by the schedule"),
    Reaction.TRANSIENT: Policy(None, "retries", "Plaid", "with backoff"),
    Reaction.UNKNOWN: Policy(None, "retries", "nobody knows", "with backoff; the raw code is shown"),
}

#: Where no sync is asked for by the schedule, since only the person (or the bank) can end it.
STUCK: frozenset[str] = frozenset(
    policy.item for policy in POLICIES.values() if policy.item is not None and policy.job == "fails"
)

MASTER_KEY = "MASTER_KEY"
"""Ours: the access tokens cannot be opened with the key that is here."""
MISSING_KEYS = "API_KEYS_MISSING"
"""Ours, not Plaid's: the install has no keys to call Plaid with."""
UNREACHABLE = "UNREACHABLE"
"""Ours: nobody answered, or something that is not Plaid did."""

CODES: dict[str, Reaction] = {
    **dict.fromkeys(
        (
            "ITEM_LOGIN_REQUIRED", "INVALID_CREDENTIALS", "INVALID_MFA", "INVALID_UPDATED_USERNAME",
            "MFA_NOT_SUPPORTED", "USER_SETUP_REQUIRED", "ITEM_LOCKED", "USER_INPUT_TIMEOUT", "INVALID_SEND_METHOD",
            "PASSWORD_RESET_REQUIRED", "INSUFFICIENT_CREDENTIALS", "ACCESS_NOT_GRANTED", "NO_ACCOUNTS",
            "NO_AUTH_ACCOUNTS", "ADDITIONAL_CONSENT_REQUIRED", "PRODUCTS_NOT_SUPPORTED", "ITEM_NOT_SUPPORTED",
            "USER_PERMISSION_REVOKED", "USER_ACCOUNT_REVOKED", "ITEM_CONCURRENTLY_DELETED", "INVALID_PUBLIC_TOKEN",
        ),
        Reaction.NEEDS_YOU,
    ),
    **dict.fromkeys(("PRODUCT_NOT_READY", "ITEM_PRODUCT_NOT_READY"), Reaction.NOT_READY),
    "INVALID_ACCESS_TOKEN": Reaction.ITEM_ERROR,
    "INSTITUTION_NO_LONGER_SUPPORTED": Reaction.ITEM_ERROR,
    "ITEM_NOT_FOUND": Reaction.REMOVED,
    **dict.fromkeys(
        (
            MISSING_KEYS, MASTER_KEY, "INVALID_API_KEYS", "UNAUTHORIZED_ENVIRONMENT", "UNAUTHORIZED_ROUTE_ACCESS",
            "INVALID_PRODUCT", "PRODUCT_NOT_ENABLED", "PRODUCTION_ACCESS_REQUIRED", "PRODUCTION_ACCESS_PENDING",
            "PRODUCTION_ACCESS_DENIED", "CREDITS_EXHAUSTED", "TRIAL_CONNECTION_LIMIT",
        ),
        Reaction.INSTALL,
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
        Reaction.RATE_LIMIT,
    ),
    **dict.fromkeys(
        (
            "INSTITUTION_DOWN", "INSTITUTION_NOT_RESPONDING", "INSTITUTION_NOT_AVAILABLE",
            "INSTITUTION_REGISTRATION_REQUIRED",
        ),
        Reaction.BANK_TROUBLE,
    ),
    **dict.fromkeys(("INTERNAL_SERVER_ERROR", "PLANNED_MAINTENANCE", UNREACHABLE), Reaction.TRANSIENT),
}  # fmt: skip
"""Plaid's ``error_code`` → reaction. Source: Plaid's public error reference."""


def react(code: str, kind: str = "") -> Reaction:
    """The reaction to an ``error_code``, never to HTTP status or text; ``kind`` (``error_type``) only where one code
    has two meanings.

    INTERNAL_SERVER_ERROR of type INSTITUTION_ERROR is the bank's. A code that is not listed is taken for its family
    where the whole family means one thing: limits.
    """
    if code == "INTERNAL_SERVER_ERROR" and kind == "INSTITUTION_ERROR":
        return Reaction.BANK_TROUBLE
    if code not in CODES and kind == "RATE_LIMIT_EXCEEDED":
        return Reaction.RATE_LIMIT
    return CODES.get(code, Reaction.UNKNOWN)
