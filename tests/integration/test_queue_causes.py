"""Jobs that retry for a cause which others share: a canary tries, and the first success lets the rest go."""

from __future__ import annotations

from collections.abc import Iterator

import dramatiq
import pytest

from engine.errors import StoreRefused, StoreUnavailable
from engine.jobs import causes
from engine.jobs.pace import Later
from engine.plaid.errors import plaid_error
from engine.queue import Control, Hints, buckets, scripts
from engine.queue.jobs import Taken
from engine.store import Transport
from tests.support.queue import Bench, bench, settings
from tests.support.queue_steps import LEASE_MS, fail, pass_time, put, settle, take
from tests.support.wait import until

CAUSES = "causes:transactions"


@pytest.fixture
def world(redis_url: str, namespace: str) -> Iterator[Bench]:
    with bench(redis_url, namespace) as made:
        made.client.set(made.keys.epoch, "1")
        yield made


def outage(world: Bench, count: int, cause: str = "database", queue: str = "transactions") -> None:
    """So many jobs that meet the cause and would come back in an hour."""
    for n in range(count):
        put(world, f"{queue}{n}", queue=queue)
    for job in take(world, count, queue=queue):
        fail(world, job, cause)


def canary(world: Bench) -> Taken:
    pass_time(world, CAUSES)
    (job,) = take(world, 10)
    return job


def due(world: Bench, job_id: str) -> int:
    return int(world.fields(job_id)["due"])


def left_of_causes(world: Bench) -> list[str]:
    """Keys of causes that are still there."""
    kinds = ("causes", "cause", "freed", "canary")
    keys = (str(key).split("}:")[1] for key in world.client.scan_iter(match=f"*{world.keys.namespace}*"))
    return sorted(key for key in keys if key.split(":")[0] in kinds)


@pytest.mark.brokers
def test_one_job_of_many_tries_whether_the_cause_is_over(world: Bench) -> None:
    outage(world, 5)
    before = due(world, "transactions0")
    assert take(world, 10) == []
    job = canary(world)
    assert (job.id, job.early) == ("transactions0", "database")
    pass_time(world, CAUSES)
    assert take(world, 10) == []  # one at a time
    fail(world, job, "database")
    fields = world.fields(job.id)
    assert (fields["state"], fields["starts"], fields["tries"]) == ("retrying", "1", "1")
    assert int(fields["due"]) == before
    assert "s2" not in fields


@pytest.mark.brokers
def test_the_first_success_lets_all_go_by_and_by(world: Bench) -> None:
    outage(world, 100)
    settle(world, canary(world), past="database")
    first = take(world, 200)
    assert 0 < len(first) < 20
    found = {job.id for job in first}
    for _ in range(100):
        pass_time(world, "freed:transactions")
        batch = take(world, 200)
        assert len(batch) < 20
        found |= {job.id for job in batch}
    assert len(found) == 99
    assert left_of_causes(world) == []


@pytest.mark.brokers
def test_news_tries_and_goes_before_what_the_schedule_wants(world: Bench) -> None:
    for n, (name, lane) in enumerate((("old", "low"), ("backup", "medium"), ("news", "high"), ("click", "high"))):
        put(world, name, lane)
        fail(world, take(world)[0], "database", delay=3_600_000 + n * 1000)
    job = canary(world)
    assert job.id == "news"
    settle(world, job, past="database")
    assert {found.id for found in take(world, 10)} == {"click", "backup"}


@pytest.mark.brokers
def test_a_success_elsewhere_lets_them_go_too(world: Bench) -> None:
    outage(world, 3)
    outage(world, 3, queue="webhooks")
    outage(world, 1, "bank:Other", queue="notifications")
    put(world, "news")
    (job,) = take(world)
    settle(world, job, past="database\nplaid\nbank:First")
    assert len(take(world, 10)) == 2
    assert len(take(world, 10, queue="webhooks")) == 2
    assert take(world, 10, queue="notifications") == []


