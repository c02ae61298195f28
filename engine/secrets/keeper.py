"""Where a profile's secrets are kept: the operating system's keyring, or a file that only the user can read.

Which of the two is decided once, when the profile keeps its first secret, and written into ``secrets.json``. Were it
decided anew at every start, a keyring that happens to be locked would make Syncdesk forget its keys and make new ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from engine.errors import SecretError
from engine.profile import Profile

Place = Literal["keyring", "file"]
_T = TypeVar("_T")
#: A keyring may ask the person to unlock it; a program without a screen must not wait for that for ever.
_ANSWER_S = 5.0
_PROBE = "syncdesk-probe"


class Keeper:
    """One profile's secrets by name. Reading and writing goes to the place that the profile decided on."""

    def __init__(self, profile: Profile, environ: Mapping[str, str] = os.environ) -> None:
        self._file = profile.secrets_file
        self._service = f"syncdesk {profile.root}"
        self._environ = environ

    @property
    def place(self) -> Place | None:
        """Where they are kept, None before the first one is."""
        place = self._read().get("kept")
        return place if place in ("keyring", "file") else None

    def names(self) -> list[str]:
        """The names of what is kept."""
        return sorted(self._read().get("names", {}))

    def get(self, name: str) -> str | None:
        """A secret, None when it is not kept.

        Raises:
            SecretError: it is kept in a keyring that cannot be reached now.
        """
        book = self._read()
        if name not in book.get("names", {}):
            return None
        if book["kept"] == "file":
            return str(book["names"][name])
        found = _ask(lambda keyring: keyring.get_password(self._service, name))
        if found is None:
            raise SecretError(f"The keyring no longer has the secret {name} of this profile; set it again.", name=name)
        return str(found)

    def set(self, name: str, value: str) -> None:
        """Keep a secret.

        Raises:
            SecretError: neither the keyring nor the file can be written.
        """
        book = self._read()
        place = book.setdefault("kept", self._choose())
        if place == "keyring":
            _ask(lambda keyring: keyring.set_password(self._service, name, value))
        book.setdefault("names", {})[name] = value if place == "file" else ""
        self._write(book)

    def remove(self, name: str) -> bool:
        """Forget a secret; whether it was kept."""
        book = self._read()
        if name not in book.get("names", {}):
            return False
        if book["kept"] == "keyring":
            with contextlib.suppress(SecretError):
                _ask(lambda keyring: keyring.delete_password(self._service, name))
        del book["names"][name]
        self._write(book)
        return True

    def _read(self) -> dict[str, Any]:
        try:
            book = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise SecretError(f"The file of secrets {self._file} cannot be read.") from error
        if not isinstance(book, dict):
            raise SecretError(f"The file of secrets {self._file} is damaged.")
        return book

    def _write(self, book: dict[str, Any]) -> None:
        fresh = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(fresh, "w", encoding="utf-8", opener=_private) as file:
                json.dump(book, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self._file)
        except OSError as error:
            raise SecretError(f"The file of secrets {self._file} cannot be written: {error.strerror}.") from error

    def _choose(self) -> Place:
        asked = self._environ.get("SYNCDESK_SECRETS", "")
        if asked == "file":
            return "file"
        usable = _may_have_keyring(self._environ) and _probe(self._service)
        if asked == "keyring" and not usable:
            raise SecretError("SYNCDESK_SECRETS asks for the keyring, and this machine has none that answers.")
        return "keyring" if usable else "file"


def kept(profile: Profile, wanted: Mapping[str, object], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Those of the ``wanted`` secrets that the profile keeps: for `engine.settings.load`.

    Raises:
        SecretError: they are in a keyring that cannot be reached now.
    """
    keeper = Keeper(profile, environ)
    found = {name: keeper.get(name) for name in keeper.names() if name in wanted}
    return {name: value for name, value in found.items() if value is not None}


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _may_have_keyring(environ: Mapping[str, str]) -> bool:
    """Spare the machines that cannot have one the search: root's services, and sessions without a D-Bus."""
    if sys.platform in ("win32", "darwin"):
        return True
    if os.geteuid() == 0:
        return False
    session = environ.get("DBUS_SESSION_BUS_ADDRESS") or Path(f"/run/user/{os.geteuid()}/bus").exists()
    return bool(session)


def _probe(service: str) -> bool:
    """Whether a keyring takes a secret and gives it back."""

    def try_it(keyring: Any) -> bool:
        if keyring.get_keyring().priority <= 0:
            return False
        keyring.set_password(service, _PROBE, "probe")
        same: bool = keyring.get_password(service, _PROBE) == "probe"
        keyring.delete_password(service, _PROBE)
        return same

    try:
        return _ask(try_it)
    except SecretError:
        return False


def _ask(question: Callable[[Any], _T]) -> _T:
    """Put a question to the keyring and wait a moment for the answer.

    Raises:
        SecretError: it failed or did not answer.
    """
    answer: list[_T] = []

    def work() -> None:
        # Whatever a backend raises (each has its own kinds) means the same: this keyring cannot be used.
        with contextlib.suppress(Exception):
            import keyring

            answer.append(question(keyring))

    thread = threading.Thread(target=work, name="keyring", daemon=True)
    thread.start()
    thread.join(_ANSWER_S)
    if not answer:
        raise SecretError(
            "The keyring that holds this profile's secrets cannot be reached; unlock it, or set the secrets as "
            "environment variables (SYNCDESK_MASTER_KEY and those of Plaid)."
        )
    return answer[0]
