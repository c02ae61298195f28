"""``syncdesk --demo``: an engine on a throw-away profile with simulated banks, gone when the window closes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from engine.errors import SyncdeskError
from engine.profile import Profile
from gui.client.connection import Local


class Demo(Local):
    """A local source whose profile is made for it and removed with it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="syncdesk-demo-"))
        super().__init__(Profile("demo", self._folder))

    def start(self) -> None:
        """Start the engine with nothing of the person's own services in its environment."""
        for name in ("REDIS_URL", "DATABASE_URL", "SUPABASE_URL", "PLAID_ENV", "SYNCDESK_PLAID_URL"):
            os.environ.pop(name, None)
        super().start()

    def end(self) -> None:
        """Stop the engine and remove the profile."""
        from engine import launch

        try:
            launch.stop(self._profile)
        except SyncdeskError as error:
            print(f"syncdesk: {error.message} The demo's folder {self._folder} was left.")
            return
        shutil.rmtree(self._folder, ignore_errors=True)
