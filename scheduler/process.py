"""The scheduler's process: one of all that run is active, by a lease; the database says what it follows."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger

from engine import clock
from engine.errors import StartError, SyncdeskError, UsageError
from engine.logs import Outage, describe, logger
from engine.profile import Profile
from engine.settings import Settings
from scheduler import plan, triggers
from scheduler.clockwatch import ClockWatch
from scheduler.eager import Eager
from scheduler.work import Job, Tools, jobs

if TYPE_CHECKING:
    from engine.sync.deps import Deps

LOOK_S = 0.75
"""How often the lease is renewed and clicks and edits are looked for: within a second, as the console promises."""
LEASE_S = 10
CLICK = "#click"

log = logger("scheduler")


class Scheduler:
    """One scheduler. `run` blocks until `stop`."""

    def __init__(self, settings: Settings, tools: Tools, *, watch: ClockWatch | None = None) -> None:
        self._tools = tools
        self._jobs = {job.id: job for job in jobs(settings)}
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._watch = watch or ClockWatch()
        self._eager = Eager(tools)
        self._stop = threading.Event()
        self._fence: int | None = None
        self._followed: dict[str, tuple[Mapping[str, Any], bool]] = {}
        self._running: set[str] = set()
        self._looks = 0
        self._answered: dict[str, int] = {}  # up to which look a job's clicks have had their run
        self._lock = threading.Lock()
        self._planner = self._new_planner()

    @property
    def active(self) -> bool:
        """Whether this scheduler holds the lease."""
        return self._fence is not None

    def stop(self) -> None:
        """End soon. Any thread."""
        self._stop.set()

    def run(self) -> None:
        """Look, follow and run jobs until stopped; then hand the lease on."""
        self._planner.start()
        defined = False
        outage = Outage(log, "The schedule could not be looked at", "The schedule goes on")
        try:
            while not self._stop.is_set():
                try:
                    if not defined:
                        self._define()
                        defined = True
                    self._look()
                    outage.worked()
                except Exception as error:  # noqa: BLE001 - told; one that is a defect must not end the schedule
                    outage.failed(error)
                    if isinstance(error, SyncdeskError):
                        self._forget()
                self._stop.wait(LOOK_S)
        finally:
            self._end()

    # ------------------------------------------------------------ looking

    @staticmethod
    def _new_planner() -> BackgroundScheduler:
        return BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(4)},
            # No limit on lateness: what was due during sleep runs once. One instance of a job at a time.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            timezone=UTC,
        )

    def _define(self) -> None:
        for job in self._jobs.values():
            trigger = dict(job.trigger)
            self._tools.store.call(
                "schedule_define", id=job.id, label=job.label, trigger=trigger, words=triggers.words(trigger)
            )

    def _look(self) -> None:
        self._looks += 1
        seen = self._tools.store.call("schedule_poll", owner=self._owner, ttl_s=LEASE_S)
        if not seen["held"]:
            self._stand_by()
            return
        if self._fence != seen["fence"]:
            self._fence = seen["fence"]
            self._tools.store.call("schedule_interrupted", fence=self._fence)
            self._followed.clear()
            log.info("This scheduler is active", owner=self._owner)
        jump = self._watch.jumped()
        if jump is not None:
            self._follow_jump(jump.total_seconds())
        changed = [row for row in seen["jobs"] if row["id"] in self._jobs and self._follow(row)]
        if changed or jump is not None:
            self._tell_times()
        for row in seen["jobs"]:
            if row["run_now"] and row["id"] in self._jobs:
                self._click(row["id"])
        self._eager.look(seen["jobs"])

    def _stand_by(self) -> None:
        if self._fence is not None:
            log.info("Another scheduler is active", owner=self._owner)
            self._forget()

    def _forget(self) -> None:
        """Plan nothing and tell no times: another is active, or without the database nobody knows who is."""
        with self._lock:
            self._fence = None
            self._followed.clear()
            self._planner.remove_all_jobs()

    def _follow(self, row: Mapping[str, Any]) -> bool:
        """Plan a job as the database says; whether anything changed."""
        now, before = clock.now(), self._followed.get(row["id"])
        state = (row["trigger"], row["paused"])
        if before == state:
            return False
        self._followed[row["id"]] = state
        if row["paused"]:
            if self._planner.get_job(row["id"]) is not None:
                self._planner.remove_job(row["id"])
            return True
        edited = before is not None and before[0] != row["trigger"]
        last = clock.parse(row["last_started_at"]) if row["last_started_at"] and not edited else None
        try:
            trigger, due = plan.first_run(row["trigger"], last, now)
        except UsageError as error:
            log.warning("A schedule cannot be read", job=row["id"], reason=error.message)
            return True
        self._plan(row["id"], trigger, due)
        return True

    def _plan(self, job_id: str, trigger: Any, due: datetime | None) -> None:
        if due is not None:
            self._planner.add_job(
                self._execute, trigger, args=(job_id,), id=job_id, next_run_time=due, replace_existing=True
            )

    def _follow_jump(self, seconds: float) -> None:
        log.warning("The clock jumped; the schedule is computed anew", seconds=round(seconds, 1))
        now = clock.now()
        for job in self._planner.get_jobs():
            state = self._followed.get(job.id)
            if state is not None and job.next_run_time is not None:
                trigger, due = plan.after_jump(state[0], job.next_run_time, now, timedelta(seconds=seconds))
                self._plan(job.id, trigger, due)
        self._planner.wakeup()

    def _tell_times(self) -> None:
        with self._lock:
            told = {job_id: self._times(job_id, trigger) for job_id, (trigger, _paused) in self._followed.items()}
        if told:  # a run that outlives its scheduler's time leaves the times to the next one
            self._tools.store.call("schedule_next", next=told)
            self._publish()

    def _times(self, job_id: str, trigger: Mapping[str, Any]) -> dict[str, Any]:
        planned = self._planner.get_job(job_id)
        times = triggers.next_times(planned.trigger, planned.next_run_time) if planned is not None else []
        stamps = [clock.iso(moment) for moment in times]
        return {
            "next_run_at": stamps[0] if stamps else None,
            "next_five": stamps,
            "words": triggers.words(trigger),
        }

    def _publish(self) -> None:
        try:
            self._tools.publish("schedule", None)
        except SyncdeskError as error:
            log.info("A change of the schedule was not announced", code=error.code)

    # ------------------------------------------------------------ running

    def _click(self, job_id: str) -> None:
        if job_id not in self._running and self._planner.get_job(job_id + CLICK) is None:
            self._planner.add_job(
                self._execute, DateTrigger(clock.now(), timezone=UTC), args=(job_id, self._looks), id=job_id + CLICK
            )

    def _execute(self, job_id: str, click: int | None = None) -> None:
        """Run a job once and record it; two at a time of one job never. ``click``: the look that found a person's."""
        with self._lock:
            if job_id in self._running or self._fence is None:
                return
            if click is not None and click <= self._answered.get(job_id, 0):
                return  # that look was older than the run that answered the click
            self._running.add(job_id)
        try:
            self._recorded(self._jobs[job_id], click is not None)
        except SyncdeskError as error:
            log.warning("A scheduled run could not be recorded", job=job_id, code=error.code)
        finally:
            with self._lock:
                self._running.discard(job_id)

    def _recorded(self, job: Job, by_person: bool) -> None:
        call, correlation, began = self._tools.store.call, str(uuid.uuid4()), clock.monotonic()
        run = call("schedule_ran", id=job.id, outcome="running", by_person=by_person, correlation=correlation)["run"]
        if by_person:
            self._answered[job.id] = self._looks
        try:
            text, outcome = job.run(self._tools, correlation), "done"
        except SyncdeskError as error:
            text, outcome = error.message, "failed"
        except Exception as error:
            text, outcome = f"It failed inside Syncdesk ({describe(error)}); the log has where.", "failed"
            log.exception("A scheduled job failed", job=job.id)
        took = int(clock.ms_since(began))
        call("schedule_ran", id=job.id, outcome=outcome, run=run, duration_ms=took, text=text)
        log.info("Scheduled job ended", job=job.id, outcome=outcome, ms=took, by_person=by_person)
        self._tell_times()

    def _end(self) -> None:
        self._forget()
        self._planner.shutdown(wait=False)
        try:
            self._tools.store.call("named_lease_release", name="scheduler", owner=self._owner)
        except SyncdeskError as error:
            log.info("The scheduler's lease runs out by itself", code=error.code)
        log.info("The scheduler ended")


