"""Is this webhook from Plaid, or from a relay that knows our secret?

Plaid signs with a JWT (ES256) in ``Plaid-Verification`` that holds the SHA-256 of the body; a
relay of the person's own signs with HMAC in ``X-Syncdesk-Signature: t=<unix>,v1=<hex>``. The
relay's way is open only where PLAID_WEBHOOK_SECRET is set.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from engine import clock
from engine.errors import SyncdeskError
from engine.plaid.errors import PlaidError, Reaction
from engine.plaid.types import VerificationKey

WINDOW_S = 300  # Plaid: a signature older than five minutes is not to be trusted
FUTURE_S = 60  # how far a sender's clock may be ahead of ours
KEY_FRESH_S = 3600
KEY_UNKNOWN_S = 60
KEYS_KEPT = 64
NO_SUCH_KEY = "INVALID_WEBHOOK_VERIFICATION_KEY_ID"
LOOKUPS_A_MINUTE = 20  # anybody can invent key ids; Plaid is asked for no more than this

_KID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_HMAC = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")

Lookup = Callable[[str], VerificationKey]


class Refused(SyncdeskError):
    """The webhook is not believed; ``reason`` is for the operator, the sender learns nothing from it."""

    code = "WEBHOOK_REFUSED"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The webhook was refused: {reason}.", reason=reason)
        self.reason = reason


class KeyUnavailable(SyncdeskError):
    """The key of the signature is not known and Plaid cannot be asked now: answer 503, Plaid sends it again."""

    code: ClassVar[str] = "WEBHOOK_KEY_UNAVAILABLE"
    retryable: ClassVar[bool] = True


@dataclass(frozen=True)
class Verified:
    """Who vouched for the body. ``signature_id`` is the same for a repeated delivery of one signature."""

    by: Literal["jwt", "hmac"]
    signature_id: str
    body_sha256: str


class Verifier:
    """Checks signatures over the raw bytes that arrived; keeps Plaid's keys. May be shared by threads."""

    def __init__(self, lookup: Lookup, relay_secret: str | None = None) -> None:
        self._keys = _Keys(lookup)
        self._relay_secret = relay_secret.encode() if relay_secret else None

    def verify(self, headers: Mapping[str, str], body: bytes) -> Verified:
        """Believe the body or raise.

        Args:
            headers: any mapping that is asked with lower-case names.
            body: the bytes as they arrived; white space counts.

        Raises:
            Refused: no signature, a wrong one, too old, or for another body.
            KeyUnavailable: cannot be decided now.
        """
        token = headers.get("plaid-verification")
        if token:
            return self._verify_jwt(token, body)
        signature = headers.get("x-syncdesk-signature")
        if signature and self._relay_secret is not None:
            return self._verify_hmac(signature, body)
        raise Refused("no signature")

    def at_once(self, headers: Mapping[str, str]) -> bool:
        """Whether `verify` decides without asking Plaid for a key, which may take as long as Plaid does."""
        import jwt

        token = headers.get("plaid-verification")
        if not token or len(token) > 4096:
            return True
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            return True
        kid = header.get("kid")
        if header.get("alg") != "ES256" or not isinstance(kid, str) or not _KID.fullmatch(kid):
            return True
        return self._keys.known(kid)

    def _verify_jwt(self, token: str, body: bytes) -> Verified:
        import jwt

        if len(token) > 4096:
            raise Refused("a signature that is too long")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise Refused("a signature that is no JWT") from None
        if header.get("alg") != "ES256":
            raise Refused("another algorithm than ES256")
        kid = header.get("kid")
        if not isinstance(kid, str) or not _KID.fullmatch(kid):
            raise Refused("no key id")
        key = self._keys.get(kid)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=["ES256"],
                options={"verify_iat": False, "verify_exp": False, "verify_nbf": False, "verify_aud": False},
            )
        except jwt.PyJWTError:
            raise Refused("a wrong signature") from None
        _check_age(claims.get("iat"))
        digest = hashlib.sha256(body).hexdigest()
        claimed = claims.get("request_body_sha256")
        if not isinstance(claimed, str) or not hmac.compare_digest(claimed.encode(), digest.encode()):
            raise Refused("a signature for another body")
        return Verified("jwt", hashlib.sha256(token.encode()).hexdigest(), digest)

    def _verify_hmac(self, signature: str, body: bytes) -> Verified:
        found = _HMAC.fullmatch(signature.strip())
        if not found or self._relay_secret is None:
            raise Refused("a relay's signature of another form")
        moment, claimed = found.groups()
        wanted = hmac.new(self._relay_secret, moment.encode() + b"." + body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(claimed, wanted):
            raise Refused("a wrong relay signature")
        _check_age(int(moment))
        identity = hashlib.sha256(f"hmac:{moment}:{claimed}".encode()).hexdigest()
        return Verified("hmac", identity, hashlib.sha256(body).hexdigest())


def _check_age(issued: Any) -> None:
    # A number without end, or none at all (NaN), is no time either; both can be written in a JWT.
    if isinstance(issued, bool) or not isinstance(issued, int | float) or not abs(issued) < 1e12:
        raise Refused("no time of signing")
    age = clock.now().timestamp() - issued
    if age > WINDOW_S:
        raise Refused("a signature older than five minutes")
    if age < -FUTURE_S:
        raise Refused("a signature from the future")


@dataclass
class _Entry:
    key: Any  # None: Plaid does not know this id
    fetched: float
    expired_at: int | None = None


class _Keys:
    """Plaid's public keys by id: fresh for an hour, unknown ids remembered for a minute, bounded in number."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._asked: deque[float] = deque(maxlen=LOOKUPS_A_MINUTE)

    def get(self, kid: str) -> Any:
        """The key to verify with.

        Raises:
            Refused: Plaid does not know the id, or the key has expired.
            KeyUnavailable: Plaid cannot be asked.
        """
        entry = self._known(kid)
        if entry is None:
            with self._lock:  # one question at a time: a burst of webhooks asks once
                entry = self._known(kid) or self._ask(kid)
        if entry.key is None:
            raise Refused("a key that Plaid does not know")
        if entry.expired_at is not None and entry.expired_at <= clock.now().timestamp():
            raise Refused("an expired key")
        return entry.key

    def known(self, kid: str) -> bool:
        """Whether `get` answers from memory."""
        return self._known(kid) is not None

    def _known(self, kid: str) -> _Entry | None:
        entry = self._entries.get(kid)
        if entry is None:
            return None
        fresh = KEY_UNKNOWN_S if entry.key is None else KEY_FRESH_S
        return entry if clock.monotonic() - entry.fetched < fresh else None

    def _ask(self, kid: str) -> _Entry:
        stale = self._entries.get(kid)
        now = clock.monotonic()
        try:
            if len(self._asked) == LOOKUPS_A_MINUTE and now - self._asked[0] < 60:
                raise KeyUnavailable("Too many unknown key ids arrive; Plaid is not asked for more of them now.")
            self._asked.append(now)
            entry = self._fetch(kid, now)
        except KeyUnavailable:
            if stale is None or stale.key is None:
                raise
            # A key once given is good until its own expiry, also while Plaid is away; who uses it meanwhile need
            # not wait for Plaid again.
            stale.fetched = clock.monotonic() - KEY_FRESH_S + KEY_UNKNOWN_S
            return stale
        self._entries[kid] = entry
        self._entries.move_to_end(kid)
        while len(self._entries) > KEYS_KEPT:
            # Ids that somebody invented must not push out the keys that Plaid signs with.
            oldest = next(iter(self._entries))
            del self._entries[next((known for known, kept in self._entries.items() if kept.key is None), oldest)]
        return entry

    def _fetch(self, kid: str, now: float) -> _Entry:
        from jwt import PyJWK
        from jwt.exceptions import PyJWTError

        try:
            found = self._lookup(kid)
        except PlaidError as error:
            # Our own request was fine, so "wrong field" and "not found" mean: no such key.
            if error.reaction is Reaction.OUR_BUG or error.plaid_code == NO_SUCH_KEY:
                return _Entry(None, now)
            raise KeyUnavailable("Plaid cannot be asked for the key of this signature now.") from error
        if found.kty != "EC" or found.crv != "P-256" or found.kid != kid:
            return _Entry(None, now)
        try:
            key = PyJWK({"kty": "EC", "crv": "P-256", "x": found.x, "y": found.y, "alg": "ES256"}).key
        except (PyJWTError, ValueError):
            return _Entry(None, now)
        return _Entry(key, now, found.expired_at)
