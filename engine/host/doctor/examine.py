"""All checks in the order in which a person cures them, with every secret taken out of their sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine import __version__, clock
from engine.host.doctor import keeping, machine, running, services
from engine.host.doctor.blanks import Blanks, gather
from engine.host.doctor.check import Check
from engine.host.doctor.running import Running
from engine.profile import Profile
from engine.settings import Settings


@dataclass(frozen=True)
class Report:
    """What was found, with what it was found by: a bundle goes on from there."""

    profile: Profile
    checks: list[Check]
    at: str
    blanks: Blanks
    settings: Settings | None
    running: Running

    @property
    def ok(self) -> bool:
        """Nothing failed."""
        return all(check.state != "fail" for check in self.checks)

    def document(self) -> dict[str, Any]:
        """For programs and for the bundle."""
        checks = [dataclasses.asdict(check) for check in self.checks]
        head = {"ok": self.ok, "version": __version__, "profile": self.profile.name, "at": self.at}
        return {**head, "checks": self.blanks.document(checks)}


def examine(profile: Profile, environ: Mapping[str, str]) -> Report:
    """Look at everything. Nothing is changed but the database's probe row; no check of one thing stops another's.

    ``settings`` of the report have the addresses of the embedded servers that run.
    """
    blanks = gather(profile, environ)
    kept, known = keeping.secrets(profile, environ)
    set_up, settings = keeping.settings(profile, environ, known)
    engine = running.look(profile)
    met = services.reachable(profile, settings) if settings is not None else None
    with services.opened(met) as store:
        checks = [
            machine.program(),
            machine.folder(profile),
            machine.disk(profile),
            set_up,
            kept,
            machine.ports(profile, settings, engine.found is not None),
            services.broker(met),
            services.database(met, store),
            services.clocks(met),
            keeping.master_key(profile, environ, settings, store),
            services.plaid(settings),
            services.webhooks(settings),
            running.engine(profile, engine),
            running.parts(engine),
            running.work(engine),
        ]
    return Report(profile, checks, clock.iso(clock.now()), blanks, met, engine)