def main(settings: Settings, profile: Profile) -> int:
    """Run the scheduler in this process until SIGTERM or SIGINT.

    Raises:
        StartError, StoreUnavailable: it is not told where broker or database are.
    """
    if not settings.redis_url:
        raise StartError("The scheduler needs the broker's address: set REDIS_URL, or start the engine.")
    from engine.queue import events, totals
    from engine.queue.connection import connect
    from engine.queue.hints import Hints
    from engine.queue.keys import Keys
    from engine.store import open_store

    client, keys = connect(settings.redis_url, "api", settings.redis_ca_file), Keys(settings.redis_namespace)
    store = open_store(settings)
    hints = Hints(client, keys)

    def publish(topic: str, identifier: str | None = None) -> None:
        events.publish(client, keys, topic, identifier)

    def deps() -> Deps:
        from engine.plaid.client import PlaidClient
        from engine.secrets import Secrets
        from engine.sync.deps import Deps

        return Deps(
            store=store,
            plaid=PlaidClient(settings, totals.plaid_calls(client, keys)),
            secrets=Secrets(profile, settings),
            settings=settings,
            owner="scheduler",
            hints=hints,
            publish=publish,
        )

    made = Scheduler(settings, Tools(settings=settings, store=store, hints=hints, deps=deps, publish=publish))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: made.stop())
    made.run()
    store.close()
    return 0
