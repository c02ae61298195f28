"""The one seam between what a database says about a failure and Syncdesk's errors.

A failed statement's message, DETAIL and parameters may hold a person's data. What leaves here is the SQLSTATE and
the names of constraint, table and column; only the sentences that our own functions raise pass as they are.
"""

from __future__ import annotations

from engine.errors import (
    Conflict,
    NotFound,
    SchemaError,
    StoreFull,
    StoreReadOnly,
    StoreRefused,
    StoreUnavailable,
    SyncdeskError,
    UsageError,
)

#: Our functions refuse with these: the message is a sentence for the person, made by us.
OURS: dict[str, type[SyncdeskError]] = {"SD400": UsageError, "SD404": NotFound, "SD409": Conflict}
#: SQLSTATE classes and codes after which trying again can help (Postgres, appendix A).
_PASSING_CLASSES = ("08", "53", "57P", "PGRST00")  # PGRST00…: PostgREST has no connection, or waits for one
#: Of these, what says that this call met another one, or took too long: the database itself is well.
MOMENTARY = frozenset({"40001", "40P01", "55P03", "57014"})
READ_ONLY = "25006"
DISK_FULL = "53100"
#: What a standby says of a write, a lock or an unlogged table, or at connecting; English words, as Postgres has them
#: unless it was told otherwise. The plain SQLSTATE above is what almost every call meets.
_STANDBY = {"55000": "recovery is in progress", "0A000": "during recovery", "57P03": "standby"}
#: How the file system says it where Postgres has no SQLSTATE of its own for it (a quota, a write while connecting).
_NO_SPACE = ("No space left on device", "Disk quota exceeded", "could not extend file")
#: A function or a table of ours is not there. PGRST202 is PostgREST's word for it.
_MISSING = frozenset({"42883", "42P01", "3F000", "PGRST202"})
_CHECK_KEY = "The database refuses Syncdesk's user or key; check DATABASE_URL or SUPABASE_SERVICE_ROLE_KEY."
_SENTENCES = {
    **dict.fromkeys(("28000", "28P01", "42501", "PGRST301", "PGRST302", "PGRST303"), _CHECK_KEY),
    "3D000": "There is no such database; check DATABASE_URL.",
}
TIMED_OUT = "57014"
#: A character that no text in Postgres can hold: NUL, or half of a pair.
UNTRANSLATABLE = "22P05"


def from_sqlstate(
    name: str,
    sqlstate: str,
    message: str = "",
    *,
    constraint: str | None = None,
    table: str | None = None,
    column: str | None = None,
) -> SyncdeskError:
    """The error for a call of ``name`` that failed with ``sqlstate``. ``message`` is kept only where it is ours."""
    if sqlstate in OURS:
        return OURS[sqlstate](message, function=name)
    if sqlstate in _MISSING:
        return SchemaError(
            "The database has no current Syncdesk schema; run `syncdeskctl db migrate`.",
            function=name,
            sqlstate=sqlstate,
        )
    stopped = _takes_no_writes(name, sqlstate, message)
    if stopped is not None:
        return stopped
    if sqlstate in MOMENTARY or sqlstate.startswith(_PASSING_CLASSES):
        return unavailable(name, sqlstate)
    facts = {"sqlstate": sqlstate, "constraint": constraint, "table": table, "column": column}
    known = {key: value for key, value in facts.items() if value}
    words = ", ".join(f"{key} {value}" for key, value in known.items()) or "no reason given"
    sentence = _SENTENCES.get(sqlstate, f"The database refused {name} ({words}).")
    return StoreRefused(sentence, function=name, **known)


def _takes_no_writes(name: str, sqlstate: str, message: str) -> StoreUnavailable | None:
    if sqlstate == READ_ONLY or (sqlstate in _STANDBY and _STANDBY[sqlstate] in message):
        return StoreReadOnly(
            "The database takes no writes: it is a standby, or somebody stopped them, often because its disk is "
            "nearly full. Syncdesk goes on by itself as soon as it takes them again.",
            function=name,
            sqlstate=sqlstate,
        )
    if sqlstate == DISK_FULL or (sqlstate[:2] in ("58", "XX") and says_full(message)):
        return full(name, sqlstate)
    return None


def says_full(message: str) -> bool:
    """Whether an error's text, which goes no further than here, speaks of a full disk."""
    return any(words in message for words in _NO_SPACE)


def full(name: str, sqlstate: str = DISK_FULL) -> StoreFull:
    """The database's disk had no room for what ``name`` wanted to write."""
    return StoreFull(
        "The disk of the database is full: free some space there. Syncdesk goes on by itself once there is room.",
        function=name,
        sqlstate=sqlstate,
    )


def unavailable(name: str, sqlstate: str | None = None) -> StoreUnavailable:
    """The database cannot be reached or the connection was lost during ``name``."""
    facts = {"sqlstate": sqlstate} if sqlstate else {}
    words = f"The database took too long over {name}." if sqlstate == TIMED_OUT else "The database does not answer."
    return StoreUnavailable(words, function=name, **facts)
