"""The table of faults, in the order in which they are run."""

from __future__ import annotations

from tests.faults import processes
from tests.faults.run import Fault


def faults() -> dict[str, Fault]:
    """By name."""
    table = [
        Fault("worker_killed", processes.worker_killed),
        Fault("workers_killed", processes.workers_killed),
        Fault("worker_stopped", processes.worker_stopped),
        Fault("host_killed", processes.host_killed),
        Fault("scheduler_killed", processes.scheduler_killed),
    ]
    return {fault.name: fault for fault in table}
