"""The light broker for tests: the engine's own, started as on a bare Windows, where no real server comes with us."""

from __future__ import annotations

from engine.host.valkey import Valkey
from engine.launch import self_command


class Light(Valkey):
    """The adapter as if no wheel had brought a server."""

    @property
    def light(self) -> bool:
        return True

    def _command(self) -> list[str]:
        return self_command(["light-broker", "--port", str(self._port)])
