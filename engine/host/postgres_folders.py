"""The folders of the embedded Postgres: data, socket, and the file in which a postmaster says who it is."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from engine.errors import StartError
from engine.host import binaries
from engine.profile import Profile

#: Longest path of a Unix socket that Linux (108) and macOS (104) take, less the name of the socket file.
_SOCKET_FOLDER_BYTES = 103 - len("/.s.PGSQL.5432")


@dataclass(frozen=True)
class Postmaster:
    """What ``postmaster.pid`` tells (documented in Postgres' ``pidfile.h``)."""

    pid: int
    ready: bool


def postmaster(data: Path) -> Postmaster | None:
    """The postmaster that wrote its pid file into ``data``; None while there is no whole one."""
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").split("\n")
        return Postmaster(abs(int(lines[0])), len(lines) > 7 and lines[7].startswith("ready"))
    except (OSError, ValueError, IndexError):
        return None


def serves(process: psutil.Process, data: Path) -> bool:
    """Whether it is a Postgres on that data folder, by its own command line, which no other program has."""
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return "postgres" in Path(command[0] if command else "").name and str(data) in command


def major(home: Path) -> int:
    """The major version of the programs in ``home``, by their own catalogue file: no process is started for it.

    Raises:
        StartError: the folder holds no Postgres.
    """
    for share in (home / "share", home / "share" / "postgresql", Path(str(home).replace("/lib/", "/share/"))):
        with contextlib.suppress(OSError), open(share / "postgres.bki", encoding="utf-8", errors="replace") as file:
            return int(file.readline().split()[-1])  # "# PostgreSQL 18"
    raise StartError(f"The folder {home} holds no Postgres whose version can be told.")


def check_majors(folder: Path, wanted: int, log: Path) -> None:
    """Refuse data of another major version rather than start an empty database beside it.

    Raises:
        StartError: with both versions and the path of the log.
    """
    own = folder / str(wanted)
    others = sorted(found.name for found in folder.iterdir() if found.name.isdecimal() and found != own)
    made_by = (own / "PG_VERSION").read_text().strip() if own.exists() else (others[-1] if others else str(wanted))
    if made_by != str(wanted):
        raise StartError(
            f"The database in {folder} was made by Postgres {made_by}; this Syncdesk brings Postgres {wanted}. "
            f"Nothing was changed. Its log is {log}.",
            log=str(log),
        )


def data_folder(profile: Profile, account: binaries.Account | None) -> Path:
    """The folder ``pg`` of the profile, owned by the account; elsewhere behind a link where that cannot reach it."""
    folder = profile.root / "pg"
    profile.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    profile.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    if account is not None:
        for mine in (profile.root.parent, profile.root):
            if mine in (profile.root, binaries.SHARED):
                _let_through(mine)
        if not folder.exists() and not binaries.passable(profile.root, account):
            _link_elsewhere(profile, folder, account)
    folder = folder.resolve()
    folder.mkdir(exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    give(folder, account)
    return folder


def _let_through(folder: Path) -> None:
    mode = folder.stat()
    if mode.st_uid == 0 and mode.st_mode & 0o011 != 0o011:
        folder.chmod(mode.st_mode | 0o011)  # to pass through, not to list


def _link_elsewhere(profile: Profile, folder: Path, account: binaries.Account) -> None:
    """Keep the data where the account can reach it: a profile below /root, or in a temporary folder of root's."""
    temporary = Path(tempfile.gettempdir()).resolve()
    if profile.root.resolve().is_relative_to(temporary) and binaries.passable(temporary, account):
        _sweep(temporary)
        place = temporary / f"syncdesk-pg-{_digest(profile)}"
    else:
        place = binaries.SHARED / "data" / _digest(profile)
        place.parent.mkdir(parents=True, exist_ok=True)
        for above in (binaries.SHARED, place.parent):
            _let_through(above)
    _own_folder(place)
    (place / "profile").write_text(str(profile.root), encoding="utf-8")
    folder.unlink(missing_ok=True)
    folder.symlink_to(place, target_is_directory=True)


def _sweep(temporary: Path) -> None:
    """Remove what throw-away profiles left in the temporary folder when they were deleted without us."""
    for note in temporary.glob("syncdesk-pg-*/profile"):
        with contextlib.suppress(OSError):
            if not Path(note.read_text(encoding="utf-8")).exists():
                shutil.rmtree(note.parent)


def socket_folder(folder: Path, profile: Profile, account: binaries.Account | None) -> Path | None:
    """A folder for the socket that the account alone can enter; None on Windows, which gets a port.

    Beside the data, or where that path is too long for a socket in a short temporary folder.
    """
    if sys.platform == "win32":
        return None
    place = folder / "socket"
    if len(os.fsencode(place)) > _SOCKET_FOLDER_BYTES:
        place = _short_folder(profile)
    _own_folder(place)
    for old in place.iterdir():  # we hold the profile's lock: whoever made these is gone
        old.unlink(missing_ok=True)
    give(place, account)
    return place


def _own_folder(place: Path) -> None:
    """Make a folder for one account alone; refuse one that somebody else put there before us."""
    place.mkdir(exist_ok=True, mode=0o700)
    found = place.lstat()
    mine = hasattr(os, "geteuid") and os.geteuid() in (0, found.st_uid)
    if not stat.S_ISDIR(found.st_mode) or not mine:
        raise StartError(f"The folder {place} belongs to somebody else; remove it or choose another profile.")
    place.chmod(0o700)


def _short_folder(profile: Profile) -> Path:
    return Path("/tmp") / f"syncdesk-{_digest(profile)}"  # noqa: S108 - checked by _own_folder


def _digest(profile: Profile) -> str:
    return hashlib.sha256(os.fsencode(profile.root.resolve())).hexdigest()[:12]


def give(path: Path, account: binaries.Account | None) -> None:
    """Hand a file or folder to the account."""
    if account is not None and sys.platform != "win32":
        os.chown(path, account.uid, account.gid)


def remove(profile: Profile) -> None:
    """Remove the database of a profile wherever it is kept."""
    link = profile.root / "pg"
    shutil.rmtree(link.resolve(), ignore_errors=True)
    if link.is_symlink():
        link.unlink(missing_ok=True)
    shutil.rmtree(_short_folder(profile), ignore_errors=True)
