"""What the API stands on: the parts it is given, in their narrowest form.

The host builds a `Context` and hands it to `engine.api.server`; where the API runs alone
(``syncdeskctl api``), `engine.api.assemble` builds one with `Alone` in the host's place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from engine.api import types, types_banks
from engine.api.auth import Tokens
from engine.errors import Conflict
from engine.settings import Settings

Action = Literal["quiet", "resume", "restart", "stop", "start"]


class Store(Protocol):
    """`engine.store.Transport`: one SQL function a call."""

    def call(self, name: str, /, **params: Any) -> Any: ...

    def close(self) -> None: ...


class Hints(Protocol):
    """`engine.queue`: puts a hint for work that Postgres already knows of; returns the job's id."""

    def sync(
        self, item_id: str, user_id: str, institution: str | None, lane: str, trigger: str, correlation: str
    ) -> str: ...

    def put(
        self,
        queue: str,
        target: str,
        *,
        user_id: str | None,
        lane: str,
        trigger: str,
        correlation: str,
        institution: str | None = None,
        delay_ms: int = 0,
        again: bool = True,
        urgent: bool = False,
    ) -> str: ...

    def webhook(self, inbox_id: int, user_id: str | None, correlation: str) -> str: ...

    def notification(self, outbox_id: int, user_id: str | None, correlation: str) -> str: ...


class View(Protocol):
    """`engine.queue`: what is live in Redis."""

    def queues(self) -> list[dict[str, Any]]: ...

    def jobs(self, state: str, queue: str | None, after: str | None, limit: int) -> dict[str, Any]: ...

    def job(self, job_id: str) -> dict[str, Any] | None: ...

    def workers(self) -> list[dict[str, Any]]: ...

    def gate(self) -> str | None: ...

    def totals(self) -> dict[str, list[tuple[tuple[str, ...], int]]]: ...


class Control(Protocol):
    """`engine.queue`: what an operator may do to queues, jobs and workers."""

    def pause(self, queue: str) -> None: ...

    def resume(self, queue: str) -> None: ...

    def limit(self, queue: str, concurrency: int | None, per_minute: int | None) -> None: ...

    def weigh(self, weights: Mapping[str, int]) -> None: ...

    def cancel(self, job_id: str) -> bool: ...

    def run_now(self, job_id: str) -> bool: ...

    def command(self, target: str, command: str) -> None: ...


class Verifier(Protocol):
    """`engine.plaid.webhooks.Verifier`."""

    def at_once(self, headers: Mapping[str, str]) -> bool: ...

    def verify(self, headers: Mapping[str, str], body: bytes) -> Any: ...


class Events(Protocol):
    """`engine.queue.events`, bound to this install's Redis."""

    def publish(self, topic: str, identifier: str | None) -> None: ...

    def subscribe(self) -> Iterator[dict[str, Any]]:
        """Yield events until the iterator is closed; raise when the connection is lost."""


class DirectSync(Protocol):
    """Runs one item's sync in the caller's thread (``SYNCDESK_MANUAL_SYNC=direct``)."""

    def __call__(self, item_id: str, correlation: str) -> str:
        """Return how it ended, as a sentence."""


class Linking(Protocol):
    """`engine.sync.linking`, bound to its parts."""

    def link(self, public_token: str, user: str | None) -> str: ...

    def start(self, user: str | None, item_id: str | None) -> types_banks.LinkStart: ...

    def follow(self, session: str) -> types_banks.LinkState: ...

    def remove(self, item_id: str) -> None: ...


class Inbox(Protocol):
    """`engine.sync.inbox`, bound to its store."""

    def receive(self, verified: Any, body: bytes) -> Any: ...

    def refuse(self, reason: str, body: bytes) -> None: ...


class HostControl(Protocol):
    """What the supervising process lets an operator do. Calls may block for seconds; the API calls from a thread."""

    def status(self) -> types.Status:
        """State of the engine and of every supervised process, with their endpoints."""

    def parts(self, role: str, action: Literal["start", "stop", "restart"]) -> types.Done:
        """Start, stop or restart the processes of a role (``worker-sync``, ``worker-events``, ``scheduler``).

        Raises:
            NotFound: no such role is supervised here.
            Conflict: the role cannot do this now, with the reason as a sentence.
        """

    def shutdown(self) -> None:
        """Begin to end the whole engine and return at once."""


class Alone:
    """`HostControl` of an API process that nobody supervises: it knows itself only."""

    def __init__(self, profile: str, settings: Settings, version: str, started_at: str) -> None:
        self._profile, self._settings, self._version, self._started_at = profile, settings, version, started_at
        self.endpoints = types.Endpoints(public=None, admin=None, health=None)

    def status(self) -> types.Status:
        pid = os.getpid()
        engine = types.EngineInfo(
            state="running",
            version=self._version,
            profile=self._profile,
            pid=pid,
            started_at=self._started_at,
            environment=self._settings.plaid_env,
            plaid_url=self._settings.plaid_url,
        )
        process = types.ProcessInfo(role="api", pid=pid, state="running", started_at=self._started_at)
        return types.Status(engine=engine, processes=[process], endpoints=self.endpoints)

    def parts(self, role: str, action: Literal["start", "stop", "restart"]) -> types.Done:
        raise Conflict(f"This API does not supervise {role}: {action} it where it runs.", role=role)

    def shutdown(self) -> None:
        raise Conflict("This API does not supervise the engine: stop each part where it runs.")


@dataclass(kw_only=True)
class Context:
    """Everything the three apps need. ``version`` is Syncdesk's own.

    ``own_pid``: health speaks for this one worker process of this machine, not for the whole install.
    """

    settings: Settings
    profile: str
    version: str
    tokens: Tokens
    host: HostControl
    store: Store
    reader: Store
    hints: Hints
    quick_hints: Hints
    view: View
    control: Control
    events: Events
    verifier: Verifier
    inbox: Inbox
    linking: Linking
    direct_sync: DirectSync
    own_pid: int | None = None
