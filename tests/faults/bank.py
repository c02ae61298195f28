"""The bank of a world: ``syncdeskctl sandbox`` as a process of its own, and the script played on it."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from engine import launch
from engine.demo.bank import BankControl
from engine.errors import StartError
from tests.faults.script import Event
from tests.support.engines import clean_environment
from tests.support.wait import until

REDELIVERED_S = 5.0
"""Seconds before a webhook that was not taken is sent again, then four times as long: Plaid's 30 s, shortened."""


class BankProcess:
    """A still bank on ``state``; what happens there is told to it from outside."""

    def __init__(self, state: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = ["sandbox", "--port", str(port), "--still", "--state", str(state)]
        self._log = state.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = launch.self_command([*self._command, "--webhook-retry", str(REDELIVERED_S)])
        with open(self._log, "ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                env=launch.self_environment(clean_environment()),
            )  # fmt: skip

    def ready(self) -> None:
        """Wait until it answers."""
        until(self._answers, 60, f"the bank, log {self._log}")

    def control(self) -> BankControl:
        return BankControl(self.url)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)

    def _answers(self) -> bool:
        assert self._process is None or self._process.poll() is None, self._log.read_text()
        try:
            with self.control() as control:
                return "faults" in control.ask("faults")
        except (httpx.HTTPError, StartError, OSError):
            return False


class Player(threading.Thread):
    """Plays a script at so many events a second; `tops` is the number of each item's latest change at the bank."""

    def __init__(self, bank: BankProcess, events: Sequence[Event], tops: dict[str, int], per_second: float) -> None:
        super().__init__(name="player", daemon=True)
        self._bank = bank
        self._events = events
        self._tops = dict(tops)
        self._apart_s = 1 / per_second
        self._lock = threading.Lock()
        self._hurry = threading.Event()
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self.played = 0

    def run(self) -> None:
        try:
            with self._bank.control() as control:
                due = time.monotonic()
                for event in self._events:
                    self._wait(due)
                    if self._stopped.is_set():
                        return
                    due = max(due + self._apart_s, time.monotonic() - 1)
                    control.do(event.operation, item_id=event.item_id, **event.body)
                    self.moved(event.item_id, event.changes)
                    self.played += 1
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for the end
            self._failure = error

    def _wait(self, due: float) -> None:
        while not self._hurry.is_set() and not self._stopped.is_set() and time.monotonic() < due:
            self._hurry.wait(min(0.05, max(0.0, due - time.monotonic())))

    def moved(self, item_id: str, changes: int) -> None:
        """The bank's ledger of an item went on by so many changes."""
        with self._lock:
            self._tops[item_id] += changes

    def tops(self) -> dict[str, int]:
        """As of now."""
        with self._lock:
            return dict(self._tops)

    def finish(self, deadline_s: float = 60.0) -> None:
        """Play the rest without pauses.

        Raises:
            AssertionError: the bank refused an event, or did not take them all in time.
        """
        self._hurry.set()
        self.join(deadline_s)
        assert self._failure is None, repr(self._failure)
        assert self.played == len(self._events), f"{self.played} events were played"

    def stop(self) -> None:
        self._stopped.set()
        self._hurry.set()
        if self.ident is not None:
            self.join(20)


def rewrite_address(state: Path, old_port: int, new_port: int) -> None:
    """Have a bank's journal send its webhooks to another port of this machine."""
    text = state.read_bytes()
    fresh = state.with_suffix(".new")
    fresh.write_bytes(text.replace(f"127.0.0.1:{old_port}/".encode(), f"127.0.0.1:{new_port}/".encode()))
    os.replace(fresh, state)
