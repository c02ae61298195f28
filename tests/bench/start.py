"""From nothing to ready, from stopped to ready, and to the console's first window.

Ready is what ``/health`` says: every consumer advances. Packages and bytecode are there, the profile is not. The
reference is what no start can do without, one after the other in the same run: a bare Python, the broker's program
to its first answer, initdb and the database's program to its first connection.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from engine import launch
from engine.host.postgres import Postgres
from engine.host.valkey import Valkey
from engine.http import open_here
from tests.support.engines import ROOT, Engine, engine
from tests.support.servers import throwaway_profile

ROUNDS = 5
AIMS = {"first_s": 4.0, "again_s": 2.0, "window_s": 1.0}


def run() -> dict[str, Any]:
    """Measure; medians of five rounds."""
    firsts: list[float] = []
    agains: list[float] = []
    stops: list[float] = []
    for _ in range(ROUNDS):
        with engine() as made:
            firsts.append(_ready_after(made))
            stops.append(_seconds(lambda: launch.stop(made.profile)))
            agains.append(_ready_after(made))
    windows = [_window() for _ in range(ROUNDS)]
    reference = _reference()
    values = {"first_s": _median(firsts), "again_s": _median(agains), "window_s": _median(windows)}
    return {
        "bench": "start",
        "figures": {
            **values,
            "stop_s": _median(stops),
            "first_all": firsts,
            "again_all": agains,
            "window_all": windows,
        },
        "reference": reference,
        "ratio": {"first": round(values["first_s"] / reference["sum_s"], 2)},
        "aims": {name: {"value": values[name], "aim": aim, "ok": values[name] <= aim} for name, aim in AIMS.items()},
    }


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return round(time.perf_counter() - began, 3)


def _ready_after(made: Engine) -> float:
    def start() -> None:
        made.up(wait=False)
        while True:
            found = launch.read(made.profile)
            if found is not None and _healthy(str(found.health)):
                return
            assert made.process is not None
            if made.process.poll() is not None:
                raise RuntimeError(made.output())
            time.sleep(0.005)

    return _seconds(start)


def _healthy(url: str) -> bool:
    try:
        with open_here(f"{url}/health", 2) as answer:
            json.loads(answer.read())
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def _window() -> float:
    """Seconds from the start of the console's process to its first painted window, when it prints and ends."""
    with engine() as made:
        environment = {**made.environment, "QT_QPA_PLATFORM": "offscreen", "SYNCDESK_MEASURE_WINDOW": "1"}
        began = time.perf_counter()
        environment["SYNCDESK_STARTED"] = str(time.time())
        process = subprocess.Popen(
            [sys.executable, "-m", "gui.main"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process.stdout:
            line = process.stdout.readline()
        took = time.perf_counter() - began
        code = process.wait(60)
        if code != 0 or not line.strip():
            raise RuntimeError(f"The console ended with {code} and no first window.")
        return round(took, 3)


def _reference() -> dict[str, float]:
    pythons, brokers, databases = [], [], []
    for _ in range(ROUNDS):
        pythons.append(_seconds(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True, env=os.environ)))
        with throwaway_profile() as profile:
            broker, database = Valkey(profile), Postgres(profile)
            try:
                brokers.append(_seconds(broker.start))
                databases.append(_seconds(database.start))
            finally:
                broker.stop()
                database.stop()
    found = {"python_s": _median(pythons), "broker_s": _median(brokers), "database_s": _median(databases)}
    return {**found, "sum_s": round(sum(found.values()), 3)}
