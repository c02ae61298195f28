"""``python -m tests.bench NAME [--json]``: measure one thing against a reference taken in the same run.

Every bench is a module with ``run() -> dict`` that answers ``{"bench", "figures", "reference", "ratio",
"aims": {name: {"value", "aim", "ok"}}}``. Exit code 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any


def _pickup() -> dict[str, Any]:
    from tests.bench import pickup

    return pickup.run()


def _latency() -> dict[str, Any]:
    from tests.bench import latency

    return latency.run()


def _ingest() -> dict[str, Any]:
    from tests.bench import ingest

    return ingest.run()


def _start() -> dict[str, Any]:
    from tests.bench import start

    return start.run()


def _webhook() -> dict[str, Any]:
    from tests.bench import webhook

    return webhook.run()


def _lists() -> dict[str, Any]:
    from tests.bench import lists

    return lists.run()


def _faults(only: Sequence[str] = ()) -> dict[str, Any]:
    from tests.bench import faults

    return faults.run(only)


def _fairness() -> dict[str, Any]:
    from tests.bench import fairness

    return fairness.run()


def _schedule() -> dict[str, Any]:
    from tests.bench import schedule

    return schedule.run()


def _scale() -> dict[str, Any]:
    from tests.bench import scale

    return scale.run()


def _soak(minutes: float = 10.0) -> dict[str, Any]:
    from tests.bench import soak

    return soak.run(minutes)


BENCHES: dict[str, Callable[..., dict[str, Any]]] = {
    "pickup": _pickup,
    "latency": _latency,
    "ingest": _ingest,
    "start": _start,
    "webhook": _webhook,
    "lists": _lists,
    "fairness": _fairness,
    "faults": _faults,
    "schedule": _schedule,
    "scale": _scale,
    "soak": _soak,
}


def main() -> int:
    """Run one bench and print what it found."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(BENCHES))
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="faults: only these")
    parser.add_argument("--minutes", type=float, metavar="N", help="soak: for so long (10)")
    args = parser.parse_args()
    if args.only and args.name != "faults":
        parser.error("--only belongs to the bench faults")
    if args.minutes and args.name != "soak":
        parser.error("--minutes belongs to the bench soak")
    option = args.only or args.minutes
    found = BENCHES[args.name](*([option] if option else []))
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        _show(found)
    return 0 if all(aim["ok"] for aim in found["aims"].values()) else 1


def _show(found: dict[str, Any]) -> None:
    print(f"bench {found['bench']}")
    for name, aim in found["aims"].items():
        print(f"  {'ok  ' if aim['ok'] else 'MISS'} {name}: {aim['value']} (aim {aim['aim']})")
    for title in ("figures", "reference", "ratio"):
        print(f"  {title}: {json.dumps(found[title])}")


if __name__ == "__main__":
    sys.exit(main())
