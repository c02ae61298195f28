"""A throw-away install: a profile in a temporary folder, nothing of the person's settings, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import filelock

from engine import clock, launch
from engine.errors import ProfileError, StartError
from engine.profile import Profile
from engine.settings import declared, load

PREFIX = "syncdesk-demo-"
_YOUNG_S = 60.0
"""A demo takes its profile's lock within this time."""

# A job that fails for good does so in 0.5 + 1 + 2 seconds.
BACKOFF = {
    "SYNCDESK_BACKOFF_FIRST_S": "0.5",
    "SYNCDESK_BACKOFF_FACTOR": "2",
    "SYNCDESK_BACKOFF_JITTER": "0",
}

Work = Callable[[Profile, launch.Discovery], None]


def throw_away(
    work: Work,
    announce: Callable[[str], None],
    extra: Mapping[str, str],
    *,
    born: Callable[[Profile], None] = lambda _: None,
    ended: threading.Event | None = None,
) -> None:
    """Run an engine in this process on a new profile, and ``work`` beside it; end and remove everything after it.

    ``extra``: further settings by their environment names. ``born`` hears of the profile before the engine
    starts. ``ended`` is set when the engine has ended, for work that waits for that.

    The engine is this process's own: where the process is killed, its keeper ends every part, and a
    later demo removes the folder.

    Raises:
        SyncdeskError: the engine did not start, or what ``work`` raised.
    """
    from engine.host import postgres, up

    root = _folder()
    profile = Profile(root.name, root)
    failed: list[BaseException] = []
    stopped = ended or threading.Event()

    def beside() -> None:
        try:
            work(profile, _wait_ready(profile, stopped))
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            failed.append(error)
        finally:
            with contextlib.suppress(Exception):
                launch.stop(profile, deadline_s=0)

    try:
        with _environment(profile, extra):
            born(profile)
            settings = load(None, os.environ)
            thread = threading.Thread(target=beside, name="demo", daemon=True)
            thread.start()
            try:
                up.run(profile, settings, announce)
            finally:
                stopped.set()
                thread.join(10)
                if thread.is_alive():
                    failed.append(StartError("The engine ended before the demo did."))
    finally:
        postgres.forget(profile)
        shutil.rmtree(root, ignore_errors=True)
    if failed and not isinstance(failed[0], _Interrupted):
        raise failed[0]


def _folder() -> Path:
    """A new temporary folder, once those of killed demos are gone."""
    try:
        sweep()
        return Path(tempfile.mkdtemp(prefix=PREFIX))
    except OSError as error:  # its words name the places where none can be written
        place = f" {error.filename}" if error.filename else ""
        raise ProfileError(f"Cannot make a temporary folder{place}: {error.strerror}.") from error


class _Interrupted(Exception):
    """The engine ended before the work began; its own error says why."""


def _wait_ready(profile: Profile, stopped: threading.Event) -> launch.Discovery:
    while not stopped.wait(0.02):
        found = launch.read(profile)
        if found is not None:
            return found
    raise _Interrupted


@contextlib.contextmanager
def _environment(profile: Profile, extra: Mapping[str, str]) -> Iterator[None]:
    """None of the person's settings reach the demo; SYNCDESK_PLAID_URL and the like least of all."""
    names = {spec.metadata["env"] for spec in declared().values()}
    before = dict(os.environ)
    for name in names:
        os.environ.pop(name, None)
    os.environ.update(BACKOFF, SYNCDESK_PROFILE=str(profile.root), SYNCDESK_SECRETS="file", **extra)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def sweep() -> None:
    """Remove the folders of demos that were killed: those that nobody holds the lock of."""
    from engine.host import postgres

    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        lock = filelock.FileLock(Profile(folder.name, folder).lock_file)
        try:
            if clock.now().timestamp() - folder.stat().st_mtime < _YOUNG_S:
                continue  # another demo may be about to take its lock, and must find it free
            with lock.acquire(timeout=0):
                pass
        except (filelock.Timeout, OSError):
            continue
        postgres.forget(Profile(folder.name, folder))
        shutil.rmtree(folder, ignore_errors=True)


def require(condition: object, sentence: str) -> None:
    """Raise `StartError` with a sentence where a step of the demo did not come true."""
    if not condition:
        raise StartError(sentence)
