"""What psycopg raises, as Syncdesk's errors: for the direct transport, and for what goes beside it."""

from __future__ import annotations

import psycopg

from engine.errors import StoreRefused, SyncdeskError
from engine.store import failures

#: What the server says at connecting, where there is no SQLSTATE to read, and the one that it stands for.
_AT_CONNECTING = {
    "authentication failed": "28P01",
    'FATAL:  database "': "3D000",
    "standby": failures.READ_ONLY,
}


def failure(name: str, error: psycopg.Error) -> SyncdeskError:
    """The error for ``name``, which failed with the driver's ``error``: nothing of its values travels along."""
    if error.sqlstate is None:
        return _without_sqlstate(name, error)
    diagnosis = error.diag
    return failures.from_sqlstate(
        name,
        error.sqlstate,
        diagnosis.message_primary or "",
        constraint=diagnosis.constraint_name,
        table=diagnosis.table_name,
        column=diagnosis.column_name,
    )


def _without_sqlstate(name: str, error: psycopg.Error) -> SyncdeskError:
    told = str(error)
    for words, sqlstate in _AT_CONNECTING.items():
        if words in told:
            return failures.from_sqlstate(name, sqlstate)
    if failures.says_full(told):
        return failures.full(name)
    if isinstance(error, psycopg.DataError):
        return failures.from_sqlstate(name, failures.UNTRANSLATABLE)
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return failures.unavailable(name)
    return StoreRefused(f"The call of {name} is malformed ({type(error).__name__}).", function=name)
