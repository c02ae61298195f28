"""The public listener: webhooks from Plaid, and the few doors for programs elsewhere.

It is the only one that is ever put behind a tunnel, so everything here expects a hostile
caller: bounded bodies, bounded time, constant-time checks, and no answer that tells more than
it must.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from engine.api import actions, types, types_banks, types_jobs, types_operation
from engine.api.context import Context
from engine.api.hinting import Hinter
from engine.api.missed import Missed
from engine.api.problems import NotConfigured, Unauthorised, WrongType, problem_response
from engine.api.rates import Rate
from engine.api.routing import Call, Route, is_json, json_response, read_body
from engine.api.threads import Threads
from engine.errors import StoreUnavailable, SyncdeskError
from engine.logs import logger

WEBHOOK_BYTES = 262_144
WEBHOOK_THREADS = 16
ASKING_THREADS = 2
ASKING_MOST = 32
ASKING_S = 9.0
"""Plaid waits ten seconds for an answer."""
WEBHOOKS_A_MINUTE = 60_000
"""About what a small machine verifies and stores; more would hold up all else that it does."""
GUESSES_A_MINUTE = 60
"""Calls of the cron endpoint, right or wrong: its secret may be one that a person chose."""
CALLS_A_MINUTE = 1_200
"""Calls with a token, of each route."""
REFUSALS_A_MINUTE = 60
"""Refused webhooks stored a minute; the rest is only counted, or a flood would fill the inbox."""

HEADERS = ("plaid-verification", "x-syncdesk-signature")


class Door:
    """The webhook receiver's threads. One for the process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._pool = Threads(WEBHOOK_THREADS, "webhook")
        # Webhooks whose key has to be asked for wait apart from the others: anybody can invent key ids, and a
        # Plaid that hangs would otherwise hold every thread.
        self._asking = Threads(ASKING_THREADS, "webhook-key")
        self._asked = 0
        self.hinter = Hinter()
        self._missed = Missed(self._store)
        self._refusals = Rate(REFUSALS_A_MINUTE)

    def close(self) -> None:
        """Give the last hints and end the threads."""
        self._missed.close()
        self.hinter.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._asking.shutdown(wait=False, cancel_futures=True)

    async def webhook(self, request: Request, context: Context) -> Response:
        """``POST /api/webhooks/plaid``: verified, in the inbox by one commit, answered; then the hint."""
        if not is_json(request):
            raise WrongType("A webhook's body is application/json.")
        body = await read_body(request, WEBHOOK_BYTES)
        headers = {name: request.headers[name] for name in HEADERS if name in request.headers}
        loop = asyncio.get_running_loop()
        if context.verifier.at_once(headers):
            return await loop.run_in_executor(self._pool, self._take, headers, body)
        if self._asked >= ASKING_MOST:
            return problem_response(503, "BUSY", "Too many webhooks wait for Plaid's keys; send it again later.")
        self._asked += 1
        try:
            asking = loop.run_in_executor(self._asking, self._take, headers, body)
            return await asyncio.wait_for(asking, ASKING_S)
        except TimeoutError:
            return problem_response(503, "WEBHOOK_KEY_UNAVAILABLE", "Plaid does not answer with its key in time.")
        finally:
            self._asked -= 1

    async def cron(self, request: Request, context: Context) -> Response:
        """``POST /api/cron/sync-transactions``: the backup sync, triggered from outside."""
        secret = context.settings.cron_secret
        if not secret:
            raise NotConfigured("CRON_SECRET is not set, so nobody can trigger the backup sync from outside.")
        given = request.headers.get("authorization", "").encode("utf-8", "replace")
        # Digests of equal length: the comparison tells nothing about the secret's.
        wanted = hashlib.sha256(b"Bearer " + secret.encode()).digest()
        if not hmac.compare_digest(hashlib.sha256(given).digest(), wanted):
            raise Unauthorised("The cron secret is wrong or missing.")
        loop = asyncio.get_running_loop()
        done = await loop.run_in_executor(self._pool, actions.sync_stale, context, "cron")
        return json_response(done)

    def _take(self, headers: Mapping[str, str], body: bytes) -> Response:
        from engine.plaid.webhooks import KeyUnavailable, Refused

        try:
            verified = self._context.verifier.verify(headers, body)
            received = self._store(verified, body)
        except Refused as error:
            self._refuse(error.reason, body)
            return problem_response(401, "WEBHOOK_REFUSED", "The webhook's signature was refused.")
        except KeyUnavailable as error:
            # Plaid tries again after 30 s; we would rather look twice than let one in unseen.
            return problem_response(503, error.code, error.message)
        except StoreUnavailable:
            self._missed.keep(verified, body)
            raise
        return json_response(types.Done(message="received", ids=[str(received.inbox_id)]))

    def _store(self, verified: Any, body: bytes) -> Any:
        received = self._context.inbox.receive(verified, body)
        # Another thread says it to Redis, so neither the answer nor the next webhook waits.
        actions.hint_received(self._context.quick_hints, self.hinter, received)
        return received

    def _refuse(self, reason: str, body: bytes) -> None:
        if not self._refusals.take():
            return
        try:
            self._context.inbox.refuse(reason, body)
        except SyncdeskError as error:
            logger("webhook").warning("A refused webhook was not stored", code=error.code)


