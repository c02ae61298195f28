"""A broker of one test alone, of each kind that is supported: it may be killed and lose its file."""

from __future__ import annotations

from typing import cast

from engine.host.valkey import Valkey
from engine.profile import Profile
from tests.support.light import Light
from tests.support.redis7 import Door, Redis7


def of_kind(kind: str, profile: Profile) -> Valkey:
    """The server of a ``broker_kind``, not started yet. All but the light one keep a file."""
    if kind == "valkey":
        return Valkey(profile)
    return Light(profile) if kind == "light" else Redis7(profile, cast("Door", kind), durable=True)
