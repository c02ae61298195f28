"""Labelled worlds: replayed in date order through the code a sync uses, and counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any

import msgspec

from engine.errors import UsageError
from engine.matching.plan import plan
from engine.matching.types import Bill, Held, Key, MatchInputs, Mode, Payment, PlannedMatch

WINDOW_DAYS = 100  # as syncdesk.match_inputs gives it
_ITEM = "world"


class World(msgspec.Struct, kw_only=True):
    """One person's bills and transactions; ``truth`` may be missing."""

    name: str
    slice: str
    today: date
    bills: tuple[Bill, ...]
    payments: tuple[Payment, ...]
    truth: dict[str, tuple[str, date]]


def world(name: str, text: bytes) -> World:
    """Read one world.

    Args:
        name: its file's name, under which answers list it.
        text: its JSON.

    Raises:
        UsageError: this is no labelled world.
    """
    try:
        data = msgspec.json.decode(text)
        bills = tuple(msgspec.convert(_exact(bill), Bill, strict=False) for bill in data["bills"])
        payments = tuple(_payment(row) for row in data["transactions"])
        today = data.get("today") or max(row["date"] for row in data["transactions"])
        truth = {row["transaction_id"]: (row["bill_id"], date.fromisoformat(row["period"])) for row in _truth(data)}
        return World(
            name=name,
            slice=data.get("slice") or name,
            today=date.fromisoformat(today),
            bills=bills,
            payments=payments,
            truth=truth,
        )
    except (msgspec.MsgspecError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{name} is not a labelled world: {type(error).__name__}: {error}") from error


def _truth(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    return data.get("truth") or []


def _exact(row: Mapping[str, Any]) -> dict[str, Any]:
    """Floats as the decimals they print as, and fields that are null left to their defaults."""
    return {name: str(value) if isinstance(value, float) else value for name, value in row.items() if value is not None}


class _Named(Payment, frozen=True, kw_only=True, array_like=False):
    """A payment whose fields come by their names."""


def _payment(row: Mapping[str, Any]) -> Payment:
    category = row.get("personal_finance_category") or {}
    given = {
        "item_id": _ITEM,
        "currency": row.get("iso_currency_code") or row.get("unofficial_currency_code"),
        "merchant": row.get("merchant_name"),
        "primary": category.get("primary"),
        "detailed": category.get("detailed"),
    }
    return msgspec.convert(_exact({**row, **given}), _Named, strict=False)


def replay(world: World, mode: Mode) -> dict[Key, PlannedMatch]:
    """The matches that stand after the world's last day, its rows having arrived day by day."""
    days: defaultdict[date, list[Payment]] = defaultdict(list)
    for row in world.payments:
        days[row.date].append(row)
    rows: dict[Key, Payment] = {}
    matches: dict[Key, PlannedMatch] = {}
    for day in sorted(days):
        arrived = days[day]
        posted = ((row.item_id, row.pending_transaction_id or "") for row in arrived)
        gone = {key for key in posted if key in rows}
        changes = plan(inputs_of(world.bills, rows, matches, day), arrived, gone, day, mode=mode)
        rows.update((row.key, row) for row in arrived)
        for key in gone:
            rows.pop(key)
        apply(matches, changes)
    return matches


def inputs_of(
    bills: tuple[Bill, ...], rows: Mapping[Key, Payment], matches: Mapping[Key, PlannedMatch], day: date
) -> MatchInputs:
    """What the database would give a sync on that day."""
    since = day - timedelta(days=WINDOW_DAYS)
    return MatchInputs(
        since=since,
        bills=bills,
        payments=tuple(row for row in rows.values() if row.date >= since),
        matches=tuple(
            Held(
                bill_id=match.bill_id,
                item_id=match.item_id,
                transaction_id=match.transaction_id,
                period=match.period,
                state="auto" if match.state == "auto" else "suggested",
            )
            for key, match in matches.items()
            if key in rows and rows[key].date >= since
        ),
    )


def apply(matches: dict[Key, PlannedMatch], changes: Iterable[PlannedMatch]) -> None:
    """What ``syncdesk.apply_matches`` does to the stored matches."""
    for change in sorted(changes, key=lambda change: change.state != "none"):
        if change.state != "none":
            matches[change.key] = change
        elif change.key in matches and matches[change.key].bill_id == change.bill_id:
            del matches[change.key]


class Count(msgspec.Struct):
    """Right, proposed and true pairs of transaction and bill."""

    right: int = 0
    proposed: int = 0
    true: int = 0

    def add(self, other: Count) -> None:
        self.right += other.right
        self.proposed += other.proposed
        self.true += other.true

    def figures(self) -> dict[str, float]:
        precision = self.right / self.proposed if self.proposed else 1.0
        recall = self.right / self.true if self.true else 1.0
        both = precision + recall
        return {
            "precision": round(precision, 4),
            "recall": round(recall, 4),
            "f1": round(2 * precision * recall / both, 4) if both else 0.0,
        }


def _count(pairs: Iterable[PlannedMatch], truth: Mapping[str, tuple[str, date]]) -> Count:
    chosen = [match for match in pairs if match.state != "none"]
    right = sum(truth.get(match.transaction_id, ("", None))[0] == match.bill_id for match in chosen)
    return Count(right, len(chosen), len(truth))


def evaluate(worlds: Iterable[World], mode: Mode = "rules") -> dict[str, Any]:
    """Precision, recall and F1 of ``mode`` (auto, and suggestions besides), of the baseline and of the rules."""
    totals: defaultdict[str, Count] = defaultdict(Count)
    slices: defaultdict[str, defaultdict[str, Count]] = defaultdict(lambda: defaultdict(Count))
    same_period = counted = number = 0
    for world in worlds:
        number += 1
        matches = list(replay(world, mode).values())
        tagged = [match for match in matches if match.state == "auto"]
        rules = tagged if mode == "rules" else [m for m in replay(world, "rules").values() if m.state == "auto"]
        counts = {
            "auto": _count(tagged, world.truth),
            "suggest": _count(matches, world.truth),
            "baseline": _count(replay(world, "simple").values(), world.truth),
            "rules": _count(rules, world.truth),
        }
        for name, count in counts.items():
            totals[name].add(count)
            slices[world.slice][name].add(count)
        for match in tagged:
            true = world.truth.get(match.transaction_id)
            if true is not None and true[0] == match.bill_id:
                counted += 1
                same_period += true[1] == match.period
    return {
        **{name: totals[name].figures() for name in ("auto", "suggest", "baseline", "rules")},
        "slices": {
            name: {kind: counts[kind].figures() for kind in ("auto", "suggest", "baseline", "rules")}
            for name, counts in slices.items()
        },
        "period_accuracy": round(same_period / counted, 4) if counted else 1.0,
        "worlds": number,
    }


def match(worlds: Iterable[World], mode: Mode = "rules") -> dict[str, Any]:
    """What would be tagged unattended and what only proposed, by world; truth is not looked at."""
    found: dict[str, Any] = {}
    for world in worlds:
        lists: dict[str, list[dict[str, Any]]] = {"auto": [], "suggest": []}
        for planned in sorted(replay(world, mode).values(), key=lambda planned: (planned.period, planned.bill_id)):
            line: dict[str, Any] = {
                "transaction_id": planned.transaction_id,
                "bill_id": planned.bill_id,
                "period": planned.period.isoformat(),
            }
            if planned.state == "auto":
                lists["auto"].append(line)
            else:
                lists["suggest"].append({**line, "score": planned.score})
        found[world.name] = lists
    return {"worlds": found}
