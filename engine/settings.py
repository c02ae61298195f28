"""Every setting of Syncdesk, declared once: name, type, default, meaning.

A value comes from the environment, else from ``settings.toml`` of the profile, else from
the default. Secrets come from the environment or the keyring (`engine.secrets`), never from
the file.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.errors import SettingsError

Environment = Literal["simulated", "sandbox", "production"]


def _setting(
    default: Any, env: str, meaning: str, *, secret: bool = False, low: float | None = None, high: float | None = None
) -> Any:
    """Declare one setting; ``low`` and ``high`` bound numbers, inclusive."""
    return field(
        default=default,
        repr=not secret,
        metadata={"env": env, "meaning": meaning, "secret": secret, "low": low, "high": high},
    )


SANDBOX_CLIENT_LIMIT = 1_000
"""Calls of /transactions/sync a minute that Plaid's sandbox takes from a client (Plaid's page of rate limits)."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings in force. ``origin`` tells for each name whether environment or file set it."""

    # Services
    redis_url: str | None = _setting(None, "REDIS_URL", "Broker; none: the embedded one", secret=True)
    redis_ca_file: str | None = _setting(
        None, "SYNCDESK_REDIS_CA_FILE", "Authority of the broker's certificate, PEM file; none: the system's"
    )
    redis_namespace: str = _setting("syncdesk", "SYNCDESK_REDIS_NAMESPACE", "First part of every key in Redis")
    database_url: str | None = _setting(None, "DATABASE_URL", "Postgres; none: the embedded one", secret=True)
    database_read_url: str | None = _setting(None, "DATABASE_READ_URL", "Read replica for lists", secret=True)
    supabase_url: str | None = _setting(None, "SUPABASE_URL", "Supabase project, for the REST transport")
    supabase_service_role_key: str | None = _setting(
        None, "SUPABASE_SERVICE_ROLE_KEY", "Supabase service role key", secret=True
    )
    database_pool: int = _setting(10, "SYNCDESK_DATABASE_POOL", "Connections a process may hold", low=1, high=200)
    database_timeout_s: float = _setting(
        15.0, "SYNCDESK_DATABASE_TIMEOUT_S", "Longest database statement, seconds", low=0.1, high=600
    )
    postgres_home: str | None = _setting(
        None, "SYNCDESK_POSTGRES_HOME", "Folder of other Postgres programs for the embedded database"
    )
    valkey_server: str | None = _setting(None, "SYNCDESK_VALKEY_SERVER", "Another program for the embedded broker")
    # Plaid
    plaid_client_id: str | None = _setting(None, "PLAID_CLIENT_ID", "Plaid client id", secret=True)
    plaid_secret: str | None = _setting(None, "PLAID_SECRET", "Plaid secret of the environment", secret=True)
    plaid_env: Environment = _setting("simulated", "PLAID_ENV", "Plaid environment; simulated: the sandbox bank")
    plaid_url: str | None = _setting(None, "SYNCDESK_PLAID_URL", "Another Plaid host (a sandbox bank)")
    plaid_item_limit: int = _setting(
        50, "SYNCDESK_PLAID_ITEM_LIMIT", "/transactions/sync calls a minute per item", low=1, high=1_000_000
    )
    plaid_client_limit: int = _setting(
        2500,
        "SYNCDESK_PLAID_CLIENT_LIMIT",
        "/transactions/sync calls a minute per client (1,000 in Plaid's sandbox)",
        low=1,
        high=100_000_000,
    )
    plaid_webhook_secret: str | None = _setting(
        None, "PLAID_WEBHOOK_SECRET", "HMAC secret of webhook relays", secret=True
    )
    webhook_url: str | None = _setting(None, "SYNCDESK_WEBHOOK_URL", "Address of our webhook receiver given to Plaid")
    # Listeners
    api_port: int | None = _setting(
        None, "API_PORT", "Public listener (3000 on the default profile)", low=0, high=65535
    )
    worker_health_port: int | None = _setting(
        None, "WORKER_HEALTH_PORT", "Health listener (3003 on the default profile)", low=0, high=65535
    )
    api_bind: str = _setting("127.0.0.1", "SYNCDESK_API_BIND", "Address of the public listener")
    health_bind: str = _setting("127.0.0.1", "SYNCDESK_HEALTH_BIND", "Address of the health listener")
    admin_port: int = _setting(0, "SYNCDESK_ADMIN_PORT", "Admin listener; 0: a free port", low=0, high=65535)
    admin_bind: str = _setting("127.0.0.1", "SYNCDESK_ADMIN_BIND", "Address of the admin listener")
    admin_hosts: str = _setting("", "SYNCDESK_ADMIN_HOSTS", "Further Host names it answers to, comma separated")
    admin_tls_cert: str | None = _setting(
        None, "SYNCDESK_ADMIN_TLS_CERT", "Certificate chain of the admin listener, PEM file"
    )
    admin_tls_key: str | None = _setting(None, "SYNCDESK_ADMIN_TLS_KEY", "Private key of that certificate, PEM file")
    admin_token: str | None = _setting(
        None, "SYNCDESK_TOKEN", "Admin token of the API; none: a new one at each start", secret=True
    )
    cron_secret: str | None = _setting(None, "CRON_SECRET", "Bearer secret of the cron endpoint", secret=True)
    # Sync and queues
    manual_sync: Literal["queue", "direct"] = _setting(
        "queue", "SYNCDESK_MANUAL_SYNC", "Manual sync through the queue or directly"
    )
    sync_concurrency: int = _setting(5, "SYNCDESK_SYNC_CONCURRENCY", "Syncs at a time, whole install", low=1, high=200)
    sync_distance_s: float = _setting(
        2.0, "SYNCDESK_SYNC_DISTANCE_S", "Least time between further syncs of one bank, seconds", low=0, high=3600
    )
    partition: Literal["none", "user", "institution"] = _setting(
        "none", "SYNCDESK_PARTITION", "Whose jobs take at most 60% of a queue's concurrency while others wait"
    )
    webhook_concurrency: int = _setting(
        10, "SYNCDESK_WEBHOOK_CONCURRENCY", "Webhooks at a time, whole install", low=1, high=200
    )
    notification_concurrency: int = _setting(
        2, "SYNCDESK_NOTIFICATION_CONCURRENCY", "Notifications at a time, whole install", low=1, high=200
    )
    sync_per_minute: int = _setting(
        0,
        "SYNCDESK_SYNC_PER_MINUTE",
        "Syncs started a minute, whole install; 0: as Plaid allows",
        low=0,
        high=1_000_000,
    )
    webhook_per_minute: int = _setting(
        0, "SYNCDESK_WEBHOOK_PER_MINUTE", "Webhooks started a minute, whole install; 0: any", low=0, high=1_000_000
    )
    notification_per_minute: int = _setting(
        0, "SYNCDESK_NOTIFICATION_PER_MINUTE", "Notices started a minute, whole install; 0: any", low=0, high=1_000_000
    )
    sync_threads: int = _setting(5, "SYNCDESK_SYNC_THREADS", "Threads of one sync worker process", low=1, high=64)
    event_threads: int = _setting(10, "SYNCDESK_EVENT_THREADS", "Threads of one event worker process", low=1, high=64)
    max_attempts: int = _setting(4, "SYNCDESK_MAX_ATTEMPTS", "Attempts of a job, the first included", low=1, high=20)
    backoff_first_s: float = _setting(
        15.0, "SYNCDESK_BACKOFF_FIRST_S", "Wait before the second attempt", low=0, high=3600
    )
    backoff_factor: float = _setting(
        4.0, "SYNCDESK_BACKOFF_FACTOR", "Each further wait is so many times longer", low=1, high=10
    )
    backoff_jitter: float = _setting(0.2, "SYNCDESK_BACKOFF_JITTER", "Share by which a wait varies", low=0, high=1)
    keep_failed: int = _setting(50, "SYNCDESK_KEEP_FAILED", "Failed jobs kept a queue", low=1, high=1_000_000)
    keep_done: int = _setting(10, "SYNCDESK_KEEP_DONE", "Completed jobs kept a queue", low=0, high=100_000)
    bulk_hold_s: float = _setting(
        10.0, "SYNCDESK_BULK_HOLD_S", "Time in which a bulk action can be undone, seconds", low=0, high=3600
    )
    bulk_per_second: int = _setting(
        20, "SYNCDESK_BULK_PER_SECOND", "Jobs of a queue that bulk retries release a second", low=1, high=1000
    )
    lease_s: float = _setting(8.0, "SYNCDESK_LEASE_S", "A job's lease, renewed every quarter of it", low=1, high=300)
    stuck_s: float = _setting(
        120.0, "SYNCDESK_STUCK_S", "A running job without a step for so long is shown as stuck", low=1, high=86400
    )
    backup_every_s: int = _setting(900, "SYNCDESK_BACKUP_EVERY_S", "Backup sync interval", low=2, high=86400)
    matching: Literal["rules", "simple"] = _setting(
        "rules", "SYNCDESK_MATCHING", "How payments are matched to bills; simple: amount, and name or category"
    )
    worker_memory_mb: int = _setting(256, "SYNCDESK_WORKER_MEMORY_MB", "Memory limit of a worker", low=96, high=65536)
    log_format: Literal["auto", "json", "text"] = _setting(
        "auto", "SYNCDESK_LOG_FORMAT", "Form of log lines; auto: JSON in files, text on a terminal"
    )
    # Keys
    master_key: str | None = _setting(None, "SYNCDESK_MASTER_KEY", "Master key for access tokens", secret=True)
    master_key_file: str | None = _setting(None, "SYNCDESK_MASTER_KEY_FILE", "File that holds the master key")

    origin: Mapping[str, Literal["environment", "file", "keyring"]] = field(
        default_factory=dict, repr=False, compare=False
    )


