"""Which process is which: known by pid *and* start time, never by the pid alone, for pids are used again."""

from __future__ import annotations

import sys

import psutil

_SAME_START_S = 0.005
"""Half a tick of Linux' process table; the other systems tell the start more finely."""


def start_time(pid: int) -> float:
    """When a process started, in seconds: one number through its life, whoever reads it, also when the clock is set.

    On Linux it counts from the boot, as the kernel keeps it (proc(5), ``starttime``): the same moment in seconds since
    the epoch is off by up to a second and shifts whenever the clock is set. Windows and macOS keep the epoch's.

    Raises:
        psutil.Error: there is no such process, or it may not be looked at.
    """
    created = psutil.Process(pid).create_time()
    return created - psutil.boot_time() if sys.platform == "linux" else created


def running(pid: int, started: float) -> psutil.Process | None:
    """The process of that pid if it runs and is the one whose `start_time` that was."""
    try:
        process = psutil.Process(pid)
        same = abs(start_time(pid) - started) < _SAME_START_S and alive(process)
        return process if same else None
    except psutil.Error:
        return None


def alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that is dead and not yet reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
