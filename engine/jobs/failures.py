"""The one seam through which a job's error passes before anything stores, shows or logs it.

`describe` keeps what explains (codes, sqlstate, constraint, table, request id, frames) and drops what could be
somebody's: messages of drivers, values, locals. `fingerprint` says which failures have one cause.
"""

from __future__ import annotations

import hashlib
import re
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import Any, Final

from engine.errors import SyncdeskError
from engine.logs import frames
from engine.plaid.errors import PlaidError, words

RULE_VERSION: Final = 2
POISON: Final = "POISON"
_OWN: Final = ("engine", "scheduler")
_OWN_FRAMES: Final = 3
_TRACEBACK: Final = 6000

# Facts of an error's detail that may be kept; everything else in it is dropped.
_FACTS: Final = frozenset(
    {
        "call",
        "cause",
        "column",
        "constraint",
        "function",
        "http_status",
        "name",
        "plaid_code",
        "plaid_type",
        "reason",
        "request_id",
        "retry_after_s",
        "sqlstate",
        "starts",
        "status",
        "table",
    }
)
_TITLES: Final = {
    "DATABASE_UNAVAILABLE": "The database does not answer",
    "DATABASE_READ_ONLY": "The database takes no writes",
    "DATABASE_FULL": "The database's disk is full",
    "DATABASE_REFUSED": "The database refused a change",
    "BROKER_UNAVAILABLE": "The queue does not answer",
    "SCHEMA": "The database's schema does not fit",
    "SECRET": "A key is missing or wrong",
    "NOT_FOUND": "What the job was for is gone",
    "CONFLICT": "Something changed meanwhile",
    "SETTINGS": "A setting is wrong",
}
_KINDS: Final = {"DATABASE": "database", "BROKER": "broker"}
# Parts of a message that differ between failures of one cause.
_IDS: Final = re.compile(
    r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9A-Za-z_-]{24,}\b|\d+|'[^']*'|\"[^\"]*\"|\([^)]*\)", re.IGNORECASE
)
# Trouble of a part that all jobs share: one cause, wherever in our code it is met.
_SHARED: Final = frozenset(
    {"DATABASE_UNAVAILABLE", "DATABASE_READ_ONLY", "DATABASE_FULL", "BROKER_UNAVAILABLE", "MASTER_KEY", "SCHEMA"}
)


@dataclass(frozen=True)
class Described:
    """An error as it may be kept: the fields of `engine.api.types.ErrorInfo`."""

    kind: str
    code: str
    title: str
    sentence: str
    detail: dict[str, Any] = field(default_factory=dict)
    traceback: str = ""

    def json(self) -> dict[str, Any]:
        return asdict(self)


def describe(error: BaseException, institution: str | None) -> Described:
    """What may be kept of ``error``, with words for the person."""
    trace = frames(error)[-_TRACEBACK:]
    if isinstance(error, PlaidError):
        said = words(error.plaid_code, institution or None)
        return Described("plaid", error.plaid_code, said.title, said.sentence, _facts(error), trace)
    if isinstance(error, SyncdeskError):
        kind = _KINDS.get(error.code.split("_")[0], "engine")
        title = _TITLES.get(error.code, "The job could not be done")
        return Described(kind, error.code, title, error.message, _facts(error), trace)
    name = type(error).__name__
    return Described(
        "bug",
        name,
        "Something unforeseen happened",
        f"Syncdesk met an error that it does not know ({name}). The traceback says where.",
        {},
        trace,
    )


def poison(starts: int) -> Described:
    """What is kept of a job whose starts took their workers down."""
    return Described(
        "poison",
        POISON,
        "The job took its worker down",
        f"{starts} starts of this job ended together with their worker process, so it was set aside. "
        "The workers' logs around the times of its attempts may say why.",
        {"starts": starts},
    )


def _facts(error: SyncdeskError) -> dict[str, Any]:
    return {
        name: value
        for name, value in error.detail.items()
        if name in _FACTS and isinstance(value, str | int | float | bool) and value != ""
    }


def fingerprint(error: BaseException | None, described: Described, queue: str, institution: str | None) -> str:
    """Failures with one fingerprint have one cause, as far as rule `RULE_VERSION` can tell.

    An explicit key first: Plaid's code and the bank, or the code of a part that all share; then the innermost frames of
    our own code with the error's type and the database's facts; without frames, its type and message without ids and
    values. The version is part of the text, so that groups of an older rule stay as they are.
    """
    if described.kind in ("plaid", "poison"):
        parts = [described.kind, described.code, institution or "", queue if described.kind == "poison" else ""]
    elif described.code in _SHARED:
        parts = [described.kind, described.code]
    else:
        own = _own_frames(error)
        facts = [str(described.detail.get(name, "")) for name in ("sqlstate", "constraint", "table")]
        foreign = error is not None and not isinstance(error, SyncdeskError)
        where = own or [_IDS.sub("#", str(error) if foreign else described.sentence)]
        parts = [described.kind, described.code, *facts, *where]
    text = "\x1f".join([str(RULE_VERSION), *parts])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _own_frames(error: BaseException | None) -> list[str]:
    """The innermost frames of our own code as ``folder/file.py:function``: lines move with every release."""
    found = []
    for step in traceback.extract_tb(error.__traceback__ if error else None):
        parts = PurePath(step.filename).parts
        own = [index for index, part in enumerate(parts) if part in _OWN]
        if own and "site-packages" not in parts:
            found.append("/".join(parts[own[-1] :]) + f":{step.name}")
    return found[-_OWN_FRAMES:]
