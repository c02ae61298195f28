"""What a sync needs from the rest of the engine, in its narrowest form; pure of queue and web server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.errors import KeyAway, SettingsError
from engine.plaid.client import PlaidClient
from engine.plaid.errors import InstallTrouble
from engine.plaid.table import MASTER_KEY
from engine.settings import Settings
from engine.sync.leases import LeaseKeeper


class Store(Protocol):
    """`engine.store.Transport`: one SQL function a call."""

    def call(self, name: str, /, **params: Any) -> Any: ...


class Sealer(Protocol):
    """`engine.secrets`: access tokens at rest, each bound to its item's id."""

    def seal(self, plaintext: str, bound_to: str) -> tuple[str, str]:
        """The sealed text and the id of the key that sealed it."""

    def unseal(self, text: str, key_id: str, bound_to: str) -> str: ...


class Limiter(Protocol):
    """Token buckets that hold over the whole install (`engine.queue.buckets`, bound to its Redis)."""

    def __call__(self, name: str, per_minute: float) -> float:
        """Take one call from the bucket: 0.0, or the seconds after which to ask again."""


class Slow(Protocol):
    """`engine.queue.buckets.slow_down`, bound to its Redis."""

    def __call__(self, name: str, per_minute: float, seconds: float) -> None: ...


class Hints(Protocol):
    """`engine.queue.hints.Hints`."""

    def sync(
        self, item_id: str, user_id: str, institution: str | None, lane: str, trigger: str, correlation: str
    ) -> str: ...

    def notification(self, outbox_id: int, user_id: str | None, correlation: str) -> str: ...


class Publish(Protocol):
    """`engine.queue.events.publish`, bound to its Redis."""

    def __call__(self, topic: str, identifier: str | None = None) -> None: ...


@dataclass(kw_only=True)
class Deps:
    """One for a process, shared by its threads. ``owner`` names the process in lease rows.

    Without Redis (a direct run from the API) ``limiter``, ``slow``, ``hints`` and ``publish`` are None: the
    reconciler finds what was not hinted.
    """

    store: Store
    plaid: PlaidClient
    secrets: Sealer
    settings: Settings
    owner: str
    limiter: Limiter | None = None
    slow: Slow | None = None
    hints: Hints | None = None
    publish: Publish | None = None
    leases: LeaseKeeper = field(init=False)

    def __post_init__(self) -> None:
        self.leases = LeaseKeeper(self.store, self.settings.lease_s)

    def token(self, item: Mapping[str, Any], item_id: str) -> str:
        """The access token of an item as the store gave it (``sync_claim``, ``item_token``).

        Raises:
            SettingsError: it belongs to another of Plaid's environments than this profile's keys.
            InstallTrouble: the master key is not the one that sealed it, or cannot be had. No item's fault.
            SecretError: it cannot be opened although the key is there.
        """
        if item["environment"] != self.settings.plaid_env:
            raise SettingsError(
                f"This bank was linked in Plaid's environment {item['environment']}, and PLAID_ENV is now "
                f"{self.settings.plaid_env}; keep a profile for each.",
                setting="plaid_env",
            )
        try:
            return self.secrets.unseal(item["access_token"], item["access_key_id"], item_id)
        except KeyAway as error:
            raise InstallTrouble(error.message, plaid_code=MASTER_KEY) from error
