"""The table of faults, in the order in which they are run."""

from __future__ import annotations

from tests.faults import clocks, crowds, elsewhere, processes, services
from tests.faults.run import Fault
from tests.faults.world import Shape

_OWN_BROKER = Shape(own_broker=True)
_PRELOAD = Shape(preload=True)


def faults() -> dict[str, Fault]:
    """By name."""
    table = [
        Fault("worker_killed", processes.worker_killed),
        Fault("workers_killed", processes.workers_killed),
        Fault("worker_stopped", processes.worker_stopped),
        Fault("worker_over_memory", processes.over_memory, _PRELOAD),
        Fault("host_killed", processes.host_killed),
        Fault("scheduler_killed", processes.scheduler_killed),
        Fault("broker_killed", services.broker_killed),
        Fault("broker_away", services.broker_away, _OWN_BROKER),
        Fault("broker_emptied", services.broker_emptied),
        Fault("broker_replaced", services.broker_replaced, _OWN_BROKER),
        Fault("database_killed", services.database_killed),
        Fault("connections_cut", services.connections_cut),
        Fault("database_read_only", services.database_read_only),
        Fault("disk_full", services.disk_full, Shape(tmpfs_mb=700)),
        Fault("bank_down", elsewhere.bank_down),
        Fault("bank_dripping", elsewhere.bank_dripping),
        Fault("bank_garbage", elsewhere.bank_garbage),
        # Its limit learned from refusals is less than a backup sync every ten seconds would take.
        Fault("bank_limits", elsewhere.bank_limits, Shape({"SYNCDESK_BACKUP_EVERY_S": "60"})),
        Fault("mutation_storm", elsewhere.mutation_storm, moves_cursors=True),
        Fault("clock_forward", clocks.forward, _PRELOAD),
        Fault("clock_back", clocks.back, _PRELOAD),
        Fault("poison", crowds.poison),
        Fault("webhooks_flood", crowds.webhooks_flood, Shape({"PLAID_WEBHOOK_SECRET": crowds.SECRET})),
        Fault("delayed_behind", crowds.delayed_behind),
        Fault("two_hosts", crowds.two_hosts),
        Fault("replicas", crowds.replicas),
    ]
    return {fault.name: fault for fault in table}
