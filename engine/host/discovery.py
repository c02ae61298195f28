"""What a host tells about itself in its profile: where it is when it is ready, how far it is before that."""

from __future__ import annotations

import json
import os
from pathlib import Path

from engine.api.types import Endpoints
from engine.errors import ProfileError
from engine.host.binaries_process import write_private
from engine.launch import Discovery, Progress, progress, progress_file, read
from engine.processes import start_time
from engine.profile import Profile

__all__ = ["Discovery", "Progress", "clear", "progress", "read", "write", "write_progress"]


def write(profile: Profile, endpoints: Endpoints, token: str, version: str) -> None:
    """Tell that this process is the profile's engine and is ready.

    Raises:
        ProfileError: the file cannot be written.
    """
    found = {
        "pid": os.getpid(),
        "started": start_time(os.getpid()),
        "version": version,
        "profile": profile.name,
        "endpoints": {"public": endpoints.public, "admin": endpoints.admin, "health": endpoints.health},
        "token": token,
    }
    _write(profile.discovery_file, json.dumps(found))


def _write(path: Path, text: str) -> None:
    try:
        write_private(path, text)
    except OSError as error:
        raise ProfileError(f"Cannot write {path}: {error.strerror}.") from error


def write_progress(profile: Profile, state: str, step: str, error: str | None = None) -> None:
    """Tell how far the start of this process is.

    Raises:
        ProfileError: the file cannot be written.
    """
    pid, started = os.getpid(), start_time(os.getpid())
    text = json.dumps({"pid": pid, "started": started, "state": state, "step": step, "error": error})
    _write(progress_file(profile), text)


def clear(profile: Profile, pid: int) -> None:
    """Remove the discovery file if it is still that of ``pid``; the next engine's is left alone."""
    try:
        found = json.loads(profile.discovery_file.read_text(encoding="utf-8"))
        if found.get("pid") == pid:
            profile.discovery_file.unlink(missing_ok=True)
    except (OSError, ValueError, AttributeError):
        return
