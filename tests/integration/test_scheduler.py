"""The scheduler on a real database and broker: one active, edits, clicks, catch-ups, records."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from engine import clock
from engine.queue import events
from engine.queue.connection import connect
from engine.queue.hints import Hints
from engine.queue.keys import Keys
from engine.queue.view import View
from engine.settings import Settings
from engine.store import Transport
from scheduler.process import Scheduler
from scheduler.work import Tools, backup_sync, health_check, retention
from tests.support.wait import until


@pytest.fixture
def tools(store: Transport, redis_url: str, namespace: str) -> Iterator[Tools]:
    """Real parts; no bank is reached by these jobs."""
    client, keys = connect(redis_url, "api"), Keys(namespace)

    def no_bank() -> Any:
        raise AssertionError("no bank here")

    yield Tools(
        settings=Settings(redis_url=redis_url, redis_namespace=namespace),
        store=store,
        hints=Hints(client, keys),
        deps=no_bank,
        publish=lambda topic, found=None: events.publish(client, keys, topic, found),
    )
    client.close()


@contextmanager
def running(tools: Tools, settings: Settings | None = None) -> Iterator[Scheduler]:
    made = Scheduler(settings or tools.settings, tools)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        made.stop()
        thread.join(30)
        assert not thread.is_alive()


def job(tools: Tools, name: str) -> dict[str, Any]:
    return next((row for row in tools.store.call("schedule_list")["jobs"] if row["id"] == name), {})


def test_it_defines_its_jobs_with_times_and_words(tools: Tools) -> None:
    with running(tools):
        row = until(lambda: job(tools, "backup_sync") if job(tools, "backup_sync").get("next_run_at") else None)
        assert row["words"] == "every 15 minutes"
        assert len(row["next_five"]) == 5
        listed = tools.store.call("schedule_list")
        assert listed["active"]
        names = {row["id"] for row in listed["jobs"]}
        assert names == {"backup_sync", "retention", "probe", "health_check", "stage_sweep", "watch"}
    assert not tools.store.call("schedule_list")["active"]  # the lease was handed on


def test_a_click_runs_it_at_once_and_is_recorded(tools: Tools) -> None:
    with running(tools):
        until(lambda: job(tools, "stage_sweep").get("next_run_at"))
        tools.store.call("schedule_put", id="stage_sweep", paused=True, who="test")
        tools.store.call("schedule_put", id="stage_sweep", run_now=True)
        last = until(lambda: job(tools, "stage_sweep")["last"])
        until(lambda: job(tools, "stage_sweep")["last"]["outcome"] == "done")
        assert last["at"]
        row = job(tools, "stage_sweep")
        assert row["paused"]
        assert row["next_run_at"] is None  # a click does not end a pause
        assert len(row["history"]) == 1


class Slow:
    """A store some of whose calls wait: ``before`` and ``after`` are told of each."""

    def __init__(self, store: Transport, before: Callable[[str], None], after: Callable[[str, Any], None]) -> None:
        self._store, self._before, self._after = store, before, after

    def call(self, name: str, /, **params: Any) -> Any:
        self._before(name)
        answer = self._store.call(name, **params)
        self._after(name, answer)
        return answer


def test_a_look_that_is_late_with_a_click_does_not_run_it_again(tools: Tools) -> None:
    """The look that finds a click may be answered before the run takes it, and read when the run is over."""
    looks, again = itertools.count(1), threading.Event()

    def before(name: str) -> None:
        if name == "schedule_ran":
            again.wait(30)

    def after(name: str, answer: Any) -> None:
        if name == "schedule_poll" and any(row["run_now"] for row in answer["jobs"]) and next(looks) == 2:
            again.set()
            until(lambda: (job(tools, "stage_sweep")["last"] or {}).get("outcome") == "done")
            until(lambda: not made._running)

    with running(dataclasses.replace(tools, store=Slow(tools.store, before, after))) as made:
        until(lambda: job(tools, "stage_sweep").get("next_run_at"))
        tools.store.call("schedule_put", id="stage_sweep", run_now=True)
        assert again.wait(30)
        seen = made._looks
        until(lambda: made._looks > seen + 2, what="two more looks")
    assert [run["outcome"] for run in job(tools, "stage_sweep")["history"]] == ["done"]


def test_a_run_that_outlives_its_scheduler_leaves_the_times_to_the_next_one(tools: Tools) -> None:
    begun, over = threading.Event(), threading.Event()

    def before(name: str) -> None:
        if name == "sync_sweep":
            begun.set()
            over.wait(60)

    with running(dataclasses.replace(tools, store=Slow(tools.store, before, lambda *_: None))) as first:
        until(lambda: job(tools, "stage_sweep").get("next_run_at"))
        tools.store.call("schedule_put", id="stage_sweep", run_now=True)
        assert begun.wait(30)
    with running(tools) as second:
        until(lambda: second.active and job(tools, "stage_sweep")["next_run_at"])
        over.set()
        until(lambda: job(tools, "stage_sweep")["last"]["outcome"] == "done")
        until(lambda: not first._running)
        assert [row["id"] for row in tools.store.call("schedule_list")["jobs"] if not row["next_run_at"]] == []


def test_pause_resume_and_edit_are_followed(tools: Tools) -> None:
    with running(tools):
        until(lambda: job(tools, "backup_sync").get("next_run_at"))
        tools.store.call("schedule_put", id="backup_sync", paused=True, who="test")
        until(lambda: job(tools, "backup_sync")["next_five"] == [])
        tools.store.call("schedule_put", id="backup_sync", paused=False, trigger={"every_s": 1})
        until(lambda: job(tools, "backup_sync")["words"] == "every second")
        until(lambda: len([r for r in job(tools, "backup_sync")["history"] if r["outcome"] == "done"]) >= 2)
    with running(tools):  # an edit outlives a restart, which defines the jobs again
        until(lambda: job(tools, "backup_sync").get("next_run_at"))
        assert job(tools, "backup_sync")["words"] == "every second"


def test_one_is_active_and_the_other_takes_over(tools: Tools) -> None:
    with ExitStack() as first_alone:
        first = first_alone.enter_context(running(tools))
        until(lambda: first.active)
        with running(tools) as second:
            tools.store.call("schedule_put", id="backup_sync", trigger={"every_s": 1})
            until(lambda: len(job(tools, "backup_sync")["history"]) >= 2)
            assert not second.active
            first_alone.close()
            until(lambda: second.active)
            last = job(tools, "backup_sync")["last"]["at"]
            until(lambda: job(tools, "backup_sync")["last"]["at"] > last)


def test_what_was_due_while_nobody_ran_runs_once(tools: Tools, database_url: str) -> None:
    with running(tools):
        until(lambda: job(tools, "backup_sync").get("next_run_at"))
    with psycopg.connect(database_url, autocommit=True) as connection:
        long_ago = clock.now() - timedelta(hours=9)
        connection.execute(
            "insert into syncdesk.schedule_runs (schedule_id, started_at, outcome) values ('backup_sync', %s, 'done')",
            [long_ago],
        )
        connection.execute(
            "insert into syncdesk.schedule_runs (schedule_id, started_at, outcome) values ('retention', %s, 'running')",
            [clock.now()],
        )
    with running(tools):
        until(lambda: [r["outcome"] for r in job(tools, "backup_sync")["history"]] == ["done", "done"])

        def left_s() -> float:
            return (clock.parse(job(tools, "backup_sync")["next_run_at"]) - clock.now()).total_seconds()

        until(lambda: left_s() > 600)  # told a moment after the run was recorded
        assert left_s() <= 900
        left = job(tools, "retention")["history"][-1]
        assert left["outcome"] == "failed"  # its scheduler had ended meanwhile
        assert "ended while" in left["text"]


def test_a_failing_job_is_recorded_and_goes_on(tools: Tools, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("drop function public.syncdesk_sync_sweep")
    with running(tools):
        until(lambda: job(tools, "stage_sweep").get("next_run_at"))
        tools.store.call("schedule_put", id="stage_sweep", run_now=True)
        until(lambda: (job(tools, "stage_sweep")["last"] or {}).get("outcome") == "failed")
        assert job(tools, "stage_sweep")["next_run_at"]


def add_item(url: str, number: int, **columns: Any) -> str:
    """A linked bank, as the tables have it."""
    with psycopg.connect(url, autocommit=True) as connection:
        user = connection.execute(
            "insert into syncdesk.users (name) values ('me') on conflict (name) do update set name = 'me' returning id"
        ).fetchone()
        values = {
            "plaid_item_id": f"item-{number}", "institution_name": "First Lakeside Bank", "environment": "simulated",
            "access_token": "sealed", "access_key_id": "k", "user_id": user[0], "state": "healthy", **columns,
        }  # fmt: skip
        names = ", ".join(values)
        marks = ", ".join(["%s"] * len(values))
        row = connection.execute(
            f"insert into syncdesk.items ({names}) values ({marks}) returning id", list(values.values())
        ).fetchone()
        return str(row[0])


def test_backup_queues_what_had_no_sync_lately_one_after_the_other(tools: Tools, database_url: str) -> None:
    late = clock.now() - timedelta(hours=1)
    for number in range(5):
        add_item(database_url, number, last_success_at=late)
    add_item(database_url, 5, last_success_at=clock.now())
    add_item(database_url, 6, last_success_at=late, paused_at=clock.now())
    add_item(database_url, 7, last_success_at=late, state="needs_you")
    slow = dataclasses.replace(tools, settings=dataclasses.replace(tools.settings, plaid_client_limit=2))
    assert backup_sync(slow, "corr-1") == "5 banks queued."
    client = connect(tools.settings.redis_url or "", "api")
    view = View(client, Keys(tools.settings.redis_namespace))
    waiting = view.jobs("waiting", "transactions", None, 50)["jobs"]
    delayed = view.jobs("delayed", "transactions", None, 50)["jobs"]
    client.close()
    assert len(waiting) == 1
    assert len(delayed) == 4  # a minute apart each: half of two calls a minute
    assert {row["lane"] for row in waiting + delayed} == {"medium"}
    assert {row["correlation_id"] for row in waiting + delayed} == {"corr-1"}
    due = sorted(clock.parse(row["due_at"]) for row in delayed)
    assert all(later - earlier >= timedelta(seconds=55) for earlier, later in itertools.pairwise(due))
    assert backup_sync(slow, "corr-2") == "Every bank was synced lately."


def test_backup_without_a_broker_leaves_the_wishes_in_the_database(tools: Tools, database_url: str) -> None:
    add_item(database_url, 1)
    away = connect("redis://127.0.0.1:9", "hint")
    cut = dataclasses.replace(tools, hints=Hints(away, Keys("x")))
    assert backup_sync(cut, "corr") == "1 bank queued. The queue could not be reached for 1; they follow."
    away.close()
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select wanted - done from syncdesk.items").fetchone() == (1,)


def test_health_check_warns_in_fixed_words(tools: Tools, database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    assert health_check(tools, "c") == "All queues are well."
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "insert into syncdesk.job_minutes (minute, queue, done, failed) values (date_trunc('minute', now()),"
            " 'transactions', 6, 6)"
        )
    for _ in range(2):
        assert health_check(tools, "c") == "Many jobs fail in transactions."
    assert caplog.text.count("⚠️ High failure rate in queue") == 1


def test_retention_keeps_what_is_young(tools: Tools, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "insert into syncdesk.audit (who, action, at)"
            " values ('a', 'old', now() - interval '500 days'), ('a', 'new', now())"
        )
    assert retention(tools, "c") == "1 old row removed."
    assert [row["action"] for row in tools.store.call("audit_list")["entries"]] == ["new"]
    assert retention(tools, "c") == "Nothing was old enough."
