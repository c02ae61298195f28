"""Log lines: one rotating file a part in the profile's ``logs/``, the same lines as text on a terminal.

A line is an event in fixed words and facts beside it (``log.info("words", item=…, ms=…)``). A fact whose name
says secret, amount or merchant is hidden, and an exception is written as its frames without its message, since
messages of drivers carry row values; ours are written for people and stay. Records of libraries keep their
template without its arguments for the same reason.
"""

from __future__ import annotations

import io
import json
import logging
import logging.handlers
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from engine import clock
from engine.errors import ProfileError, StoreUnavailable, SyncdeskError
from engine.profile import Profile

# The lines an operator looks for.
QUEUED = "📋 Queued transaction sync job"
PROCESSING = "🔄 Processing transaction sync job"
COMPLETED = "✅ Transaction sync job completed"
FAILED = "❌ Transaction sync job failed"
HIGH_FAILURE_RATE = "⚠️ High failure rate in queue"

SUPERVISED = "SYNCDESK_SUPERVISED"
"""Set by the host for its parts: their terminal is a log file, so they write no second copy to it."""

_FILE_BYTES = 5_000_000
_FILES = 4
_ROOT = "syncdesk"
_HIDDEN = re.compile(
    r"token|secret|password|passwd|authorization|cookie|api_key|master_key|dsn|amount|balance|merchant|account_name",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"(?<=://)[^/@\s]*@")


class Logger:
    """Writes lines of fixed words with facts beside them; ``exc_info`` may be an exception, or True for the one at
    hand."""

    __slots__ = ("_bound", "_target")

    def __init__(self, target: logging.Logger, bound: dict[str, Any] | None = None) -> None:
        self._target = target
        self._bound = bound or {}

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        """Whether a line of this level is written at all, for callers whose facts cost something."""
        return self._target.isEnabledFor(level)

    def bind(self, **facts: Any) -> Logger:
        """A logger that adds these facts to each of its lines."""
        return Logger(self._target, self._bound | facts)

    def debug(self, words: str, **facts: Any) -> None:
        self._write(logging.DEBUG, words, facts)

    def info(self, words: str, **facts: Any) -> None:
        self._write(logging.INFO, words, facts)

    def warning(self, words: str, **facts: Any) -> None:
        self._write(logging.WARNING, words, facts)

    def error(self, words: str, **facts: Any) -> None:
        self._write(logging.ERROR, words, facts)

    def exception(self, words: str, **facts: Any) -> None:
        """An error with where the exception at hand was raised."""
        self._write(logging.ERROR, words, {"exc_info": True, **facts})

    def _write(self, level: int, words: str, facts: dict[str, Any]) -> None:
        if self._target.isEnabledFor(level):
            self._target.log(level, words, extra={"facts": _frames(_hide({**self._bound, **facts}))})


def logger(name: str) -> Logger:
    """The logger of a module. Cheap, and usable before `configure`: then only warnings appear, on stderr."""
    return Logger(logging.getLogger(f"{_ROOT}.{name.removeprefix('engine.')}"))


class Outage:
    """Tells of work that is tried again and again: once that it fails, nothing while that lasts, once that it is over.

    A warning; while the database is away it is no more than a line, since others give that alarm (`engine.jobs.gate`);
    an error that is not ours is told with its frames. What turns out to be worse than it began is told once more. For
    one thread.
    """

    def __init__(self, log: Logger, words: str, over: str) -> None:
        self._log, self._words, self._over = log, words, over
        self._level = logging.NOTSET
        self._began = 0.0

    def failed(self, error: Exception) -> None:
        """It failed, for the first time or still."""
        level, say = _loudness(self._log, error)
        if level <= self._level:
            return
        self._began = self._began if self._level else clock.monotonic()
        self._level = level
        if isinstance(error, SyncdeskError):
            say(self._words, code=error.code)
        else:
            say(self._words, exc_info=error)

    def worked(self) -> None:
        """It went well, as ever or again."""
        if self._level:
            self._log.info(self._over, after_s=round(clock.monotonic() - self._began, 1))
            self._level = logging.NOTSET


def _loudness(log: Logger, error: Exception) -> tuple[int, Callable[..., None]]:
    if isinstance(error, StoreUnavailable):
        return logging.INFO, log.info
    return (logging.WARNING, log.warning) if isinstance(error, SyncdeskError) else (logging.ERROR, log.error)


Form = Literal["auto", "json", "text"]


