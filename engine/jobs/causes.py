"""Which failures have a cause that other jobs share, and which such causes a job has shown to be over."""

from __future__ import annotations

from typing import Final

from engine.errors import StoreUnavailable
from engine.jobs.pace import Later
from engine.plaid.errors import PlaidError, Reaction
from engine.store.failures import MOMENTARY

DATABASE: Final = "database"
PLAID: Final = "plaid"
LIMITS: Final = "limits"
"""Plaid refuses calls for its limits. The queue knows whether it does so to everybody (`engine.queue.lua_causes`)."""


def bank(institution: str) -> str:
    """The cause "this bank does not answer Plaid"."""
    return f"bank:{institution}"


def shared(error: BaseException, institution: str) -> str:
    """The cause of ``error`` that other jobs meet too while it lasts; empty where it is the job's own."""
    if isinstance(error, Later):
        return error.cause
    if isinstance(error, StoreUnavailable):
        return "" if error.detail.get("sqlstate") in MOMENTARY else DATABASE
    if isinstance(error, PlaidError):
        if error.reaction is Reaction.TRANSIENT:
            return PLAID
        if error.reaction is Reaction.RATE_LIMIT:
            return LIMITS
        if error.reaction is Reaction.BANK_TROUBLE and institution:
            return bank(institution)
    return ""


def past(error: BaseException | None) -> tuple[str, ...]:
    """Causes that a start which ended like this has shown to be over: no job gets to Plaid without the database."""
    if error is None:
        return (DATABASE,)
    if not isinstance(error, PlaidError):
        return ()
    if error.reaction is Reaction.TRANSIENT:
        return (DATABASE,)
    return (DATABASE, PLAID) if error.reaction is Reaction.RATE_LIMIT else (DATABASE, PLAID, LIMITS)
