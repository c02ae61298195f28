"""Who is believed: Plaid's JWT and a relay's HMAC, over the raw bytes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from engine import clock
from engine.plaid.errors import PlaidUnreachable, plaid_error
from engine.plaid.types import VerificationKey
from engine.plaid.webhooks import KEY_FRESH_S, KEYS_KEPT, LOOKUPS_A_MINUTE, KeyUnavailable, Refused, Verifier

BODY = b'{"webhook_type": "TRANSACTIONS",\n "webhook_code": "SYNC_UPDATES_AVAILABLE"}'
KEY = ec.generate_private_key(ec.SECP256R1())


def now() -> int:
    return int(clock.now().timestamp())


def jwk(kid: str = "k1", key: ec.EllipticCurvePrivateKey = KEY, **fields: Any) -> VerificationKey:
    numbers = key.public_key().public_numbers()

    def text(number: int) -> str:
        return base64.urlsafe_b64encode(number.to_bytes(32, "big")).decode().rstrip("=")

    return VerificationKey(kid=kid, x=text(numbers.x), y=text(numbers.y), **fields)


def sign(body: bytes = BODY, *, kid: str = "k1", key: Any = KEY, alg: str = "ES256", **claims: Any) -> dict[str, str]:
    full = {"iat": now(), "request_body_sha256": hashlib.sha256(body).hexdigest(), **claims}
    full = {name: value for name, value in full.items() if value is not None}
    return {"plaid-verification": jwt.encode(full, key, algorithm=alg, headers={"kid": kid})}


def verifier(*keys: VerificationKey, secret: str | None = None) -> Verifier:
    known = {key.kid: key for key in keys or (jwk(),)}

    def lookup(kid: str) -> VerificationKey:
        if kid not in known:
            raise plaid_error("INVALID_FIELD", "INVALID_REQUEST", http_status=400)
        return known[kid]

    return Verifier(lookup, secret)


def test_a_signed_body_is_believed_and_has_an_identity() -> None:
    headers = sign()
    verified = verifier().verify(headers, BODY)
    assert verified.by == "jwt"
    assert verified.body_sha256 == hashlib.sha256(BODY).hexdigest()
    assert verifier().verify(headers, BODY).signature_id == verified.signature_id
    assert verifier().verify(sign(iat=now() - 10), BODY).signature_id != verified.signature_id


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (lambda: {}, "no signature"),
        (lambda: {"plaid-verification": "nonsense"}, "no JWT"),
        (lambda: {"plaid-verification": "x" * 5000}, "too long"),
        (lambda: sign(iat=now() - 301), "older than five minutes"),
        (lambda: sign(iat=now() + 120), "future"),
        (lambda: sign(iat=None), "no time"),
        (lambda: sign(iat="now"), "no time"),
        (lambda: sign(iat=True), "no time"),
        (lambda: sign(iat=float("nan")), "no time"),
        (lambda: sign(iat=float("-inf")), "no time"),
        (lambda: sign(iat=10**400), "no time"),
        (lambda: sign(body=BODY.replace(b"\n", b"")), "another body"),
        (lambda: sign(request_body_sha256=None), "another body"),
        (lambda: sign(key=ec.generate_private_key(ec.SECP256R1())), "wrong signature"),
        (lambda: sign(key="secret" * 10, alg="HS256"), "another algorithm"),
        (lambda: sign(key=ec.generate_private_key(ec.SECP384R1()), alg="ES384"), "another algorithm"),
        (lambda: sign(kid="../../etc"), "no key id"),
        (lambda: sign(kid="unknown"), "does not know"),
    ],
)
def test_all_else_is_refused(headers: Callable[[], dict[str, str]], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        verifier().verify(headers(), BODY)


def test_no_algorithm_is_refused() -> None:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": "k1"}).encode()).decode().rstrip("=")
    claims = {"iat": now(), "request_body_sha256": hashlib.sha256(BODY).hexdigest()}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    with pytest.raises(Refused):
        verifier().verify({"plaid-verification": f"{head}.{body}."}, BODY)


def test_an_expired_key_is_refused() -> None:
    with pytest.raises(Refused, match="expired key"):
        verifier(jwk(expired_at=now() - 1)).verify(sign(), BODY)
    assert verifier(jwk(expired_at=now() + 60)).verify(sign(), BODY).by == "jwt"


@pytest.mark.parametrize("code", ["INVALID_FIELD", "INVALID_WEBHOOK_VERIFICATION_KEY_ID"])
def test_keys_are_asked_for_once_and_unknown_ones_too(code: str) -> None:
    asked: list[str] = []

    def lookup(kid: str) -> VerificationKey:
        asked.append(kid)
        if kid != "k1":
            raise plaid_error(code, http_status=400)
        return jwk()

    checks = Verifier(lookup)
    for _ in range(3):
        checks.verify(sign(), BODY)
        with pytest.raises(Refused):
            checks.verify(sign(kid="made-up"), BODY)
    assert asked == ["k1", "made-up"]


def test_invented_key_ids_do_not_make_us_ask_plaid_for_ever() -> None:
    asked: list[str] = []

    def lookup(kid: str) -> VerificationKey:
        asked.append(kid)
        raise plaid_error("INVALID_FIELD", "INVALID_REQUEST", http_status=400)

    checks = Verifier(lookup)
    outcomes = []
    for number in range(LOOKUPS_A_MINUTE * 3):
        try:
            checks.verify(sign(kid=f"kid-{number}"), BODY)
        except (Refused, KeyUnavailable) as error:
            outcomes.append(type(error))
    assert len(asked) == LOOKUPS_A_MINUTE
    assert outcomes.count(KeyUnavailable) == LOOKUPS_A_MINUTE * 2
    assert LOOKUPS_A_MINUTE <= KEYS_KEPT


def test_invented_key_ids_push_out_no_key_of_plaids(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def lookup(kid: str) -> VerificationKey:
        asked.append(kid)
        if kid != "k1":
            raise plaid_error("INVALID_FIELD", "INVALID_REQUEST", http_status=400)
        return jwk()

    checks = Verifier(lookup)
    checks.verify(sign(), BODY)
    begun = clock.monotonic()
    for number in range(KEYS_KEPT * 2):
        monkeypatch.setattr(clock, "monotonic", lambda minutes=number: begun + 5 * minutes)
        with pytest.raises(Refused):
            checks.verify(sign(kid=f"kid-{number}"), BODY)
    assert len(asked) == 1 + KEYS_KEPT * 2
    assert checks.at_once(sign()), "the key is still there"
    assert checks.verify(sign(), BODY).by == "jwt"


def test_plaid_away_is_not_a_refusal() -> None:
    def lookup(kid: str) -> VerificationKey:
        raise PlaidUnreachable("Plaid did not answer.", plaid_code="UNREACHABLE")

    with pytest.raises(KeyUnavailable):
        Verifier(lookup).verify(sign(), BODY)


def test_a_known_key_serves_on_while_plaid_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def lookup(kid: str) -> VerificationKey:
        asked.append(kid)
        if len(asked) > 1:
            raise PlaidUnreachable("Plaid did not answer.", plaid_code="UNREACHABLE")
        return jwk()

    checks = Verifier(lookup)
    checks.verify(sign(), BODY)
    later = clock.monotonic() + KEY_FRESH_S + 1
    monkeypatch.setattr(clock, "monotonic", lambda: later)
    assert not checks.at_once(sign())
    for _ in range(3):
        checks.verify(sign(), BODY)
        assert checks.at_once(sign())
    assert asked == ["k1", "k1"]


def relay(body: bytes = BODY, secret: str = "s3cret", moment: int | None = None) -> dict[str, str]:
    at = now() if moment is None else moment
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {"x-syncdesk-signature": f"t={at},v1={digest}"}


def test_a_relay_is_believed_only_with_the_secret() -> None:
    assert verifier(secret="s3cret").verify(relay(), BODY).by == "hmac"
    with pytest.raises(Refused, match="no signature"):
        verifier().verify(relay(), BODY)


@pytest.mark.parametrize(
    "headers",
    [
        lambda: relay(secret="other"),
        lambda: relay(body=b"{}"),
        lambda: relay(moment=now() - 400),
        lambda: relay(moment=now() + 400),
        lambda: {"x-syncdesk-signature": "t=1,v1=zz"},
        lambda: {"x-syncdesk-signature": ""},
        lambda: {"x-syncdesk-signature": relay()["x-syncdesk-signature"].replace("v1=", "v0=")},
    ],
)
def test_wrong_relay_signatures(headers: Callable[[], dict[str, str]]) -> None:
    with pytest.raises(Refused):
        verifier(secret="s3cret").verify(headers(), BODY)


def test_a_bad_jwt_is_not_saved_by_a_good_relay_signature() -> None:
    with pytest.raises(Refused):
        verifier(secret="s3cret").verify({**relay(), "plaid-verification": "forged"}, BODY)
