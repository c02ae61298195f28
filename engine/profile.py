"""Where an install keeps its things: one folder a profile, and the names of the files in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from engine.errors import ProfileError

DEFAULT = "default"


@dataclass(frozen=True)
class Profile:
    """A profile's folder. Nothing here creates anything; `prepare` does."""

    name: str
    root: Path

    @property
    def is_default(self) -> bool:
        """Only the default profile takes ports 3000 and 3003 by itself."""
        return self.name == DEFAULT

    @property
    def settings_file(self) -> Path:
        return self.root / "settings.toml"

    @property
    def secrets_file(self) -> Path:
        """Used only where the machine has no keyring; readable by the user alone."""
        return self.root / "secrets.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Sockets, password files: a folder for the user alone, emptied at start."""
        return self.root / "run"

    @property
    def lock_file(self) -> Path:
        return self.root / "engine.lock"

    @property
    def discovery_file(self) -> Path:
        """JSON for the user alone: pid, start time, ports, token of the running engine."""
        return self.root / "engine.json"

    @property
    def broker_data(self) -> Path:
        return self.root / "valkey"

    def database_data(self, major: int) -> Path:
        return self.root / "pg" / str(major)


def data_home(environ: Mapping[str, str]) -> Path:
    """The folder that holds the profiles: ``SYNCDESK_HOME``, /var/lib/syncdesk for root, else the system's place."""
    if environ.get("SYNCDESK_HOME"):
        return Path(environ["SYNCDESK_HOME"]).expanduser().resolve()
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/syncdesk")
    return Path(platformdirs.user_data_dir("syncdesk", appauthor=False))


def choose(given: str | None, environ: Mapping[str, str]) -> Profile:
    """The profile by ``--profile`` or ``SYNCDESK_PROFILE``: a name, or a path where it holds a separator.

    Raises:
        ProfileError: the name has characters that a folder name should not have.
    """
    text = given or environ.get("SYNCDESK_PROFILE") or DEFAULT
    if os.sep in text or (os.altsep and os.altsep in text):
        root = Path(text).expanduser().resolve()
        return Profile(root.name, root)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", text):
        raise ProfileError(f"{text!r} cannot be a profile's name: use letters, digits, dots and dashes, or a path.")
    return Profile(text, data_home(environ) / text)


def prepare(profile: Profile) -> None:
    """Make the profile's folders, for the user alone where they hold secrets.

    Raises:
        ProfileError: a folder cannot be made or written, with its path.
    """
    for folder in (profile.root, profile.logs, profile.run):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ProfileError(f"Cannot make the folder {folder}: {error.strerror}.") from error
        if not os.access(folder, os.W_OK):
            raise ProfileError(f"Cannot write to the folder {folder}.")
