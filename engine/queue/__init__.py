"""The queue on Redis: lanes, leases and a ledger under Dramatiq's Worker; hints, live view, control, reconciler."""

from engine.queue.connection import connect
from engine.queue.control import Control
from engine.queue.failed import FailedJobs
from engine.queue.hints import Hints
from engine.queue.keys import Keys
from engine.queue.reconciler import Reconciler
from engine.queue.view import View

__all__ = ["Control", "FailedJobs", "Hints", "Keys", "Reconciler", "View", "connect"]
