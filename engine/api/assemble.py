"""Puts the API's parts together from the settings: for the host, and for an API that runs alone."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.api import types_banks
from engine.api.auth import Tokens
from engine.api.context import Context, HostControl
from engine.errors import StartError
from engine.jobs.bulk import BulkDriver
from engine.profile import Profile
from engine.queue import buckets, events, totals
from engine.queue.connection import connect
from engine.queue.control import Control
from engine.queue.hints import Hints
from engine.queue.keys import Keys
from engine.queue.limits import from_settings
from engine.queue.reconciler import Reconciler
from engine.queue.view import View
from engine.settings import Settings
from engine.store import open_store

if TYPE_CHECKING:
    import redis

    from engine.plaid.webhooks import Verified, Verifier
    from engine.store import Transport
    from engine.sync.deps import Deps
    from engine.sync.inbox import Received


@dataclass(frozen=True)
class Bus:
    """`engine.queue.events`, bound to one Redis."""

    client: redis.Redis
    keys: Keys

    def publish(self, topic: str, identifier: str | None = None) -> None:
        events.publish(self.client, self.keys, topic, identifier)

    def subscribe(self) -> Iterator[dict[str, Any]]:
        """Events, with an empty one each half second without any, so that the reader can end."""
        return events.subscribe(self.client, self.keys, idle_s=0.5, ticks=True)


class Bank:
    """Linking, direct syncs, the inbox and signatures: what needs Plaid or the master key, made on first use."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._deps: Deps | None = None
        self._verifier: Verifier | None = None

    @property
    def deps(self) -> Deps:
        with self._lock:
            if self._deps is None:
                self._deps = self._build()
            return self._deps

    def _build(self) -> Deps:
        from engine.plaid.client import PlaidClient
        from engine.secrets import Secrets
        from engine.sync.deps import Deps

        parts = self._parts
        return Deps(
            store=parts.store,
            plaid=PlaidClient(parts.settings, totals.plaid_calls(parts.client, parts.keys)),
            secrets=Secrets(parts.profile, parts.settings),
            settings=parts.settings,
            owner=parts.owner,
            limiter=lambda name, per_minute: buckets.take(parts.client, parts.keys, name, per_minute),
            slow=lambda name, per_minute, seconds: buckets.slow_down(
                parts.client, parts.keys, name, per_minute, seconds
            ),
            hints=parts.hints,
            publish=parts.publish,
        )

    # -- Verifier

    @property
    def verifier(self) -> Verifier:
        if self._verifier is None:
            from engine.plaid.webhooks import Verifier

            deps = self.deps
            with self._lock:
                if self._verifier is None:
                    self._verifier = Verifier(deps.plaid.verification_key, deps.settings.plaid_webhook_secret)
        return self._verifier

    def at_once(self, headers: Mapping[str, str]) -> bool:
        return self.verifier.at_once(headers)

    def verify(self, headers: Mapping[str, str], body: bytes) -> Verified:
        return self.verifier.verify(headers, body)

    # -- Inbox

    def receive(self, verified: Verified, body: bytes) -> Received:
        from engine.sync import inbox

        return inbox.receive(self._parts.store, verified, body)

    def refuse(self, reason: str, body: bytes) -> None:
        from engine.sync import inbox

        inbox.refuse(self._parts.store, reason, body)

    # -- Linking

    def link(self, public_token: str, user: str | None) -> str:
        from engine.sync import linking

        return linking.link(self.deps, public_token, user)

    def start(self, user: str | None, item_id: str | None) -> types_banks.LinkStart:
        from engine.sync import linking

        return linking.start(self.deps, user, item_id)

    def follow(self, session: str) -> types_banks.LinkState:
        from engine.sync import linking

        return linking.follow(self.deps, session)

    def remove(self, item_id: str) -> None:
        from engine.sync import linking

        linking.remove(self.deps, item_id)

    # -- DirectSync

    def __call__(self, item_id: str, correlation: str) -> str:
        from engine.sync.run import run_item

        job_id = f"direct-{uuid.uuid4()}"
        result = run_item(self.deps, item_id, job_id=job_id, trigger="manual", correlation=correlation)
        if result.wanted_more and result.user_id is not None:
            self._parts.quick_hints.sync(
                item_id, result.user_id, result.institution, result.lane, "manual", correlation
            )
        if result.state == "done":
            news = result.added + result.modified + result.removed
            return f"Synced: {result.added} new of {news} changes." if news else "Synced: nothing new."
        return _ENDS.get(result.state, "The sync ended without a result.")


