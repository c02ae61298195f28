"""Checks of the machine: the program's own packages, the profile's folder, room on the disk, ports."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Final

from engine.errors import StartError
from engine.host.doctor.check import Check, Subject
from engine.profile import Profile
from engine.settings import Settings

OLDEST: Final = (3, 11)
_PROJECT: Final = Path(__file__).parents[3] / "pyproject.toml"
_MB: Final = 1_000_000
LOW_MB, EMPTY_MB = 1_000, 200
"""Megabytes: the log of the embedded database alone may take 512 (its ``max_wal_size``)."""


def program() -> Check:
    """Python's version, and whether the packages that the install names are there."""
    about = Subject("program", "Python and packages")
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST:
        return about.fail(f"Python {version} is too old.", "Use Python 3.11 or later.")
    if getattr(sys, "frozen", False):
        return about.ok(f"Python {version} and all packages come with this program.")
    wanted = _wanted()
    if wanted is None:
        return about.ok(f"Python {version}; which packages belong here is not written down.")
    names = [_name(line) for line in wanted if not _elsewhere(line)]
    missing = [name for name in names if not _there(name)]
    if missing:
        return about.fail(f"Packages are missing: {', '.join(missing)}.", "`python3 run.py` fetches what is missing.")
    return about.ok(f"Python {version} with {len(names)} packages.")


def _wanted() -> list[str] | None:
    """The packages that the install names; from a clone, those of its project file."""
    try:
        return [line for line in metadata.requires("syncdesk") or [] if "extra ==" not in line]
    except metadata.PackageNotFoundError:
        pass
    try:
        project = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]
    except (OSError, ValueError, KeyError):
        return None
    return [str(line) for line in project["dependencies"]]


def _name(requirement: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else " " for c in requirement).split()[0]


def _elsewhere(requirement: str) -> bool:
    """Whether it is for other systems only; markers here are of one kind."""
    _, _, marker = requirement.partition(";")
    return "sys_platform" in marker and "!=" in marker and f"'{sys.platform}'" in marker.replace('"', "'")


def _there(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def folder(profile: Profile) -> Check:
    """Whether the profile's folder can be written, and whether others could read what it holds."""
    about = Subject("profile", "Profile folder")
    root = profile.root
    if not root.exists():
        above = _existing(root)
        if os.access(above, os.W_OK | os.X_OK):
            return about.ok(f"{root} is made at the first start.")
        return about.fail(f"{root} cannot be made: {above} is not yours to write.", _take(above))
    if not root.is_dir():
        return about.fail(f"{root} is a file, not a folder.", "Move it away, or choose another --profile.")
    for path in (root, profile.logs, profile.run):
        if path.exists() and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            return about.fail(f"{path} cannot be written.", _take(path))
    open_ones = [path for path in _private(profile) if _others_read(path)]
    if open_ones:
        names = ", ".join(str(path) for path in open_ones)
        return about.warn(f"Other users of this machine can read {names}.", f"chmod go-rwx {names}")
    return about.ok(f"{root} can be written, and only you can read it.")


def _private(profile: Profile) -> list[Path]:
    """What must be for its owner alone. Others may pass through the root: the database may run as another account."""
    files = [profile.secrets_file, profile.discovery_file, profile.root / "database.password"]
    return [path for path in (profile.logs, profile.run, *files) if path.exists()]


def _others_read(path: Path) -> bool:
    return sys.platform != "win32" and bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _take(path: Path) -> str:
    return f"Make {path} writable for your user, or choose another --profile."


def _existing(path: Path) -> Path:
    return next(above for above in path.parents if above.exists())


def disk(profile: Profile) -> Check:
    """Room where the profile is: database, broker and logs grow there."""
    about = Subject("disk", "Room on the disk")
    root = profile.root if profile.root.exists() else _existing(profile.root)
    free = shutil.disk_usage(root).free // _MB
    cure = f"Free some room on the disk of {root}."
    if free < EMPTY_MB:
        return about.fail(f"Only {free} MB are free.", cure)
    if free < LOW_MB:
        return about.warn(f"Only {free} MB are free.", cure)
    return about.ok(f"{free / 1000:.0f} GB are free.")


def ports(profile: Profile, settings: Settings | None, running: bool) -> Check:
    """Whether the ports that the settings fix are free for an engine that would start now."""
    about = Subject("ports", "Ports")
    if running:
        return about.ok("The running engine has its ports.")
    if settings is None:
        return about.skipped("Unknown while the settings cannot be read.")
    from engine.api import server

    try:
        server.bind(profile.name, settings).close()
    except StartError as error:
        return about.fail(error.message, "End what listens there, or set another port (API_PORT, WORKER_HEALTH_PORT).")
    return about.ok("The ports that it needs are free.")
