"""Waiting in tests: for a condition, with a deadline; never for a length of time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], deadline_s: float = 60.0, what: str = "the condition") -> T:
    """Poll until ``condition`` gives something true, and return that. The deadline is no measure: it ends what hangs.

    Raises:
        AssertionError: the deadline passed; the message has the last value.
    """
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come within {deadline_s} s; last seen: {value!r}")
        time.sleep(0.005)
