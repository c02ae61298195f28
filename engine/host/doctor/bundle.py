"""The diagnostic bundle: what others need to help, in one zip file, with nothing in it that is secret or personal.

Every file is plain data or text that went through `Blanks`; values of transactions are in none of the sources.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from engine import __version__
from engine.errors import ProfileError, SyncdeskError
from engine.host.doctor import services
from engine.host.doctor.blanks import without_password
from engine.host.doctor.examine import Report
from engine.settings import Settings, declared

LOG_LINES: Final = 500
LOG_BYTES: Final = 300_000
_GROUP_FIELDS: Final = (
    "fingerprint", "rule_version", "code", "kind", "queue", "title", "sentence", "count", "open_jobs", "failed",
    "banks", "first_seen", "last_seen", "hours",
)  # fmt: skip
_SAMPLE_FIELDS: Final = ("job_id", "at", "error")


@dataclass(frozen=True)
class Entry:
    """One file of the bundle: its name, its text, and what it holds, for the person who decides."""

    name: str
    text: str
    holds: str


def collect(report: Report) -> list[Entry]:
    """All files of the bundle, blanked; what cannot be had now is told in its place."""
    documents = [
        ("doctor.json", report.document(), "the checks of syncdeskctl doctor"),
        ("versions.json", _versions(), "versions of Syncdesk, Python, the system and all packages"),
        ("settings.json", _settings(report.settings), "settings; of secrets only whether they are set"),
        ("status.json", report.running.status or {"error": "no engine answers"}, "processes, their state, addresses"),
        ("queues.json", _queues(report.settings), "how many jobs wait, run and failed, by queue"),
        ("failures.json", _failures(report.settings), "causes of failures with the newest errors of each"),
        ("tables.json", _tables(report.settings), "size and about how many rows of each table"),
    ]
    blanks = report.blanks
    made = [
        Entry(name, json.dumps(blanks.document(found), ensure_ascii=False, indent=1), holds)
        for name, found, holds in documents
    ]
    logs = sorted(report.profile.logs.glob("*.log")) if report.profile.logs.is_dir() else []
    made += [Entry(f"logs/{path.name}", blanks.text(_tail(path)), f"last lines of {path.stem}") for path in logs]
    return made


def manifest(entries: list[Entry]) -> str:
    """A line for each file: name, size, what it holds."""
    wide = max(len(entry.name) for entry in entries)
    return "\n".join(f"{entry.name:<{wide}} {len(entry.text.encode()):>8} bytes  {entry.holds}" for entry in entries)


def save(entries: list[Entry], file: Path) -> None:
    """Write the zip file, for its owner alone, whole or not at all.

    Raises:
        ProfileError: it cannot be written.
    """
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with (
            open(fresh, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as raw,
            zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as made,
        ):
            made.writestr("manifest.txt", manifest(entries) + "\n")
            for entry in entries:
                made.writestr(entry.name, entry.text)
        os.replace(fresh, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise ProfileError(f"The bundle {file} cannot be written: {error.strerror}.") from error


def _versions() -> dict[str, Any]:
    packages = {found.metadata["Name"]: found.version for found in metadata.distributions()}
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return {
        "syncdesk": __version__,
        "python": sys.version,
        "system": system,
        "packages": dict(sorted(packages.items())),
    }


def _settings(settings: Settings | None) -> Any:
    if settings is None:
        return {"error": "the settings cannot be read; doctor.json says why"}
    found = {}
    for name, spec in declared().items():
        value: Any = getattr(settings, name)
        if spec.metadata["secret"]:
            value = "set" if value else "not set"
        elif isinstance(value, str) and "://" in value:
            value = without_password(value)
        found[name] = {"value": value, "from": settings.origin.get(name, "default")}
    return found


def _queues(settings: Settings | None) -> Any:
    if settings is None or not settings.redis_url:
        return {"error": "no broker runs"}
    from engine.queue import Keys, connect
    from engine.queue.view import View

    client = connect(settings.redis_url, "api", settings.redis_ca_file)
    try:
        return View(client, Keys(settings.redis_namespace)).queues()
    except SyncdeskError as error:
        return {"error": error.message}
    finally:
        client.close()


def _failures(settings: Settings | None) -> Any:
    with services.opened(settings) as store:
        if store is None:
            return {"error": "no database runs"}
        try:
            groups = store.call("failure_groups_list", span="7d")["groups"]
            return [
                {name: group[name] for name in _GROUP_FIELDS if name in group}
                | {"samples": list(_samples(store.call("failure_samples", fingerprint=group["fingerprint"])))}
                for group in groups
            ]
        except SyncdeskError as error:
            return {"error": error.message}


def _samples(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for sample in found["samples"] or []:
        yield {name: sample[name] for name in _SAMPLE_FIELDS if name in sample}


def _tables(settings: Settings | None) -> Any:
    if settings is None or not settings.database_url:
        return {"error": "sizes need a connection string"}
    from engine.store.facts import facts

    try:
        found = facts(settings.database_url)
    except SyncdeskError as error:
        return {"error": error.message}
    return {"server": found.version, "tables": [dataclasses.asdict(table) for table in found.tables]}


def _tail(path: Path) -> str:
    """The last lines of a log; a first line that was cut is left out."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError as error:
        return f"It cannot be read: {error.strerror}."
    lines = text.splitlines()[1 if size > LOG_BYTES else 0 :]
    return "\n".join(lines[-LOG_LINES:]) + "\n"
