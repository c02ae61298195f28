"""The one root of Syncdesk's errors.

A `SyncdeskError` carries what each reader needs: ``message`` is a full sentence for the
person who must act, ``code`` is for programs, ``detail`` holds facts that may be stored and
shown (never a secret, an amount or a name from a bank), ``retryable`` says whether trying
again later can help.
"""

from __future__ import annotations

from typing import Any, ClassVar


class SyncdeskError(Exception):
    """Root of every error that Syncdesk raises on purpose."""

    code: ClassVar[str] = "ERROR"
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class UsageError(SyncdeskError):
    """The command line or a request was worded wrongly."""

    code = "USAGE"
    exit_code = 2


class SettingsError(SyncdeskError):
    """A setting is missing, unknown or has a value that it cannot have."""

    code = "SETTINGS"
    exit_code = 2


class ProfileError(SyncdeskError):
    """The profile's folder or a file in it cannot be used."""

    code = "PROFILE"


class SecretError(SyncdeskError):
    """A key is missing, wrong or cannot be kept."""

    code = "SECRET"


class KeyAway(SecretError):
    """The master key that is needed is not here, is another one, or is malformed: the whole install is concerned."""

    code = "MASTER_KEY"


class StartError(SyncdeskError):
    """A part of the engine could not be started; the message names its log."""

    code = "START"


class NotRunningError(SyncdeskError):
    """No engine runs on this profile."""

    code = "NOT_RUNNING"


class BrokerUnavailable(SyncdeskError):
    """Redis does not answer, or refuses us."""

    code = "BROKER_UNAVAILABLE"
    retryable = True


class BrokerUnfit(SyncdeskError):
    """The Redis server of the settings cannot serve until somebody changes it or the settings; no waiting helps."""

    code = "BROKER_UNFIT"


class StoreUnavailable(SyncdeskError):
    """The database does not answer, the connection was lost, or it asked us to try again."""

    code = "DATABASE_UNAVAILABLE"
    retryable = True


class StoreReadOnly(StoreUnavailable):
    """The database answers but takes no writes: a standby, or its provider or operator stopped them."""

    code = "DATABASE_READ_ONLY"


class StoreFull(StoreUnavailable):
    """The database's disk is full."""

    code = "DATABASE_FULL"


class StoreRefused(SyncdeskError):
    """The database refused a call for good; ``detail`` has sqlstate, constraint and table, never values."""

    code = "DATABASE_REFUSED"


class SchemaError(SyncdeskError):
    """The database's schema is missing, older or newer than this program."""

    code = "SCHEMA"


class NotFound(SyncdeskError):
    """There is no such item, job, bill or match."""

    code = "NOT_FOUND"


class Conflict(SyncdeskError):
    """The thing changed since the caller looked at it; nothing was done."""

    code = "CONFLICT"


class Forbidden(SyncdeskError):
    """The caller's token does not allow this."""

    code = "FORBIDDEN"
