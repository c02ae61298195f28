"""Ten thousand webhooks that nobody should believe: none is, none does anything, and the receiver does not grow."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import psycopg
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.support.api import relay_signature
from tests.support.flood import api_process, send
from tests.support.scripted_plaid import ScriptedPlaid, error

COUNT = 10_000
KID = "plaid-key"
SECRET = "relay-secret"
OURS = ec.generate_private_key(ec.SECP256R1())
THEIRS = ec.generate_private_key(ec.SECP256R1())
BODY = json.dumps({"webhook_type": "TRANSACTIONS", "webhook_code": "SYNC_UPDATES_AVAILABLE", "item_id": "i"}).encode()
Forger = Callable[[int], bytes]


def claims(body: bytes = BODY, age_s: int = 0) -> dict[str, Any]:
    return {"iat": int(time.time()) - age_s, "request_body_sha256": hashlib.sha256(body).hexdigest()}


def request(
    token: str, body: bytes = BODY, *, kind: str = "application/json", header: str = "Plaid-Verification"
) -> bytes:
    head = (
        f"POST /api/webhooks/plaid HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n{header}: {token}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def signed(key: Any = OURS, *, alg: str = "ES256", kid: str = KID, body: bytes = BODY, age_s: int = 0) -> str:
    return jwt.encode(claims(body, age_s), key, algorithm=alg, headers={"kid": kid})


def public_as_secret() -> str:
    """HS256 with the public key for a secret, which a careless verifier believes."""
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": KID, "typ": "JWT"}).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=")
    jwk = json.dumps(ECAlgorithm.to_jwk(OURS.public_key())).encode()
    mac = hmac.new(jwk, head + b"." + body, hashlib.sha256).digest()
    return b".".join([head, body, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()


def forgers(replay: bytes) -> list[Forger]:
    """Each makes its n-th forgery."""
    stranger, for_another = signed(THEIRS), signed(body=b"{}")
    unsigned = jwt.encode(claims(), None, algorithm="none", headers={"kid": KID})  # type: ignore[arg-type]
    good = signed()
    return [
        lambda n: request(stranger),
        lambda n: request(for_another),
        lambda n: request(unsigned),
        lambda n: request(public_as_secret() if n < 3 else unsigned),
        lambda n: request(signed(age_s=301 + n)),
        lambda n: request(signed(age_s=-3600)),
        lambda n: request(signed(kid=f"invented-{n}")),
        lambda n: request(good[: random.randrange(len(good))]),
        lambda n: request(good + "A"),
        lambda n: request(good, BODY[: n % len(BODY)]),
        lambda n: request(good, BODY + b" " * 262_144),
        lambda n: request(good, kind="text/plain"),
        lambda n: request("x" * 5000),
        lambda n: request(relay_signature(BODY, "guess"), header="X-Syncdesk-Signature"),
        lambda n: request(relay_signature(BODY, SECRET, int(time.time()) - 301), header="X-Syncdesk-Signature"),
        lambda n: replay,
    ]


def test_ten_thousand_forgeries(database_url: str, redis_url: str, namespace: str, tmp_path: Path) -> None:
    plaid = ScriptedPlaid()
    jwk = json.loads(ECAlgorithm.to_jwk(OURS.public_key()))
    jwk |= {"alg": "ES256", "kid": KID, "use": "sig", "created_at": 1_700_000_000, "expired_at": None}

    def key(body: dict[str, Any]) -> Any:
        known = body["key_id"] == KID
        return {"key": jwk} if known else error("INVALID_WEBHOOK_VERIFICATION_KEY_ID", "INVALID_INPUT")

    plaid.handlers["/webhook_verification_key/get"] = key
    replay = request(relay_signature(BODY, SECRET), header="X-Syncdesk-Signature")
    try:
        with api_process(
            tmp_path,
            DATABASE_URL=database_url,
            REDIS_URL=redis_url,
            SYNCDESK_REDIS_NAMESPACE=namespace,
            SYNCDESK_PLAID_URL=plaid.url,
            PLAID_WEBHOOK_SECRET=SECRET,
            SYNCDESK_MASTER_KEY="A" * 43,
        ) as (port, process):
            first = asyncio.run(send(port, [(request(signed()), False), (replay, False)], 2))
            assert first.statuses == {200: 2}
            wanted = _inbox(database_url)
            makers = forgers(replay)
            sizes = []
            for part in range(5):
                numbers = range(part * COUNT // 5, (part + 1) * COUNT // 5)
                flood = [(makers[n % len(makers)](n), True) for n in numbers]
                answers = asyncio.run(send(port, flood, 1e9))
                assert answers.accepted_forged == 0, answers.statuses
                assert set(answers.statuses) <= {0, 400, 401, 413, 415, 429, 503}, answers.statuses
                sizes.append(process.memory_info().rss / 1e6)
            last = asyncio.run(send(port, [(request(signed(body=BODY + b"\n"), BODY + b"\n"), False)], 1))
            assert last.statuses == {200: 1}, "an honest one still comes through"
    finally:
        plaid.close()
    assert _inbox(database_url) == wanted + 1
    asked = [body for path, body in plaid.calls if path == "/webhook_verification_key/get"]
    assert len(asked) < 100, "invented keys are asked for so often only"
    # Pools and caches fill during the first part; from then on nothing may grow with the number of forgeries.
    assert sizes[-1] - sizes[0] < 16, sizes


def _inbox(url: str) -> int:
    """Webhooks that were believed and did something; what was not is kept in a bounded number."""
    with psycopg.connect(url) as connection:
        states = dict(connection.execute("select state, count(*) from syncdesk.inbox group by state").fetchall())
    assert states.pop("refused", 0) <= 300
    assert states.pop("duplicate", 0) <= 1000
    return sum(states.values())
