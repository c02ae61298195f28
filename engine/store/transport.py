"""The one door to the database: named SQL functions that take named parameters and answer one JSON value."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from engine.settings import Settings


@runtime_checkable
class Transport(Protocol):
    """A way to call ``public.syncdesk_<name>``. Safe to use from several threads.

    Every call is one transaction. Parameters are ``str``, ``int``, ``bool`` and ``None``; dicts and lists travel as
    jsonb. Answers are ``str``, ``int``, ``bool``, ``None``, lists and dicts; money and times are text.
    """

    def call(self, name: str, /, **params: Any) -> Any:
        """Call ``public.syncdesk_<name>(p_<key> => value, ...)`` and return its decoded answer.

        Raises:
            NotFound, Conflict, UsageError: the function refused, in words for the person.
            StoreUnavailable: the database cannot be reached, or asked to try again later.
            StoreRefused: it refused for good; ``detail`` has sqlstate, constraint and table, never values.
            SchemaError: the function does not exist: the schema is missing or of another version.
        """

    def close(self) -> None:
        """Give up all connections."""


def open_store(settings: Settings) -> Transport:
    """The transport that the settings ask for: ``DATABASE_URL`` before a Supabase project. Connects on first use.

    Raises:
        StoreUnavailable: neither is set, so there is no database yet.
    """
    if settings.database_url:
        from engine.store.direct import Direct

        return Direct(settings.database_url, size=settings.database_pool, timeout_s=settings.database_timeout_s)
    if settings.supabase_url and settings.supabase_service_role_key:
        from engine.store.rest import Rest

        return Rest(settings.supabase_url, settings.supabase_service_role_key, timeout_s=settings.database_timeout_s)
    from engine.errors import StoreUnavailable

    raise StoreUnavailable(
        "There is no database: start the engine, or set DATABASE_URL, or SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY."
    )
