"""Ports that a profile got by chance, tried again at its next start: banks send webhooks to the address they know."""

from __future__ import annotations

import dataclasses
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from engine.api.types import Endpoints
from engine.host.binaries_process import write_private
from engine.profile import Profile
from engine.settings import Settings

_SETTINGS = {"public": "api_port", "health": "worker_health_port", "admin": "admin_port"}


def _file(profile: Profile) -> Path:
    return profile.root / "ports.json"


def _read(profile: Profile) -> dict[str, int]:
    try:
        found = json.loads(_file(profile).read_text(encoding="utf-8"))
        return {str(name): int(port) for name, port in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def remember(profile: Profile, endpoints: Endpoints) -> None:
    """Keep the ports of this start."""
    urls = {name: getattr(endpoints, name) for name in _SETTINGS}
    _add(profile, {name: urlsplit(url).port or 0 for name, url in urls.items() if url})


def _add(profile: Profile, found: dict[str, int]) -> None:
    write_private(_file(profile), json.dumps({**_read(profile), **found}))


def wish(profile: Profile, settings: Settings) -> Settings:
    """The settings with the last ports where any port would do and nothing else fixes one."""
    last = _read(profile)
    wished: dict[str, int] = {}
    for name, setting in _SETTINGS.items():
        fixed = getattr(settings, setting) or (profile.is_default and name != "admin")
        if not fixed and name in last:
            wished[setting] = last[name]
    return dataclasses.replace(settings, **wished)  # type: ignore[arg-type]


def again(profile: Profile, name: str, free: Callable[[], int]) -> int:
    """The port that ``name`` had last, if nobody listens there now; else a free one, remembered."""
    last = _read(profile).get(name)
    if last is not None:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", last))
            except OSError:
                last = None
    port = last or free()
    _add(profile, {name: port})
    return port


def hold(port: int) -> socket.socket | None:
    """Keep a port for a part of ours while this socket is open: it can listen there, and nobody else is given the port
    by chance before it does. None where the system has no such thing (all but Linux), or the port is gone already."""
    if sys.platform != "linux":
        return None
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # bound, and not listening: others of this kind may bind
    try:
        held.bind(("127.0.0.1", port))
    except OSError:
        held.close()
        return None
    return held
