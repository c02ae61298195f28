"""Checks of what Syncdesk stands on: broker, database, their clocks, Plaid, and the way of its webhooks to us."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from engine import clock
from engine.errors import BrokerUnfit, SchemaError, StoreFull, StoreReadOnly, SyncdeskError
from engine.host.doctor.check import Check, Subject
from engine.profile import Profile
from engine.settings import Settings

if TYPE_CHECKING:
    import redis

    from engine.store import Transport

#: Seconds. Leases and Plaid's signatures bear some; a minute of it and webhooks may count as old.
SKEW_WARN_S, SKEW_FAIL_S = 2.0, 60.0
#: A bank of Plaid's sandbox; elsewhere Plaid answers that it does not know it, and has looked at the keys.
_SOME_BANK: Final = "ins_109508"
_EMBEDDED: Final = "The embedded one runs with the engine, and no engine runs."
_DATABASE_CURES: Final[tuple[tuple[type[SyncdeskError], str], ...]] = (
    (SchemaError, "syncdeskctl db migrate; where the database is newer, a newer Syncdesk."),
    (StoreFull, "Free some room on its disk."),
    (StoreReadOnly, "Let DATABASE_URL name the primary, or have its provider end the stop."),
    (SyncdeskError, "Start it, or correct DATABASE_URL; over Supabase its URL and key."),
)
_BROKER: Final = Subject("broker", "Broker")
_DATABASE: Final = Subject("database", "Database")


def reachable(profile: Profile, settings: Settings) -> Settings:
    """The settings with the addresses of the embedded servers that run now."""
    from engine.host import postgres, valkey

    ours = not settings.database_url and not settings.supabase_url
    return dataclasses.replace(
        settings,
        redis_url=settings.redis_url or valkey.running_url(profile),
        database_url=postgres.running_url(profile) if ours else settings.database_url,
    )


@contextlib.contextmanager
def opened(settings: Settings | None) -> Iterator[Transport | None]:
    """The database of `reachable` settings; None where there is none to be had."""
    from engine.store import open_store

    store = None
    if settings is not None:
        with contextlib.suppress(SyncdeskError):
            store = open_store(dataclasses.replace(settings, database_timeout_s=min(settings.database_timeout_s, 10.0)))
    try:
        yield store
    finally:
        if store is not None:
            store.close()


def broker(settings: Settings | None) -> Check:
    """Whether the broker answers and allows all that the engine does."""
    if settings is None:
        return _BROKER.skipped("Unknown while the settings cannot be read.")
    if not settings.redis_url:
        return _BROKER.skipped(_EMBEDDED)
    from engine.queue import fitness

    try:
        fitness.check(settings)
    except BrokerUnfit as error:
        return _BROKER.fail(error.message, "Change it there, or REDIS_URL; docs/broker.md says what is needed.")
    except SyncdeskError as error:
        return _BROKER.fail(error.message, "Start it, or correct REDIS_URL.")
    return _BROKER.ok("It answers, and every command of the queue works.")


def database(settings: Settings | None, store: Transport | None) -> Check:
    """Whether the database answers, has this program's schema, and takes writes."""
    if settings is None:
        return _DATABASE.skipped("Unknown while the settings cannot be read.")
    if store is None:
        if settings.supabase_url:
            return _DATABASE.fail("SUPABASE_URL is set, and its key is not.", "Set SUPABASE_SERVICE_ROLE_KEY.")
        return _DATABASE.skipped(_EMBEDDED)
    from engine.store import migrate

    try:
        migrate.check(store)
        store.call("writable")
    except SyncdeskError as error:
        cures = (cure for kind, cure in _DATABASE_CURES if isinstance(error, kind))
        return _DATABASE.fail(error.message, next(cures))
    return _DATABASE.ok(f"{_version(settings)} answers, its schema is this program's, and it takes writes.")


def _version(settings: Settings) -> str:
    if settings.database_url:
        from engine.store.facts import facts

        with contextlib.suppress(SyncdeskError):
            return f"Postgres {facts(settings.database_url).version}"
    return "It"


def clocks(settings: Settings | None) -> Check:
    """How far the clocks of broker and database are from this machine's."""
    about = Subject("clocks", "Clocks")
    found = {} if settings is None else _differences(settings)
    if not found:
        return about.skipped("Neither broker nor database can be asked for the time.")
    name, seconds = max(found.items(), key=lambda entry: abs(entry[1]))
    if abs(seconds) < SKEW_WARN_S:
        return about.ok(f"This machine, {' and '.join(found)} agree.")
    sentence = f"The clock of {name} is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} this machine's."
    cure = "Have both machines set their clocks from the network (NTP)."
    return about.fail(sentence, cure) if abs(seconds) >= SKEW_FAIL_S else about.warn(sentence, cure)


