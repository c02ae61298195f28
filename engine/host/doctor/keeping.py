"""Checks of what the install is told and keeps: settings, secrets, the master key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from engine.errors import SecretError, SettingsError, SyncdeskError
from engine.host.doctor.check import Check, Subject
from engine.profile import Profile
from engine.secrets import Keeper, Secrets, kept
from engine.secrets.sealing import key_id
from engine.settings import Settings, declared, load
from engine.sync.keys import RECOVERY

if TYPE_CHECKING:
    from engine.store import Transport

#: Variables of ours that are no settings: which profile, where profiles are, and what the host tells its parts.
_NOT_SETTINGS: Final = frozenset(
    {"SYNCDESK_PROFILE", "SYNCDESK_HOME", "SYNCDESK_SECRETS", "SYNCDESK_SUPERVISED", "SYNCDESK_HOST_PID"}
)
_RECOVER: Final = (
    "Give Syncdesk that key in SYNCDESK_MASTER_KEY, or enter the recovery code: syncdeskctl secrets recover"
)
_ORIGINS: Final[dict[Literal["environment", "file", "keyring"], str]] = {
    "environment": "by the environment",
    "file": "by the settings file",
    "keyring": "by what the profile keeps",
}


def secrets(profile: Profile, environ: Mapping[str, str]) -> tuple[Check, dict[str, str]]:
    """Where the profile keeps its secrets and whether they come back; with those that are settings."""
    about = Subject("secrets", "Kept secrets")
    wanted = {name: spec for name, spec in declared().items() if spec.metadata["secret"]}
    try:
        keeper = Keeper(profile, environ)
        place, names = keeper.place, keeper.names()
        found = kept(profile, wanted, environ)
    except SecretError as error:
        return about.fail(error.message, "Unlock the keyring, or set the secrets as environment variables."), {}
    if place is None or not names:
        return about.ok("Nothing is kept yet."), found
    words = "in the keyring" if place == "keyring" else "in secrets.json, a file for you alone"
    return about.ok(f"{len(names)} {words}: {', '.join(names)}."), found


def settings(profile: Profile, environ: Mapping[str, str], known: Mapping[str, str]) -> tuple[Check, Settings | None]:
    """Whether every setting has a name and a value that can be; None where they cannot be used."""
    about = Subject("settings", "Settings")
    try:
        found = load(profile.settings_file, environ, known)
    except SettingsError as error:
        return about.fail(error.message, f"Correct the variable, or {profile.settings_file}."), None
    names = {spec.metadata["env"] for spec in declared().values()}
    for name in sorted(environ):
        if name.startswith("SYNCDESK_") and name not in names | _NOT_SETTINGS:
            near = difflib.get_close_matches(name, names, 1)
            return about.warn(
                f"The variable {name} is no setting and does nothing.",
                f"Did you mean {near[0]}?" if near else "Remove it; engine/settings.py has all names.",
            ), found
    origins = list(found.origin.values())
    where = [f"{origins.count(origin)} {words}" for origin, words in _ORIGINS.items() if origin in origins]
    return about.ok(f"Set: {', '.join(where)}." if where else "All have their defaults."), found


def master_key(
    profile: Profile, environ: Mapping[str, str], settings: Settings | None, store: Transport | None
) -> Check:
    """Whether the keys that seal the bank links are here, and whether a recovery code was made."""
    about = Subject("master_key", "Master key")
    if settings is None:
        return about.skipped("Unknown while the settings cannot be read.")
    try:
        here = [key_id(key) for key in Secrets(profile, settings, environ).existing()]
    except SecretError as error:
        return about.fail(error.message, _RECOVER)
    if store is None:
        words = f"The master key {here[0]} is here" if here else "No master key was made yet"
        return about.ok(f"{words}; what it seals is unknown while there is no database.")
    try:
        return _sealed(about, here, store.call("keys_used"))
    except SyncdeskError as error:
        return about.skipped(f"What the master key seals is unknown: {error.message}")


def _sealed(about: Subject, here: list[str], used: dict[str, Any]) -> Check:
    away = {name: count for name, count in used["links"].items() if name not in here}
    if away:
        sealed = "1 bank link is" if sum(away.values()) == 1 else f"{sum(away.values())} bank links are"
        return about.fail(f"{sealed} sealed with a master key that is not here ({', '.join(sorted(away))}).", _RECOVER)
    if not here:
        return about.ok("No master key was made yet: the first start makes one.")
    if not used[RECOVERY] and used["links"]:
        return about.warn(
            f"The master key {here[0]} is here, and no recovery code was made: if this machine is lost, every bank "
            "link is lost with it.",
            "syncdeskctl secrets recovery",
        )
    return about.ok(f"The master key {here[0]} opens every bank link.")
