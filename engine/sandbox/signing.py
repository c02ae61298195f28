"""The bank's webhook keys: P-256, published as JWK, signing as Plaid does (a JWT over the body's SHA-256)."""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.sandbox.refusals import Refusal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


@dataclass
class Key:
    kid: str
    private: EllipticCurvePrivateKey
    created_at: int
    expired_at: int | None = None


class Keys:
    """The current key and the retired ones."""

    def __init__(self) -> None:
        self._by_id: dict[str, Key] = {}
        self._current: Key | None = None

    def rotate(self) -> str:
        """Retire the current key at once and make another; returns its id."""
        if self._current is not None:
            self._current.expired_at = int(time.time())
        self._current = None
        return self._key().kid

    def jwk(self, kid: str) -> dict[str, Any]:
        """The public half, as /webhook_verification_key/get gives it.

        Raises:
            Refusal: no key has this id.
        """
        key = self._by_id.get(kid)
        if key is None:
            raise Refusal("INVALID_WEBHOOK_VERIFICATION_KEY_ID")
        numbers = key.private.public_key().public_numbers()
        return {
            "alg": "ES256",
            "created_at": key.created_at,
            "crv": "P-256",
            "expired_at": key.expired_at,
            "kid": key.kid,
            "kty": "EC",
            "use": "sig",
            "x": _base64(numbers.x),
            "y": _base64(numbers.y),
        }

    def sign(self, body: bytes, issued_at: int | None = None) -> str:
        """The value of ``Plaid-Verification`` for these bytes."""
        import jwt

        key = self._key()
        claims = {
            "iat": int(time.time()) if issued_at is None else issued_at,
            "request_body_sha256": hashlib.sha256(body).hexdigest(),
        }
        return jwt.encode(claims, key.private, algorithm="ES256", headers={"kid": key.kid})

    def export(self) -> dict[str, Any]:
        """The current key for the bank's journal."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        key = self._key()
        pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {"kid": key.kid, "pem": pem.decode(), "created_at": key.created_at}

    def restore(self, kid: str, pem: str, created_at: int) -> None:
        """Take a key from the journal; it becomes the current one."""
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        if self._current is not None:
            self._current.expired_at = created_at
        private: Any = load_pem_private_key(pem.encode(), None)
        self._current = self._by_id[kid] = Key(kid, private, created_at)

    def _key(self) -> Key:
        if self._current is None:
            from cryptography.hazmat.primitives.asymmetric import ec

            self._current = Key(str(uuid.uuid4()), ec.generate_private_key(ec.SECP256R1()), int(time.time()))
            self._by_id[self._current.kid] = self._current
        return self._current


def _base64(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode()
