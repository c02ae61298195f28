"""Bulk actions over failed jobs: the set fixed at the click, one transaction a step, whoever takes it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import uuid

import pytest

from engine.errors import Conflict, NotFound, StoreUnavailable
from engine.store import Transport
from engine.store.direct import Direct
from tests.support.failing import USER, World
from tests.support.wait import until


@pytest.fixture
def world(store: Transport, database_url: str) -> World:
    return World(store, database_url)


@pytest.fixture
def any_world(any_store: Transport, any_database_url: str) -> World:
    """The same over each supported way to a database."""
    return World(any_store, any_database_url)


def test_a_retry_tries_one_first_and_releases_the_rest_when_that_went_through(any_world: World) -> None:
    world = any_world
    items = world.failed(12)
    bulk_id = world.begin(12, canary=True)
    first = world.step()
    assert first == items[:1]
    assert world.step() == []
    assert world.bulk(bulk_id)["state"] == "canary"
    world.went_through(*first)
    rest = world.step()
    assert rest == items[1:]
    found = world.bulk(bulk_id)
    assert (found["state"], found["total"], found["done"], found["released"]) == ("running", 12, 1, 11)
    world.went_through(*rest)
    world.step()
    found = world.bulk(bulk_id)
    assert (found["state"], found["done"], found["released"], found["skipped"]) == ("done", 12, 0, 0)
    assert world.wanted() == dict.fromkeys(items, 1)
    assert world.run("select count(*) from syncdesk.failed_jobs where state <> 'retried'") == [(0,)]
    (said,) = world.run("select who, result from syncdesk.audit where action = 'bulk.done'")
    assert said == ("tester", "Retry: 12 of 12 done, 0 skipped, 0 failed.")


def test_a_canary_that_fails_stops_it_and_a_person_may_go_on(world: World) -> None:
    items = world.failed(11)
    bulk_id = world.begin(11, canary=True)
    (first,) = world.step()
    world.fail(first, "again")
    assert world.step() == []
    found = world.bulk(bulk_id)
    assert (found["state"], found["failed"]) == ("stopped", 1)
    assert found["note"] == "The first job of First Bank failed again (BROKEN), so the rest was not started."
    assert found["reasons"] == [{"state": "failed", "reason": "BROKEN", "count": 1}]
    assert world.step() == []
    assert sum(world.wanted().values()) == 1
    world.store.call("bulk_change", id=bulk_id, change="resume")
    rest = world.step()
    assert rest == items[1:]
    world.went_through(*rest)
    world.step()
    assert world.bulk(bulk_id)["state"] == "done"
    assert world.wanted() == dict.fromkeys(items, 1)


def test_one_canary_for_each_cause_and_another_where_one_is_left_out(world: World) -> None:
    first, second = world.failed(3, group="a"), world.failed(3, group="b")
    bulk_id = world.begin(6, canary=True)
    world.run("update syncdesk.items set removed_at = now() where id = %s::uuid", first[0])
    assert world.step() == [second[0]]
    world.went_through(second[0])
    assert world.step() == [first[1]]
    world.went_through(first[1])
    assert sorted(world.step()) == sorted([first[2], *second[1:]])
    assert world.bulk(bulk_id)["skipped"] == 1


def test_webhooks_and_notifications_are_judged_by_their_rows(world: World) -> None:
    notices = [world.store.call("outbox_add", kind="test", correlation="c", payload={})["id"] for _ in range(3)]
    hooks = [row[0] for row in world.run(
        "insert into syncdesk.inbox (body, body_sha256, correlation_id) select '{}', n::text, 'c'"
        " from generate_series(1, 3) n returning id"
    )]  # fmt: skip
    for found in notices:
        world.fail(str(found), queue="notifications", group="n", user_id=None)
    for found in hooks:
        world.fail(str(found), queue="webhooks", group="w", user_id=None, arguments={"inbox_id": found})
    bulk_id = world.begin(6)
    assert sorted(world.step()) == sorted(str(found) for found in notices + hooks)
    assert world.run("select distinct state from syncdesk.inbox") == [("received",)]
    world.run("update syncdesk.outbox set sent_at = now() where id = %s", notices[0])
    world.run("delete from syncdesk.outbox where id = %s", notices[1])
    world.fail(str(notices[2]), "again", queue="notifications", group="n", user_id=None)
    world.run("update syncdesk.inbox set state = 'processed' where id = %s", hooks[0])
    world.run("update syncdesk.inbox set state = 'processed', reason = 'cancelled' where id = %s", hooks[1])
    world.fail(str(hooks[2]), "once more", queue="webhooks", group="w", user_id=None, arguments={"inbox_id": hooks[2]})
    world.step()
    found = world.bulk(bulk_id)
    assert (found["state"], found["done"], found["skipped"], found["failed"]) == ("done", 2, 2, 2)
    assert {row["reason"] for row in found["reasons"]} == {
        "BROKEN", "The notification is no longer kept", "It was cancelled",
    }  # fmt: skip


def test_a_run_that_ends_in_the_banks_trouble_counts_as_failed(world: World) -> None:
    (found,) = world.failed(1)
    bulk_id = world.begin(1)
    world.step()
    world.run(
        "insert into syncdesk.sync_runs (id, item_id, user_id, trigger, correlation_id, fence, state, finished_at)"
        " values (gen_random_uuid(), %s::uuid, %s::uuid, 'retry', 'c', 1, 'failed', clock_timestamp())",
        found, USER,
    )  # fmt: skip
    world.run(
        "update syncdesk.items set done = wanted, state = 'needs_you', state_code = 'ITEM_LOGIN_REQUIRED'"
        " where id = %s::uuid", found,
    )  # fmt: skip
    world.step()
    assert world.bulk(bulk_id)["reasons"] == [{"state": "failed", "reason": "ITEM_LOGIN_REQUIRED", "count": 1}]


def test_more_than_the_person_saw_is_refused(world: World) -> None:
    world.failed(11)
    seen = world.store.call("bulk_preview", verb="retry", filter={"group": "cause"})
    assert seen["total"] == 11
    assert seen["causes"] == [{"fingerprint": "cause", "code": "BROKEN", "title": "It broke", "count": 11}]
    world.failed(1)
    with pytest.raises(Conflict, match="12 jobs match now, more than the 11 that you saw; nothing was done"):
        world.begin(11, filter={"group": "cause"})
    assert world.run("select count(*) from syncdesk.bulks") == [(0,)]
    with pytest.raises(Conflict, match="No job matches any more"):
        world.begin(11, filter={"group": "another"})


def test_what_fails_after_the_click_is_not_part_of_it(world: World) -> None:
    items = world.failed(3)
    world.begin(3)
    world.failed(2)
    assert world.step() == items


def test_undo_before_the_release_and_stop_after_it(world: World) -> None:
    world.failed(3)
    bulk_id = world.begin(3, hold_ms=600_000)
    assert world.step() == []
    assert world.bulk(bulk_id)["held_ms"] > 500_000
    world.store.call("bulk_change", id=bulk_id, change="undo")
    assert world.bulk(bulk_id)["state"] == "undone"
    assert world.step() == []
    with pytest.raises(Conflict, match="undone already"):
        world.store.call("bulk_change", id=bulk_id, change="undo")

    bulk_id = world.begin(3, canary=True)
    (first,) = world.step()
    with pytest.raises(Conflict, match="stop it instead"):
        world.store.call("bulk_change", id=bulk_id, change="undo")
    world.store.call("bulk_change", id=bulk_id, change="stop")
    world.went_through(first)
    assert world.step() == []
    assert (world.bulk(bulk_id)["state"], world.bulk(bulk_id)["done"]) == ("stopped", 1)
    assert sum(world.wanted().values()) == 1
    with pytest.raises(NotFound):
        world.store.call("bulk_change", id=str(uuid.uuid4()), change="stop")


def test_what_is_left_out_says_why(world: World) -> None:
    removed, paused, retried, well, job = world.items(5)
    ids = {target: world.fail(target) for target in (removed, paused, retried, well, job)}
    bulk_id = world.begin(5)
    world.run("update syncdesk.items set removed_at = now() where id = %s::uuid", removed)
    world.run("update syncdesk.items set paused_at = now() where id = %s::uuid", paused)
    world.store.call("jobs_failed_mark", job_id=ids[retried], state="retried")
    world.run("update syncdesk.failure_group_items set open = false where target = %s", well)
    assert world.step() == [job]
    assert world.wanted()[retried] == 1
    reasons = {row["reason"]: row["count"] for row in world.bulk(bulk_id)["reasons"]}
    assert reasons == {
        "The bank link was removed": 1, "The bank is paused": 1, "It was retried meanwhile": 1,
        "It went through meanwhile": 1,
    }  # fmt: skip
    rows = world.store.call("bulk_entries", id=bulk_id, state="skipped", limit=3)
    more = world.store.call("bulk_entries", id=bulk_id, state="skipped", limit=3, after=int(rows["next"]))
    assert (len(rows["entries"]), len(more["entries"]), more["next"]) == (3, 1, None)


def test_every_kind_of_filter(world: World) -> None:
    lake, hill = world.items(2, "Lake Bank"), world.items(1, "Hill Bank")
    jobs = [world.fail(found, institution="Lake Bank", group="a") for found in lake]
    other = world.fail(hill[0], institution="Hill Bank", group="b", lane="low",
                       error={"code": "OTHER", "kind": "bug", "title": "Other", "sentence": "o"})  # fmt: skip
    world.run("update syncdesk.failed_jobs set failed_at = '2026-01-01T10:00:00Z' where job_id = %s", other)
    for asked, count in (
        ({}, 3), ({"queue": "transactions"}, 3), ({"queue": "webhooks"}, 0), ({"lane": "low"}, 1), ({"group": "a"}, 2),
        ({"code": "OTHER"}, 1), ({"item": hill[0]}, 1), ({"institution": "Lake Bank"}, 2), ({"user": USER}, 3),
        ({"since": "2026-01-02T00:00:00Z"}, 2), ({"until": "2026-01-02T00:00:00Z", "lane": "low"}, 1),
        ({"q": "lake"}, 2),
        ({"ids": [jobs[0], other]}, 2), ({"ids": [jobs[0]], "code": "OTHER"}, 0),
    ):  # fmt: skip
        assert world.store.call("bulk_preview", verb="retry", filter=asked)["total"] == count, asked


def test_a_retry_reaches_what_was_trimmed_and_each_bank_once(world: World) -> None:
    items = world.failed(6, keep=2)
    world.fail(items[-1], keep=2)
    assert world.run("select count(*) from syncdesk.failed_jobs where state = 'failed'") == [(2,)]
    assert world.store.call("bulk_preview", verb="retry", filter={"group": "cause"})["total"] == 6
    world.begin(6, filter={"group": "cause"})
    assert sorted(world.step()) == sorted(items)
    assert world.wanted() == dict.fromkeys(items, 1)


def test_discard_puts_jobs_aside_and_they_can_be_restored(world: World) -> None:
    items = world.failed(6, keep=4)
    bulk_id = world.begin(6, "discard", filter={"group": "cause"})
    assert world.step() == []
    found = world.bulk(bulk_id)
    assert (found["state"], found["done"], found["skipped"]) == ("done", 6, 0)
    (group,) = world.store.call("failure_groups_list")["groups"]
    assert (group["open_jobs"], group["count"]) == (0, 6)
    assert world.store.call("jobs_failed_list", state="discarded")["counts"] == {"failed": 0, "discarded": 4}
    assert world.store.call("unfinished")["items"] == []
    (job_id,) = world.run("select job_id from syncdesk.failed_jobs where item_id = %s::uuid", items[-1])[0]
    world.store.call("jobs_failed_mark", job_id=job_id, state="failed")
    (group,) = world.store.call("failure_groups_list")["groups"]
    assert group["open_jobs"] == 1
    assert sum(world.wanted().values()) == 0


def test_the_pace_holds_for_all_bulk_actions_of_a_queue_together(world: World) -> None:
    world.failed(30, group="a")
    world.failed(30, group="b")
    for group in ("a", "b"):
        world.begin(30, filter={"group": group}, per_second=10)
    stop = threading.Event()

    def drive() -> None:
        while not stop.is_set():
            world.step()

    threads = [threading.Thread(target=drive) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: world.run("select count(*) from syncdesk.bulk_entries where state = 'released'") >= [(25,)])
    stop.set()
    for thread in threads:
        thread.join()
    times = [at for (at,) in world.run(
        "select extract(epoch from released_at)::float8 from syncdesk.bulk_entries where state = 'released' order by 1"
    )]  # fmt: skip
    most = max(sum(start <= at < start + 1 for at in times) for start in times)
    assert most <= 14  # ten, a quarter of a second's worth that was owed, and one that falls on the edge


def test_two_that_drive_one_bulk_release_each_job_once(world: World, database_url: str) -> None:
    items = world.failed(200)
    bulk_id = world.begin(200)
    stores = [Direct(database_url) for _ in range(4)]
    released: list[str] = []

    def drive(store: Transport) -> None:
        while world.bulk(bulk_id)["state"] != "done":
            rows = [row["target"] for row in store.call("bulk_step")["rows"]]
            released.extend(rows)
            world.went_through(*rows)

    threads = [threading.Thread(target=drive, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for store in stores:
        store.close()
    assert sorted(released) == sorted(items)
    assert world.wanted() == dict.fromkeys(items, 1)
    assert world.bulk(bulk_id)["done"] == 200


def test_what_went_through_since_is_retried_only_where_its_job_is_named(world: World) -> None:
    well, broken = world.items(2)
    job_id = world.fail(well)
    world.fail(broken)
    world.run("update syncdesk.failure_group_items set open = false where target = %s", well)
    (group,) = world.store.call("failure_groups_list")["groups"]
    assert (group["open_jobs"], group["failed"]) == (1, 2)
    for verb, asked, count in (
        ("retry", {"group": "cause"}, 1), ("retry", {"ids": [job_id]}, 1), ("discard", {"group": "cause"}, 2),
    ):  # fmt: skip
        assert world.store.call("bulk_preview", verb=verb, filter=asked)["total"] == count
    world.begin(1, filter={"ids": [job_id]})
    assert world.step() == [well]


DRIVER = """
import sys, threading
from engine.jobs.bulk import BulkDriver
from engine.queue import Control, Hints
from engine.queue.connection import connect
from engine.queue.keys import Keys
from engine.store.direct import Direct
client, keys = connect(sys.argv[2], "api"), Keys(sys.argv[3])
store = Direct(sys.argv[1])
driver = BulkDriver(store, Hints(client, keys), Control(client, keys, store), lambda *_: None, sys.argv[4])
driver.run(threading.Event())
"""


def test_a_killed_process_leaves_a_bulk_that_the_next_one_carries_on(
    world: World, database_url: str, redis_url: str, namespace: str
) -> None:
    from engine.queue import Reconciler
    from engine.queue.connection import connect
    from engine.queue.keys import Keys

    items = world.failed(60)
    bulk_id = world.begin(60, per_second=4)

    def driver(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", DRIVER, database_url, redis_url, namespace, name])

    first = driver("first")
    try:
        until(lambda: world.bulk(bulk_id)["released"] >= 2, 40)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    held = world.bulk(bulk_id)["released"]
    assert held < 60
    world.run("update syncdesk.bulks set per_second = 30")  # it was slow enough to be killed amid its work
    second = driver("second")
    try:
        until(lambda: world.bulk(bulk_id)["released"] == 60, 40)
    finally:
        second.kill()
        second.wait()
    assert world.wanted() == dict.fromkeys(items, 1)
    keys = Keys(namespace)
    with connect(redis_url, "api") as client:
        Reconciler(world.store, client, keys).run_once()  # what the killed one released and did not hint
        hinted = {str(client.hget(keys.job(str(client.get(key))), "item"))
                  for key in client.scan_iter(match=keys.hint("transactions:*").replace("{", "[{]"))}  # fmt: skip
        assert hinted == set(items)
        for key in client.scan_iter(match=keys.prefix.replace("{", "[{]") + "*"):
            client.delete(key)


def test_a_mute_ends_when_the_group_grows(world: World) -> None:
    world.failed(3)
    assert world.store.call("failure_group_mute", fingerprint="cause", muted=True)["muted_until"] == 6
    world.run("delete from syncdesk.outbox")
    world.run("update syncdesk.failure_group_hours set hour = hour - interval '2 hours'")  # a new hour would alarm
    world.failed(3)
    (group,) = world.store.call("failure_groups_list")["groups"]
    assert (group["muted"], group["count"]) == (True, 6)
    assert world.store.call("queue_stats")["transactions"]["muted"] == 6
    assert world.run("select count(*) from syncdesk.outbox") == [(0,)]
    world.failed(1)
    (group,) = world.store.call("failure_groups_list")["groups"]
    assert (group["muted"], group["count"], group["failed"]) == (False, 7, 7)
    assert world.store.call("queue_stats")["transactions"]["muted"] == 0
    assert world.run("select kind from syncdesk.outbox") == [("job_failed",)]
    with pytest.raises(NotFound):
        world.store.call("failure_group_mute", fingerprint="nothing", muted=True)


COUNTED = """
    select kind, key, n from (
        select state as kind, queue as key, count(*) as n from syncdesk.failed_jobs group by 1, 2
        union all select 'group', fingerprint, count(*) from syncdesk.failed_jobs where state = 'failed' group by 2
        union all select 'open', fingerprint, count(*) from syncdesk.failure_group_items
            where open and not discarded group by 2) c order by 1, 2