def cron_health(call: Call) -> types_operation.Alive:
    """``GET /api/cron/sync-transactions``: tells nothing but ok."""
    return types_operation.Alive(ok=True)


def manual_sync(call: Call) -> types.Done:
    """``POST /api/plaid/sync-transactions``: one item or all, through the queue or directly."""
    return actions.sync(call, call.body)


def queue_status(call: Call) -> types_jobs.Queues:
    """``GET /api/queue/status``."""
    from engine.api import views

    return types_jobs.Queues(queues=views.queues(call.context))


def openapi(door: Door) -> Any:
    """The handler of this listener's own OpenAPI document."""
    from engine.api import openapi as document

    def handler(call: Call) -> dict[str, Any]:
        return document.build("Syncdesk, public listener", call.context.version, routes(door))

    return handler


def routes(door: Door) -> list[Route]:
    """The public listener's table."""
    return [
        Route(
            method="POST",
            path="/api/webhooks/plaid",
            summary="Receive a webhook of Plaid, or of a relay that signs with PLAID_WEBHOOK_SECRET.",
            raw=door.webhook,
            token=None,
            secret="signature",  # noqa: S106 - names the scheme
            answer=types.Done,
            body=dict[str, Any],
            errors=(401, 408, 413, 415, 503),
            limit=WEBHOOK_BYTES,
            per_minute=WEBHOOKS_A_MINUTE,
        ),
        Route(
            method="GET",
            path="/api/cron/sync-transactions",
            summary="Health check of the cron endpoint.",
            handler=cron_health,
            token=None,
            answer=types_operation.Alive,
            per_minute=WEBHOOKS_A_MINUTE,
        ),
        Route(
            method="POST",
            path="/api/cron/sync-transactions",
            summary="Trigger the backup sync.",
            raw=door.cron,
            token=None,
            secret="cron",  # noqa: S106 - names the scheme
            answer=types.Done,
            errors=(401, 503),
            per_minute=GUESSES_A_MINUTE,
        ),
        Route(
            method="POST",
            path="/api/plaid/sync-transactions",
            summary="Sync one item or all of them now.",
            handler=manual_sync,
            token="operate",  # noqa: S106
            body=types_banks.SyncRequest,
            answer=types.Done,
            errors=(404, 409, 503),
            per_minute=CALLS_A_MINUTE,
        ),
        Route(
            method="GET",
            path="/api/queue/status",
            summary="State of the queues.",
            handler=queue_status,
            answer=types_jobs.Queues,
            errors=(503,),
            per_minute=CALLS_A_MINUTE,
        ),
        Route(
            method="GET",
            path="/api/openapi.json",
            summary="This document.",
            handler=openapi(door),
            token=None,
            answer=dict[str, Any],
            per_minute=CALLS_A_MINUTE,
        ),
    ]