def declared() -> dict[str, dataclasses.Field[Any]]:
    """The settings by name, as declared (``field.metadata`` has env, meaning, secret, low, high)."""
    return {f.name: f for f in dataclasses.fields(Settings) if f.name != "origin"}


def load(file: Path | None, environ: Mapping[str, str], kept: Mapping[str, str] | None = None) -> Settings:
    """Read the settings: environment over file over ``kept`` (secrets from the keyring) over defaults.

    Raises:
        SettingsError: unreadable file, unknown name, a secret in the file, or a value out of range.
    """
    values: dict[str, Any] = {}
    origin: dict[str, Literal["environment", "file", "keyring"]] = {}
    names = declared()
    for name, value in (kept or {}).items():
        values[name], origin[name] = value, "keyring"
    for name, value in _read_file(file).items():
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{file} has an unknown setting {name!r}.{hint}", setting=name)
        if names[name].metadata["secret"]:
            raise SettingsError(f"{file} holds the secret {name!r}; keep it in the keyring instead.", setting=name)
        values[name], origin[name] = _check(names[name], value, str(file)), "file"
    for name, spec in names.items():
        raw = environ.get(spec.metadata["env"])
        if raw is not None and raw != "":
            values[name] = _check(spec, _from_text(spec, raw), spec.metadata["env"])
            origin[name] = "environment"
    if values.get("plaid_env") == "sandbox":
        values.setdefault("plaid_client_limit", SANDBOX_CLIENT_LIMIT)
    return Settings(**values, origin=origin)


