"""The table of faults: a living world is disturbed in the middle, and nothing of it may show in the end.

Two hundred banks of three users, a script of purchases, postings, changes and bills; one world a fault. What the
database has in the end is compared with the bank's truth and with a world without a fault, history included. The
reference is that world: how long it takes from the last event until everything is read and handled.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

RECOVERY_AIM_S = 15.0


def run(only: Sequence[str] = ()) -> dict[str, Any]:
    """Run all faults, or those named.

    Raises:
        SystemExit: there is no such fault.
    """
    from tests.faults import base as bases
    from tests.faults import run as runs
    from tests.faults.catalogue import faults

    table = faults()
    unknown = sorted(set(only) - set(table))
    if unknown:
        raise SystemExit(f"There is no fault {', '.join(unknown)}; there are {', '.join(table)}.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # worlds have to be ended
    began = time.monotonic()
    base = bases.prepare()
    outcomes: dict[str, runs.Outcome] = {}
    try:
        reference = runs.undisturbed(base)
        _tell(f"base and undisturbed run {time.monotonic() - began:.0f} s")
        for name in only or table:
            outcomes[name] = runs.disturbed(base, table[name], reference)
            _tell(f"{name}: {_line(outcomes[name])}")
    finally:
        base.remove()
    return _document(outcomes, time.monotonic() - began)


def _document(outcomes: dict[str, Any], took_s: float) -> dict[str, Any]:
    figures = {
        name: {
            "equal": found.equal,
            "recovery_s": found.recovery_s,
            "lost": found.difference.lost,
            "doubled": found.difference.doubled,
            "words": found.difference.words,
        }
        for name, found in outcomes.items()
    }
    unequal = sum(not found.equal for found in outcomes.values())
    recoveries = [found.recovery_s for found in outcomes.values()]
    slowest = None if None in recoveries else max(recoveries, default=0.0)  # None: one never recovered
    return {
        "bench": "faults",
        "figures": figures,
        "reference": {"took_s": round(took_s, 1), "faults": len(outcomes)},
        "ratio": {},
        "aims": {
            "unequal": {"value": unequal, "aim": 0, "ok": unequal == 0},
            "slowest_recovery_s": {
                "value": slowest,
                "aim": RECOVERY_AIM_S,
                "ok": slowest is not None and slowest <= RECOVERY_AIM_S,
            },
        },
    }


def _line(found: Any) -> str:
    equal = "equal" if found.equal else "NOT EQUAL"
    return f"{equal}, recovery {found.recovery_s} s, took {found.took_s} s {found.difference.words}"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
