"""Tokens of three kinds, compared in constant time, and the proof that an engine knows its token."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from engine.api.types import TokenKind
from engine.errors import SettingsError

RANK: dict[TokenKind, int] = {"view": 0, "operate": 1, "admin": 2}


LEAST = 16
"""Characters of a token that a person chose: anybody on this machine may try as many as they like."""


def new_token() -> str:
    """A fresh admin token: 256 bits, safe in a header."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Tokens:
    """The admin token and the two lesser ones, which follow from it.

    The derivation key is a digest of the admin token rather than the token itself: ``hello``
    signs a nonce of the caller's choice under a token, and must never sign its way to another.
    """

    admin: str = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse what could be guessed.

        Raises:
            SettingsError: the token is too short, or cannot be sent in a header.
        """
        if len(self.admin) < LEAST or not self.admin.isascii() or not self.admin.isprintable():
            raise SettingsError(f"SYNCDESK_TOKEN must have at least {LEAST} letters, digits or signs of ASCII.")

    def of(self, kind: TokenKind) -> str:
        """The bearer token of a kind."""
        if kind == "admin":
            return self.admin
        key = hashlib.sha256(b"syncdesk token derivation\x00" + self.admin.encode()).digest()
        return hmac.new(key, kind.encode(), hashlib.sha256).hexdigest()

    def kind(self, authorization: str | None) -> TokenKind | None:
        """Which kind an ``Authorization`` header carries; every kind is compared, whichever fits."""
        given = (authorization or "").encode("utf-8", "replace")
        found: TokenKind | None = None
        for kind in RANK:
            if hmac.compare_digest(given, b"Bearer " + self.of(kind).encode()):
                found = kind
        return found

    def proof(self, nonce: str, kind: TokenKind = "admin") -> str:
        """Hex HMAC-SHA256 of the nonce under the token of a kind."""
        return proof(self.of(kind), nonce)


def proof(token: str, nonce: str) -> str:
    """What an engine that knows ``token`` answers to ``nonce``."""
    return hmac.new(token.encode(), nonce.encode(), hashlib.sha256).hexdigest()


def allowed(kind: TokenKind | None, needed: TokenKind) -> bool:
    """Whether a token of ``kind`` may do what needs ``needed``."""
    return kind is not None and RANK[kind] >= RANK[needed]
