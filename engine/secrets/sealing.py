"""Sealing of access tokens: AES-256-GCM under a master key that is kept outside the database.

A sealed text is bound to the item that it belongs to: moved to another row it does not open. The id of the key that
sealed it is stored beside it, so that keys can be changed one row at a time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from engine import clock
from engine.errors import KeyAway, SecretError
from engine.profile import Profile
from engine.secrets.keeper import Keeper
from engine.settings import Settings

MASTER_KEY = "master_key"
_VERSION = "v1."
_NONCE_BYTES = 12
_KEY_BYTES = 32
# A key that is not known may have been made meanwhile by a rotation; asking a keyring may cost a person's attention.
_LOOK_AGAIN_S = 5.0


class Sealed(NamedTuple):
    """What is stored: the sealed text and the id of the key."""

    text: str
    key_id: str


class Secrets:
    """The master keys of an install. Keys are looked up on first use: environment, file, then what the profile keeps.

    The first key seals; further ones (separated by commas) only open what they sealed.
    """

    def __init__(self, profile: Profile, settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
        self._profile = profile
        self._settings = settings
        # What the profile keeps is asked of the profile each time: a rotation may have changed it since the start.
        self._given = None if settings.origin.get("master_key") == "keyring" else settings.master_key or None
        self._keeper = Keeper(profile, environ)
        self._keys: dict[str, bytes] | None = None
        self._looked = clock.monotonic()

    def ensure(self) -> str:
        """Make sure that there is a master key, making one for a fresh profile; the id of the key that seals.

        Raises:
            KeyAway: the key is malformed, or cannot be read or kept.
        """
        return next(iter(self._known()))

    @property
    def source(self) -> str | None:
        """Who gives the keys, where it is not the profile: an environment variable, or the file that one names."""
        if self._given is not None:
            return "SYNCDESK_MASTER_KEY"
        return self._settings.master_key_file or None

    def existing(self) -> list[bytes]:
        """The master keys, the one that seals first; empty where there is none yet. Makes none.

        Raises:
            KeyAway: they are malformed or cannot be read.
        """
        if self.source is None and MASTER_KEY not in self._keeper.names():
            return []
        return list(self._known().values())

    def keep(self, keys: Sequence[bytes]) -> None:
        """Keep these in the profile, the one that seals first.

        Raises:
            SecretError: they cannot be kept.
        """
        with self._lock():
            self._keeper.set(MASTER_KEY, ",".join(written(key) for key in keys))
        self._keys = {key_id(key): key for key in keys}

    def seal(self, plaintext: str, bound_to: str) -> Sealed:
        """Seal a token for the item ``bound_to``."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key_id, key = next(iter(self._known().items()))
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(key).encrypt(nonce, plaintext.encode(), _context(key_id, bound_to))
        return Sealed(_VERSION + base64.urlsafe_b64encode(nonce + sealed).decode(), key_id)

    def unseal(self, text: str, key_id: str, bound_to: str) -> str:
        """The token that `seal` sealed for ``bound_to``.

        Raises:
            KeyAway: the key is another one, or cannot be had.
            SecretError: the text was changed or belongs to another item.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        known = self._known()
        if key_id not in known and clock.monotonic() - self._looked > _LOOK_AGAIN_S:
            self._keys = None
            known = self._known()
        if key_id not in known:
            raise KeyAway(
                f"The access tokens were sealed with the master key {key_id}, and the key here is "
                f"{next(iter(known))}. Give Syncdesk the right one in SYNCDESK_MASTER_KEY, or enter the recovery code "
                "with `syncdeskctl secrets recover`.",
                key_id=key_id,
            )
        try:
            raw = base64.urlsafe_b64decode(text.removeprefix(_VERSION).encode())
            opened = AESGCM(known[key_id]).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _context(key_id, bound_to))
        except (InvalidTag, ValueError, binascii.Error):
            opened = None
        if opened is None or not text.startswith(_VERSION):
            raise SecretError(
                "An access token cannot be opened: it was changed or belongs to another bank link; link it again.",
                key_id=key_id,
            )
        return opened.decode()

    def _known(self) -> dict[str, bytes]:
        if self._keys is None:
            self._looked = clock.monotonic()
            keys = [parse_key(part) for part in self._text().replace("\n", ",").split(",") if part.strip()]
            if not keys:
                raise KeyAway("The master key is empty.")
            self._keys = {key_id(key): key for key in keys}
        return self._keys

    def _text(self) -> str:
        if self._given is not None:
            return self._given
        if self._settings.master_key_file:
            try:
                return Path(self._settings.master_key_file).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise KeyAway(f"The master key cannot be read from {self._settings.master_key_file}.") from error
        return self._keeper.get(MASTER_KEY) or self._make()

    def _make(self) -> str:
        """Make the profile's key. Two processes that come here at once must end with the same one."""
        with self._lock():
            made = self._keeper.get(MASTER_KEY)
            if made is None:
                made = new_key()
                self._keeper.set(MASTER_KEY, made)
        return made

    def _lock(self) -> AbstractContextManager[Any]:
        from filelock import FileLock

        self._profile.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        return FileLock(self._profile.root / "secrets.lock", timeout=30)


def new_key() -> str:
    """A fresh master key as text."""
    return written(secrets.token_bytes(_KEY_BYTES))


def written(key: bytes) -> str:
    """A master key as the text that `parse_key` reads."""
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def parse_key(text: str) -> bytes:
    """The 32 bytes of a key written as base64 (either alphabet) or as hex.

    Raises:
        KeyAway: it is neither; the text itself is not repeated.
    """
    text = text.strip()
    try:
        if len(text) == 2 * _KEY_BYTES:
            return bytes.fromhex(text)
        plain = text.rstrip("=").replace("+", "-").replace("/", "_")
        key = base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != _KEY_BYTES:
        raise KeyAway("The master key must be 32 bytes, written as base64 or as 64 hexadecimal digits.")
    return key


def key_id(key: bytes) -> str:
    """Eight hex digits that name a key and tell nothing of it."""
    return hashlib.sha256(b"syncdesk key id" + key).hexdigest()[:8]


def _context(key: str, bound_to: str) -> bytes:
    return f"syncdesk:{key}:{bound_to}".encode()