@pytest.mark.brokers
def test_who_still_meets_it_after_being_let_go_waits_its_time_uncounted(world: Bench) -> None:
    outage(world, 1)
    before = due(world, "transactions0")
    for n in range(3):
        put(world, f"other{n}")
        (other,) = take(world)
        settle(world, other, past="database")
        (job,) = take(world, 10)
        assert job.id == "transactions0"
        fail(world, job, "database")
    assert (due(world, "transactions0"), world.fields("transactions0")["tries"]) == (before, "1")
    pass_time(world, CAUSES)
    assert take(world, 10) == []  # a trouble of its own
    assert left_of_causes(world) == []
    pass_time(world, "retrying:transactions")
    (job,) = take(world, 10)
    assert job.early == ""
    fail(world, job, "database")
    assert canary(world).id == "transactions0"


@pytest.mark.brokers
def test_a_canary_that_hangs_is_not_waited_for_for_ever(world: Bench) -> None:
    outage(world, 2)
    first = canary(world)
    world.client.hset(world.keys.job(first.id), "started", "1")
    assert canary(world).id != first.id


@pytest.mark.brokers
def test_a_canary_of_a_clock_that_was_ahead_neither_holds_the_next_up_nor_waits_for_it(world: Bench) -> None:
    outage(world, 2)
    before = due(world, "transactions0")
    first = canary(world)
    ahead = before + 3_600_000
    world.client.hset(world.keys.job(first.id), mapping={"started": ahead, "early_due": ahead})
    assert canary(world).id != first.id
    fail(world, first, "database")
    assert due(world, first.id) < before  # at once, as the clock now goes


@pytest.mark.brokers
def test_another_failure_of_a_canary_counts(world: Bench) -> None:
    outage(world, 1)
    settle(world, canary(world), "retry", delay=60_000, error='{"code":"X"}')
    assert (world.fields("transactions0")["starts"], world.fields("transactions0")["tries"]) == ("2", "2")
    pass_time(world, CAUSES)
    take(world, 10)
    assert left_of_causes(world) == []


@pytest.mark.brokers
@pytest.mark.parametrize("what", ["cancel", "now", "click", "due"])
def test_who_stops_waiting_is_no_longer_known_by_the_cause(world: Bench, what: str) -> None:
    hints = Hints(world.client, world.keys)
    job_id = hints.sync("11111111-1111-1111-1111-111111111111", "u1", "Bank", "medium", "schedule", "c")
    fail(world, take(world)[0], "plaid")
    assert left_of_causes(world) != []
    control = Control(world.client, world.keys)
    if what == "cancel":
        control.cancel(job_id)
    elif what == "now":
        control.run_now(job_id)
    elif what == "click":
        hints.sync("11111111-1111-1111-1111-111111111111", "u1", "Bank", "high", "manual", "c")
    else:
        pass_time(world, "retrying:transactions")
    jobs = take(world, 5)
    assert [job.early for job in jobs] == ([] if what == "cancel" else [""])
    assert left_of_causes(world) == []


@pytest.mark.brokers
def test_a_canary_that_took_its_worker_down_is_found_again(world: Bench) -> None:
    outage(world, 2)
    job = canary(world)
    Control(world.client, world.keys).free("w1")
    pass_time(world, CAUSES)
    (again,) = take(world, 10)
    assert (again.id, again.start) == (job.id, 3)
    settle(world, again, past="database")
    assert len(take(world, 10)) == 1


@pytest.mark.brokers
def test_a_paused_queue_starts_no_canary_and_keeps_one_ready(world: Bench) -> None:
    outage(world, 3)
    control = Control(world.client, world.keys)
    control.pause("transactions")
    for _ in range(3):
        pass_time(world, CAUSES)
        assert take(world, 10) == []
    assert world.client.zcard(world.keys.retrying("transactions")) == 2
    control.resume("transactions")
    assert len(take(world, 10)) == 1


@pytest.mark.brokers
def test_a_job_that_vanished_holds_nobody_up(world: Bench) -> None:
    outage(world, 3)
    world.client.delete(world.keys.job("transactions0"))
    settle(world, canary(world), past="database")
    assert [job.id for job in take(world, 10)] == ["transactions2"]
    assert world.state("transactions0") is None


