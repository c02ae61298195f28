"""What surrounds the parts: the environment they get, so that one machine is configured like a container."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.profile import Profile
from engine.settings import Settings, declared

SIMULATED_CLIENT = "simulated"
"""Client id and secret for the bank of our own: it asks for some, as Plaid does."""


@dataclass
class World:
    """Addresses as they become known; `environment` has what was not set by the person."""

    profile: Profile
    settings: Settings
    broker_url: str | None = None
    database_url: str | None = None
    plaid_url: str | None = None
    public_url: str | None = None
    extra: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """For the children: over what they inherit from us."""
        settings = self.settings
        given: dict[str, str | None] = {
            "SYNCDESK_PROFILE": profile_argument(self.profile),
            "REDIS_URL": settings.redis_url or self.broker_url,
            "DATABASE_URL": settings.database_url or self.database_url,
            "SYNCDESK_PLAID_URL": settings.plaid_url or self.plaid_url,
        }
        if settings.plaid_env == "simulated":
            given["PLAID_CLIENT_ID"] = settings.plaid_client_id or SIMULATED_CLIENT
            given["PLAID_SECRET"] = settings.plaid_secret or SIMULATED_CLIENT
            if self.public_url is not None:
                given["SYNCDESK_WEBHOOK_URL"] = settings.webhook_url or f"{self.public_url}/api/webhooks/plaid"
        return {name: value for name, value in given.items() if value is not None} | self.extra

    def apply(self, environ: Mapping[str, str] = os.environ) -> Settings:
        """The settings with those addresses in them, as the children will read them."""
        from engine.settings import load

        merged = {**environ, **self.environment()}
        names = declared()
        origin = self.settings.origin
        kept = {name: str(getattr(self.settings, name)) for name in names if origin.get(name) == "keyring"}
        # What the person set is told apart from what we fill in.
        return dataclasses.replace(load(self.profile.settings_file, merged, kept), origin=origin)


def profile_argument(profile: Profile) -> str:
    """What names the profile to another process: its folder, or ``default`` where that decides ports."""
    return profile.name if profile.is_default else str(profile.root)