def _differences(settings: Settings) -> dict[str, float]:
    asked: dict[str, Callable[[], float]] = {}
    if settings.redis_url:
        asked["Redis"] = lambda: _redis_time(settings)
    if settings.database_url:
        asked["Postgres"] = lambda: _postgres_time(settings)
    found = {}
    for name, ask in asked.items():
        with contextlib.suppress(SyncdeskError):
            found[name] = _difference(ask)
    return found


def _difference(ask: Callable[[], float]) -> float:
    """Seconds; what lies within the time that the question took counts as none."""
    before = clock.now().timestamp()
    there = ask()
    after = clock.now().timestamp()
    return there - after if there > after else min(0.0, there - before)


def _redis_time(settings: Settings) -> float:
    from engine.queue.connection import connect, translated

    client: redis.Redis = connect(settings.redis_url or "", "api", settings.redis_ca_file)
    try:
        with translated():
            answer: Any = client.time()
    finally:
        client.close()
    return float(answer[0]) + float(answer[1]) / 1e6


def _postgres_time(settings: Settings) -> float:
    from engine.store.facts import facts

    return facts(settings.database_url or "").now


def plaid(settings: Settings | None) -> Check:
    """Whether Plaid answers and takes the keys. Where the bank is simulated nothing is asked of anybody."""
    about = Subject("plaid", "Plaid")
    if settings is None:
        return about.skipped("Unknown while the settings cannot be read.")
    if settings.plaid_env == "simulated":
        return about.ok("The simulated bank; it needs no keys.")
    given = (("PLAID_CLIENT_ID", settings.plaid_client_id), ("PLAID_SECRET", settings.plaid_secret))
    missing = [env for env, value in given if not value]
    if missing:
        return about.fail(
            f"PLAID_ENV is {settings.plaid_env}, but {' and '.join(missing)} cannot be found.",
            "Set the variable, or keep it: syncdeskctl secrets set NAME.",
        )
    from engine.plaid.client import PlaidClient

    client = PlaidClient(settings)
    try:
        client.institution_name(_SOME_BANK)
    except SyncdeskError as error:
        return _refused(about, settings, error)
    finally:
        client.close()
    return about.ok(f"It answers and takes the keys ({settings.plaid_env}).")


def _refused(about: Subject, settings: Settings, error: SyncdeskError) -> Check:
    from engine.plaid import errors

    code = error.detail.get("plaid_code")
    if isinstance(error, errors.InstallTrouble):
        cure = "Compare client id, secret and PLAID_ENV with Plaid's dashboard."
        return about.fail(f"Plaid refuses this install ({code}): {error.message}", cure)
    if isinstance(error, errors.PlaidUnreachable):
        return about.fail(error.message, "Look at network, proxy and SYNCDESK_PLAID_URL.")
    if isinstance(error, errors.Transient | errors.RateLimited):
        return about.warn(error.message, "Nothing, unless it lasts.")
    return about.ok(
        f"It answers and takes the keys ({settings.plaid_env}), though it does not know the bank asked for."
    )


def webhooks(settings: Settings | None) -> Check:
    """Whether Plaid is given an address at which it can reach us."""
    about = Subject("webhooks", "Webhook address")
    if settings is None:
        return about.skipped("Unknown while the settings cannot be read.")
    if settings.plaid_env == "simulated":
        return about.ok("The simulated bank finds the listener by itself.")
    cure = "Set SYNCDESK_WEBHOOK_URL to the https address that leads to /api/webhooks/plaid of the public listener."
    if not settings.webhook_url:
        return about.warn("Plaid is given no address, so news waits for the next backup run.", cure)
    parts = urlsplit(settings.webhook_url)
    if parts.scheme != "https" and not settings.plaid_url:
        return about.fail("Plaid sends webhooks to https addresses only.", cure)
    if _local(parts.hostname or "") and not settings.plaid_url:
        return about.fail("Plaid cannot reach an address of this machine or network.", cure)
    return about.ok(f"Plaid is given {parts.scheme}://{parts.hostname}{parts.path}.")


def _local(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".local", ".localhost")) or "." not in host
