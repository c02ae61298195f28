"""The recovery code: a copy of the master keys that only the code opens, kept in the database beside what they seal.

A backup of the database and the code, written down once by the person, are then enough to get every bank link back.
The code is the private half of a key pair (X25519, RFC 7748): the install keeps the public half, so that a new master
key can be put into the copy without the code. Each key is sealed under a key of its own, agreed with a pair made for
it and derived by HKDF (RFC 5869), with AES-256-GCM.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Sequence
from typing import Any, Final

from engine.errors import SecretError, UsageError
from engine.secrets.sealing import key_id

_CODE_BYTES: Final = 20
_CHECK_BYTES: Final = 2
_GROUP: Final = 4
_NONCE_BYTES: Final = 12
#: What is easily taken for another letter when a person copies the code from paper.
_LOOKALIKES: Final = str.maketrans({"0": "O", "1": "I", "8": "B"})


def new_code() -> str:
    """A fresh code: 160 bits and a checksum, in groups of four letters and digits."""
    return _written(secrets.token_bytes(_CODE_BYTES))


def public_half(code: str) -> str:
    """What the install keeps of a code; the master keys are sealed for it.

    Raises:
        UsageError: it is no recovery code.
    """
    return _text(_private(code).public_key().public_bytes_raw())


def wrap(public: str, keys: Sequence[bytes]) -> list[dict[str, str]]:
    """Seal the keys for the holder of the code. Entries: ``key_id``, ``pair`` (public), ``sealed``."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    holder = X25519PublicKey.from_public_bytes(_bytes(public))
    entries = []
    for key in keys:
        pair = X25519PrivateKey.generate()
        half = pair.public_key().public_bytes_raw()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(_derive(pair.exchange(holder), half)).encrypt(nonce, key, key_id(key).encode())
        entries.append({"key_id": key_id(key), "pair": _text(half), "sealed": _text(nonce + sealed)})
    return entries


def unwrap(code: str, entries: Sequence[dict[str, Any]]) -> list[bytes]:
    """The master keys, in the order in which they were wrapped.

    Raises:
        UsageError: it is no recovery code.
        SecretError: it is the code of another install or an older one, or the copy is damaged.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    private = _private(code)
    try:
        keys = []
        for entry in entries:
            half, raw = _bytes(entry["pair"]), _bytes(entry["sealed"])
            derived = _derive(private.exchange(X25519PublicKey.from_public_bytes(half)), half)
            keys.append(AESGCM(derived).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], str(entry["key_id"]).encode()))
    except (InvalidTag, ValueError, KeyError, TypeError):
        raise SecretError("This recovery code does not open the copy of the master key in this database.") from None
    if not keys:
        raise SecretError("This database holds no copy of a master key.")
    return keys


def _private(code: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(_derive(_read(code), b"code"))


def _derive(secret: bytes, salt: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=b"syncdesk recovery").derive(secret)


def _written(raw: bytes) -> str:
    text = base64.b32encode(raw + _check(raw)).decode().rstrip("=")
    return "-".join(text[i : i + _GROUP] for i in range(0, len(text), _GROUP))


def _read(code: str) -> bytes:
    letters = "".join(c for c in code.upper() if c.isalnum()).translate(_LOOKALIKES)
    try:
        raw = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except (ValueError, binascii.Error):
        raw = b""
    if len(raw) != _CODE_BYTES + _CHECK_BYTES or _check(raw[:_CODE_BYTES]) != raw[_CODE_BYTES:]:
        raise UsageError("This is no recovery code: a letter is wrong or missing. Nothing was changed.")
    return raw[:_CODE_BYTES]


def _check(raw: bytes) -> bytes:
    return hashlib.sha256(b"syncdesk recovery" + raw).digest()[:_CHECK_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode())
