"""What travels between the queue and those who run its jobs: a taken job, and how it ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from dramatiq import Message
from dramatiq.broker import MessageProxy

from engine.clock import monotonic

# How much a job's references may hold; a payload that needs more does not hold references.
MAX_ARGUMENTS = 4096


@dataclass(frozen=True, slots=True)
class Taken:
    """A job that this process runs now. ``start`` is its number among the job's starts, from 1.

    ``early``: the shared cause for which it waits and which it tries before its time (`engine.queue.lua_causes`).
    """

    id: str
    queue: str
    actor: str
    args: str
    kwargs: str
    lane: str
    user_id: str
    item_id: str
    institution: str
    trigger: str
    correlation: str
    queued_ms: int
    start: int
    tries: int
    final: str
    waited_ms: int
    key: str
    early: str = ""

    @classmethod
    def from_script(cls, queue: str, text: str) -> Taken:
        """Read one job of the take script's answer."""
        row: list[str] = json.loads(text)
        return cls(
            id=row[0],
            queue=queue,
            actor=row[1],
            args=row[2],
            kwargs=row[3],
            lane=row[4],
            user_id=row[5],
            item_id=row[6],
            institution=row[7],
            trigger=row[8],
            correlation=row[9],
            queued_ms=int(row[10]),
            start=int(row[11]),
            tries=int(row[12]),
            final=row[13],
            waited_ms=int(row[14]),
            key=row[15],
            early=row[16],
        )

    def message(self) -> Message[Any]:
        """The job as Dramatiq's message. Arguments that are no JSON are left out: its actor then refuses the job."""
        try:
            args, kwargs = tuple(json.loads(self.args)), dict(json.loads(self.kwargs))
        except (ValueError, TypeError):
            args, kwargs = (), {}
        return Message(
            queue_name=self.queue,
            actor_name=self.actor,
            args=args,
            kwargs=kwargs,
            options={},
            message_id=self.id,
            message_timestamp=self.queued_ms,
        )


@dataclass(slots=True)
class Outcome:
    """How a start ended, decided by middleware and carried out by the consumer.

    ``error`` is JSON of a scrubbed error; of one that is done, the kind of what kept it from going through.
    ``counts``: whether a retry uses up one of the attempts;
    ``forget``: nothing was tried, so the ledger does not even tell of the start.
    ``more``: the wish was raised again meanwhile, so one more job follows. ``exception``: for the record
    of one that failed for good; None where it comes from Redis only to be recorded.
    """

    kind: Literal["done", "retry", "failed", "back"]
    error: str = ""
    delay_ms: int = 0
    counts: bool = True
    forget: bool = False
    more: bool = False
    exception: BaseException | None = None
    cause: str = ""
    past: tuple[str, ...] = ()


class Proxy(MessageProxy):
    """Dramatiq's view of a taken job, with what we know besides."""

    def __init__(self, job: Taken) -> None:
        super().__init__(job.message())
        self.job = job
        self.outcome: Outcome | None = None
        self.began = monotonic()
        self.counts: dict[str, Any] = {}  # what an actor adds to the line of its end
        self.steps, self.last_step, self.stepped = 0, "", self.began  # see `engine.jobs.steps`
        self.past: tuple[str, ...] = ()  # shared causes of failure that it met in good health

    def step(self, name: str) -> None:
        """The job got on: ``name`` is what it did last."""
        self.steps, self.last_step, self.stepped = self.steps + 1, name, monotonic()

    @property
    def still_ms(self) -> int:
        """Milliseconds since the last step, or since the start."""
        return int((monotonic() - self.stepped) * 1000)

    @property
    def duration_ms(self) -> int:
        """Milliseconds since the start."""
        return int((monotonic() - self.began) * 1000)