"""
KEPT = "select kind, key, sum(n)::bigint from syncdesk.tallies group by 1, 2 having sum(n) <> 0 order by 1, 2"


def test_kept_counters_are_what_counting_gives(world: World, database_url: str) -> None:
    items = world.items(20)

    def live(seed: int) -> None:
        dice = random.Random(seed)
        store = Direct(database_url)
        mine = World(store, database_url)
        ids: list[str] = []
        for _ in range(60):
            kind = dice.randrange(6)
            try:
                if kind < 3 or not ids:
                    ids.append(mine.fail(dice.choice(items), group=f"g{dice.randrange(3)}", keep=25))
                elif kind == 3:
                    state = dice.choice(["discarded", "failed", "retried"])
                    store.call("jobs_failed_mark", job_id=dice.choice(ids), state=state)
                elif kind == 4:
                    store.call("failure_group_retry", fingerprint=f"g{dice.randrange(3)}", expected=99, correlation="c")
                else:
                    store.call("tallies_fold")
            except (Conflict, NotFound, StoreUnavailable):
                pass  # the victim of a deadlock is rolled back as a whole
        store.close()

    threads = [threading.Thread(target=live, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        with_one_snapshot = world.run(
            f"select array(select t::text from ({COUNTED}) t), array(select t::text from ({KEPT}) t)"
        )
        assert with_one_snapshot[0][0] == with_one_snapshot[0][1]
    assert world.run(COUNTED) == world.run(KEPT)
    assert sum(n for kind, _, n in world.run(KEPT) if kind == "failed") <= 25 + 6
    while world.store.call("tallies_fold")["folded"]:
        pass
    assert world.run(COUNTED) == world.run(KEPT)
    world.run("delete from syncdesk.failure_groups")
    world.run("truncate syncdesk.failed_jobs")
    assert world.run(KEPT) == []
