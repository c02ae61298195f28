"""One check: what was found, in a sentence, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail", "skipped"]


@dataclass(frozen=True)
class Check:
    """``skipped``: it could not be looked at, since something that it needs failed or does not run."""

    name: str
    label: str
    state: State
    sentence: str
    cure: str = ""


@dataclass(frozen=True)
class Subject:
    """A thing to be checked; makes the four kinds of answers about it."""

    name: str
    label: str

    def ok(self, sentence: str) -> Check:
        return Check(self.name, self.label, "ok", sentence)

    def warn(self, sentence: str, cure: str) -> Check:
        return Check(self.name, self.label, "warn", sentence, cure)

    def fail(self, sentence: str, cure: str) -> Check:
        return Check(self.name, self.label, "fail", sentence, cure)

    def skipped(self, sentence: str) -> Check:
        return Check(self.name, self.label, "skipped", sentence)
