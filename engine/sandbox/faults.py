"""Trouble on demand: which request goes wrong, how, and how often."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Kind = Literal["error", "html", "empty", "truncated", "drip", "reset", "delay"]


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A rule. It holds for a path (``*``: all), and where given for an item or an institution.

    ``kind``: ``error`` answers ``error_code`` in Plaid's form; ``html`` a proxy's page with
    ``status``; ``empty`` nothing; ``truncated`` half of the right answer; ``drip`` the right
    answer in small pieces ``delay_s`` apart; ``reset`` closes the connection; ``delay`` answers
    rightly after ``delay_s`` seconds. ``after`` requests pass first, then ``times`` go wrong
    (None: until it is cleared).
    """

    path: str = "*"
    item_id: str | None = None
    institution_id: str | None = None
    kind: Kind = "error"
    error_code: str = "INTERNAL_SERVER_ERROR"
    error_type: str | None = None
    status: int | None = None
    message: str | None = None
    times: int | None = None
    after: int = 0
    delay_s: float = 0.0
    id: int = 0
    hits: int = 0


class Faults:
    """The rules in force, oldest first."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._next = 1

    def add(self, description: dict[str, Any]) -> Fault:
        """Take a rule into force.

        Raises:
            msgspec.ValidationError: it has unknown fields or wrong types.
        """
        rule = msgspec.convert(description, Fault)
        rule.id, self._next = self._next, self._next + 1
        rule.hits = 0
        self._rules.append(rule)
        return rule

    def clear(self, rule_id: int | None = None) -> int:
        """Take one rule, or all, out of force; returns how many."""
        kept = [rule for rule in self._rules if rule_id is not None and rule.id != rule_id]
        gone = len(self._rules) - len(kept)
        self._rules = kept
        return gone

    def all(self) -> list[Fault]:
        return list(self._rules)

    def hit(self, path: str, item_id: str | None, institution_id: str | None) -> Fault | None:
        """The rule that this request runs into, counted; None: all goes well."""
        for rule in self._rules:
            if rule.path not in ("*", path):
                continue
            if rule.item_id is not None and rule.item_id != item_id:
                continue
            if rule.institution_id is not None and rule.institution_id != institution_id:
                continue
            if rule.after > 0:
                rule.after -= 1
                continue
            rule.hits += 1
            if rule.times is not None:
                rule.times -= 1
                if rule.times <= 0:
                    self._rules.remove(rule)
            return rule
        return None