def _read_file(file: Path | None) -> dict[str, Any]:
    if file is None or not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"The settings file {file} cannot be read: {error}") from error


def _kind(spec: dataclasses.Field[Any]) -> tuple[type, tuple[Any, ...]]:
    """The plain type of a setting, and its allowed values where it is a choice."""
    hint = typing.get_type_hints(Settings)[spec.name]
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is Literal:
        return str, typing.get_args(hint)
    return hint, ()


def _from_text(spec: dataclasses.Field[Any], raw: str) -> Any:
    kind, _ = _kind(spec)
    try:
        return kind(raw.strip())
    except ValueError as error:
        raise SettingsError(
            f"{spec.metadata['env']} must be a {kind.__name__} ({spec.metadata['meaning']}).", setting=spec.name
        ) from error


def _check(spec: dataclasses.Field[Any], value: Any, where: str) -> Any:
    kind, choices = _kind(spec)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise SettingsError(f"{where}: {spec.name} must be a {kind.__name__}.", setting=spec.name)
    if choices and value not in choices:
        raise SettingsError(f"{where}: {spec.name} must be one of {', '.join(choices)}.", setting=spec.name)
    low, high = spec.metadata["low"], spec.metadata["high"]
    if low is not None and not low <= value <= high:
        raise SettingsError(f"{where}: {spec.name} must be between {low:g} and {high:g}.", setting=spec.name)
    return value