@pytest.mark.brokers
def test_a_sleeping_worker_is_told_of_the_next_canary(world: Bench) -> None:
    put(world, "a")
    (job,) = take(world)
    settle(world, job, "retry", delay=3_600_000, cause="database")
    _, wait, rows = scripts.run(world.client, world.keys, "take", "transactions", "w1", LEASE_MS, 1)
    assert rows or 0 < wait <= 3000  # after three seconds it is the canary


# ---------------------------------------------------------------- Plaid's limits


def refuse(world: Bench, *items: str) -> None:
    for item in items:
        buckets.slow_down(world.client, world.keys, f"item:{item}", 50, 50)
        buckets.slow_down(world.client, world.keys, "client", 1000, 50)


@pytest.mark.brokers
def test_the_first_call_that_is_not_refused_opens_the_buckets_and_lets_all_go(world: Bench) -> None:
    refuse(world, "item1", "item2")
    for n in range(4):
        put(world, f"job{n}", key=f"item{n}")
    for job in take(world, 4):
        fail(world, job, "limits")
    job = canary(world)
    assert job.early == "limits"
    settle(world, job, past="limits")
    assert {found.id for found in take(world, 10)} == {"job1", "job2"}
    for name, limit in (("client", 1000), ("item:item1", 50)):
        assert buckets.take(world.client, world.keys, name, limit) == 0


@pytest.mark.brokers
def test_who_only_waits_for_the_pace_is_no_part_of_it(world: Bench) -> None:
    refuse(world, "one")  # one item's limit, not everybody's
    outage(world, 1, "limits")
    assert left_of_causes(world) == []


@pytest.mark.brokers
def test_a_call_that_was_under_way_before_the_refusal_opens_nothing(world: Bench) -> None:
    put(world, "early")
    (early,) = take(world)
    world.client.hincrby(world.keys.job("early"), "started", -1000)
    refuse(world, "transactions0", "transactions1")
    outage(world, 1, "limits")
    settle(world, early, past="limits")
    assert take(world, 10) == []
    assert world.client.hexists(f"{world.keys.prefix}learned:client", "until")


# ---------------------------------------------------------------- with Dramatiq's worker


@pytest.mark.parametrize(
    ("error", "cause", "past"),
    [
        (StoreUnavailable("Away."), "database", ()),
        (StoreUnavailable("It took too long.", sqlstate="57014"), "", ()),
        (plaid_error("INTERNAL_SERVER_ERROR", "API_ERROR"), "plaid", ("database",)),
        (plaid_error("INSTITUTION_DOWN", "INSTITUTION_ERROR"), "bank:First", ("database", "plaid", "limits")),
        (plaid_error("ITEM_LOGIN_REQUIRED", "ITEM_ERROR"), "", ("database", "plaid", "limits")),
        (plaid_error("TRANSACTIONS_SYNC_LIMIT", "RATE_LIMIT_EXCEEDED"), "limits", ("database", "plaid")),
        (Later("Plaid's limits.", 15, "limits"), "limits", ()),
        (StoreRefused("No."), "", ()),
    ],
)
def test_what_is_shared_and_what_was_met_in_good_health(error: Exception, cause: str, past: tuple[str, ...]) -> None:
    assert (causes.shared(error, "First"), causes.past(error)) == (cause, past)


def test_an_early_start_uses_no_attempt_not_even_the_last(redis_url: str, namespace: str, store: Transport) -> None:
    with bench(redis_url, namespace, store) as world:
        world.client.set(world.keys.epoch, "1")
        broker = world.broker(given=settings(max_attempts=2, backoff_first_s=3600.0))
        trouble: list[Exception] = [plaid_error("INTERNAL_SERVER_ERROR", "API_ERROR")]
        starts: list[str] = []

        def act() -> None:
            starts.append("one")
            if trouble:
                raise trouble[0]

        dramatiq.actor(actor_name="act", queue_name="transactions", broker=broker, throws=BaseException)(act)
        put(world, "a")
        world.work(broker)
        until(lambda: world.state("a") == "retrying")
        before = due(world, "a")
        for n in (2, 3):
            pass_time(world, CAUSES)
            until(lambda n=n: len(starts) >= n and world.state("a") == "retrying")
            assert (due(world, "a"), world.fields("a")["tries"]) == (before, "1")
        trouble.clear()
        pass_time(world, CAUSES)
        until(lambda: world.state("a") == "done")