def configure(
    part: str,
    profile: Profile | None,
    *,
    terminal: bool | None = None,
    file: str | None = None,
    form: Form = "auto",
) -> None:
    """Send every log line of this process to ``<part>.log`` of the profile and to stderr. May be called again.

    Args:
        part: ``host``, ``worker-sync``, ``scheduler``, …: the file's name and the line's ``part``.
        profile: None: no file (a container that logs to its output).
        terminal: write to stderr as well; by default where nobody supervises this process.
        file: another name for the file than the part's.
        form: what a line is: one JSON object, or text; ``auto``: JSON in files, text on stderr.

    Raises:
        ProfileError: the file cannot be written.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        if getattr(handler, "syncdesk", False):
            root.removeHandler(handler)
            handler.close()
    if profile is not None:
        _add(root, _file(profile.logs / f"{file or part}.log"), _form(part, form, "json"))
    if terminal if terminal is not None else not os.environ.get(SUPERVISED):
        if isinstance(sys.stderr, io.TextIOWrapper):
            sys.stderr.reconfigure(errors="backslashreplace")  # a Windows code page knows no 📋
        _add(root, logging.StreamHandler(sys.stderr), _form(part, form, "text"))
    root.setLevel(logging.WARNING)
    logging.getLogger(_ROOT).setLevel(logging.INFO)


def also(name: str, profile: Profile, file: str, *, form: Form = "auto") -> None:
    """Write the lines of one logger (``webhook``) to a file of their own besides.

    Raises:
        ProfileError: the file cannot be written.
    """
    release(name)
    target = logging.getLogger(f"{_ROOT}.{name}")
    _add(target, _file(profile.logs / f"{file}.log"), _form(name, form, "json"))


def release(name: str) -> None:
    """Undo `also`."""
    target = logging.getLogger(f"{_ROOT}.{name}")
    for handler in list(target.handlers):
        target.removeHandler(handler)
        handler.close()


def _form(part: str, form: Form, usual: Form) -> logging.Formatter:
    return _Lines(part) if (usual if form == "auto" else form) == "json" else _Text(dated=usual == "json")


def _add(target: logging.Logger, handler: logging.Handler, form: logging.Formatter) -> None:
    handler.setFormatter(form)
    handler.syncdesk = True  # type: ignore[attr-defined]
    target.addHandler(handler)


def _file(path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
        return _Rotating(path, maxBytes=_FILE_BYTES, backupCount=_FILES, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ProfileError(f"The log {path} cannot be written: {error.strerror}.") from error


class _Rotating(logging.handlers.RotatingFileHandler):
    """A full disk must not end the work that is logged, nor fill stderr with tracebacks."""

    def _open(self) -> Any:
        return open(
            self.baseFilename,
            self.mode,
            encoding=self.encoding,
            errors=self.errors,
            opener=lambda path, flags: os.open(path, flags, 0o600),
        )

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        del record


def _hide(facts: dict[str, Any]) -> dict[str, Any]:
    """Hide what no log may hold, by the fact's name; and the user part of any URL."""
    for name, value in facts.items():
        if _HIDDEN.search(name):
            facts[name] = "[hidden]"
        elif isinstance(value, str) and "://" in value:
            facts[name] = _IN_URL.sub("", value)
    return facts


def _frames(facts: dict[str, Any]) -> dict[str, Any]:
    """An exception as its type and frames; the message only where we wrote it ourselves."""
    given = facts.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        facts["error"] = describe(error)
        facts["frames"] = frames(error)
    return facts


def describe(error: BaseException) -> str:
    """An exception in words that may be logged: its type, and its sentence where Syncdesk raised it."""
    if isinstance(error, SyncdeskError):
        return f"{error.code}: {error.message}"
    return type(error).__name__


def frames(error: BaseException) -> str:
    """Where it was raised, innermost last: file, line and function, no values; causes first."""
    chain: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        steps = traceback.extract_tb(current.__traceback__)
        lines = [f"  {Path(step.filename).name}:{step.lineno} {step.name}" for step in steps]
        chain.insert(0, "\n".join([type(current).__name__, *lines]))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n".join(chain)


def _parts(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """The words and facts of a record; of a library's only its template."""
    facts = getattr(record, "facts", None)
    if facts is not None:
        return str(record.msg), facts
    facts = {"library": record.name}
    if record.exc_info and record.exc_info[1] is not None:
        facts |= {"error": describe(record.exc_info[1]), "frames": frames(record.exc_info[1])}
    return _IN_URL.sub("", str(record.msg)), facts


class _Lines(logging.Formatter):
    """One JSON object a line; the fixed words stay readable."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        words, facts = _parts(record)
        line = {"at": clock.iso(clock.now()), "level": record.levelname.lower(), "part": self._part, "event": words}
        return json.dumps({**line, **facts}, ensure_ascii=False, default=str)


def _one_line(value: Any) -> str:
    """A fact as text; one with line breaks or other signs that nobody sees is quoted, so that it forges no line."""
    text = str(value)
    return text if text.isprintable() else json.dumps(text)


class _Text(logging.Formatter):
    """``12:00:01 INFO words  fact=value`` for people; frames on lines of their own. ``dated``: with the whole time."""

    def __init__(self, *, dated: bool) -> None:
        super().__init__()
        self._dated = dated

    def format(self, record: logging.LogRecord) -> str:
        words, facts = _parts(record)
        below = facts.get("frames")
        beside = "  ".join(f"{name}={_one_line(value)}" for name, value in facts.items() if name != "frames")
        at = clock.iso(clock.now())
        line = f"{at if self._dated else at[11:19]} {record.levelname} {words}" + (f"  {beside}" if beside else "")
        return f"{line}\n{below}" if below else line