_ENDS = {
    "not_ready": "The bank has no data yet; it comes by itself.",
    "nothing": "There was nothing to do.",
    "busy": "This bank is being synced already.",
    "paused": "This bank is paused.",
    "removed": "This bank link was removed.",
    "install_paused": "Plaid refuses this install's keys or plan; nothing was synced.",
    "stale": "Another sync of this bank took over.",
    "waiting": "Plaid's limits allow the next call in a moment; the sync goes on by itself then.",
}


class Parts:
    """Connections and what stands on them. Nothing connects before its first use.

    Raises:
        StartError: it is not told where the broker is.
        StoreUnavailable: nor where the database is.
    """

    def __init__(self, settings: Settings, profile: Profile, owner: str) -> None:
        if not settings.redis_url:
            raise StartError("The API needs the broker's address: set REDIS_URL, or start the engine.")
        self.settings, self.profile, self.owner = settings, profile, owner
        self.keys = Keys(settings.redis_namespace)
        self.client = connect(settings.redis_url, "api", settings.redis_ca_file)
        self._quick = connect(settings.redis_url, "hint", settings.redis_ca_file)
        self._patient = connect(settings.redis_url, "worker", settings.redis_ca_file)
        self.store: Transport = open_store(settings)
        self.reader: Transport = _reader(settings, self.store)
        self.hints = Hints(self.client, self.keys)
        self.quick_hints = Hints(self._quick, self.keys)
        self.view = View(self.client, self.keys, settings.max_attempts)
        self.control = Control(self.client, self.keys, self.store)
        self.bus = Bus(self._patient, self.keys)
        self.bulk = BulkDriver(self.store, self.hints, self.control, self.publish, f"{owner}/{uuid.uuid4()}")
        self.reconciler = Reconciler(self.store, self._patient, self.keys, from_settings(settings))

    def publish(self, topic: str, identifier: str | None = None) -> None:
        """Tell consoles that something changed.

        Raises:
            BrokerUnavailable: Redis does not answer.
        """
        events.publish(self._quick, self.keys, topic, identifier)

    def context(self, version: str, tokens: Tokens, host: HostControl) -> Context:
        """What the listeners are built from."""
        bank = Bank(self)
        return Context(
            settings=self.settings,
            profile=self.profile.name,
            version=version,
            tokens=tokens,
            host=host,
            store=self.store,
            reader=self.reader,
            hints=self.hints,
            quick_hints=self.quick_hints,
            view=self.view,
            control=self.control,
            events=self.bus,
            verifier=bank,
            inbox=bank,
            linking=bank,
            direct_sync=bank,
        )

    def close(self) -> None:
        """Give up all connections."""
        if self.reader is not self.store:
            self.reader.close()
        self.store.close()
        for client in (self.client, self._quick, self._patient):
            client.close()


def _reader(settings: Settings, store: Transport) -> Transport:
    """The read replica for lists, where one is named."""
    if not settings.database_read_url:
        return store
    from engine.store.direct import Direct

    return Direct(settings.database_read_url, size=settings.database_pool, timeout_s=settings.database_timeout_s)


def parts(settings: Settings, profile: Profile, owner: str) -> Parts:
    """The parts of this process; ``owner`` names it in lease rows."""
    return Parts(settings, profile, owner)
