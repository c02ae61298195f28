"""The token buckets keep Plaid's limits over any 60 seconds, also across a wipe, and learn from refusals.

Time passes by setting back what is stored: the scripts go by the server's clock.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from engine import clock
from engine.plaid.errors import RateLimited
from engine.queue import buckets
from engine.store import Transport
from engine.sync.deps import Deps
from tests.support.bank import running_bank
from tests.support.queue import Bench, bench
from tests.support.syncing import World, deps
from tests.support.wait import until

MINUTE_MS = 60_000


@pytest.fixture
def world(redis_url: str, namespace: str) -> Iterator[Bench]:
    with bench(redis_url, namespace) as made:
        yield made


def take(world: Bench, name: str, per_minute: float, cost: float = 1.0) -> float:
    return buckets.take(world.client, world.keys, name, per_minute, cost)


def refused(world: Bench, name: str, per_minute: float, seconds: float = 0) -> None:
    buckets.slow_down(world.client, world.keys, name, per_minute, seconds)


def passes(world: Bench, ms: float) -> None:
    """Everything is ``ms`` longer ago."""
    client, prefix = world.client, world.keys.prefix
    for key in [prefix + "buckets", *client.scan_iter(match=prefix.replace("{", "[{]") + "bucket:*")]:
        if (value := client.get(key)) is not None:
            client.set(key, f"{float(value) - ms:.3f}", keepttl=True)
    for key in client.scan_iter(match=prefix.replace("{", "[{]") + "learned:*"):
        for field in ("at", "until", "probed", "since"):
            if client.hexists(key, field):
                client.hincrbyfloat(key, field, -ms)
    found: Any = client.zrange(prefix + "refused", 0, -1, withscores=True)
    for member, at in found:
        client.zadd(prefix + "refused", {member: at - ms})


def wipe(world: Bench) -> None:
    for key in list(world.client.scan_iter(match=world.keys.prefix.replace("{", "[{]") + "*")):
        world.client.delete(key)


def kept_to(world: Bench, name: str, per_minute: float) -> float:
    """Calls a minute that a bucket refills for: by how much longer one waits for more of them."""
    while take(world, name, per_minute) == 0:
        pass
    return 60 * 1000 / (take(world, name, per_minute, 1000) - take(world, name, per_minute, 0))


@pytest.mark.parametrize("limit", [10, 50])
def test_no_minute_has_more_calls_than_the_limit(world: Bench, limit: int) -> None:
    """A taker that takes whatever it gets, rests at times, and a broker that is wiped at times."""
    dice = random.Random(limit)
    began, at, wiped, recent, most, total = clock.monotonic(), 0.0, -MINUTE_MS, deque[float](), 0, 0
    while at < 5 * MINUTE_MS:
        wait = take(world, "client", limit)
        if wait == 0:
            real = at + clock.ms_since(began)  # what passes by itself counts too
            recent.append(real)
            total += 1
            while recent[0] <= real - MINUTE_MS:
                recent.popleft()
            most = max(most, len(recent))
            continue
        step = wait * 1000 + 1
        if dice.random() < 20 / limit:
            step += dice.choice([2000, 10_000])
        if at - wiped > MINUTE_MS and dice.random() < 20 / limit:
            wiped = at
            wipe(world)
        passes(world, step)
        at += step
    assert most <= limit
    assert total > limit  # it was asked for enough to tell


def test_a_taker_without_rest_gets_most_of_the_limit(world: Bench) -> None:
    at, got = 0.0, 0
    while at < 4 * MINUTE_MS:
        wait = take(world, "item:a", 50)
        got += wait == 0
        passes(world, wait * 1000)
        at += wait * 1000
    assert 4 * 40 <= got <= 4 * 50


def test_a_wipe_leaves_half_a_bucket(world: Bench) -> None:
    def calls(number: int) -> list[bool]:
        """Of a bucket of ten that takes six seconds to refill one."""
        return [buckets.take(world.client, world.keys, "item:a", 20, burst=10) == 0 for _ in range(number)]

    calls(1)
    passes(world, MINUTE_MS)
    assert calls(10) == [True] * 10
    wipe(world)
    assert calls(7) == [True] * 5 + [False] * 2


def test_a_refusal_halves_what_the_items_bucket_refills_and_it_grows_back(world: Bench) -> None:
    whole = kept_to(world, "item:a", 1000)
    refused(world, "item:a", 1000)
    refused(world, "item:a", 1000)  # of the same burst
    refused(world, "client", 1000)
    assert kept_to(world, "item:a", 1000) == pytest.approx(whole / 2, rel=0.05)
    assert kept_to(world, "client", 1000) == pytest.approx(whole, rel=0.05)  # one item's trouble is not everyone's
    passes(world, MINUTE_MS)
    refused(world, "item:a", 1000)
    quarter = kept_to(world, "item:a", 1000)
    assert quarter < whole / 3
    passes(world, 5 * MINUTE_MS)
    assert quarter < kept_to(world, "item:a", 1000) < whole
    passes(world, 60 * MINUTE_MS)
    assert kept_to(world, "item:a", 1000) == pytest.approx(whole, rel=0.05)
    lifetime = world.client.pttl(world.keys.prefix + "learned:item:a")
    assert 0 < lifetime <= buckets.RECOVERY_S * 1000 + 1000


def test_refusals_of_several_items_lower_the_clients_bucket(world: Bench) -> None:
    whole = kept_to(world, "client", 1000)
    for item in ("item:a", "item:b"):
        refused(world, item, 50)
        refused(world, "client", 1000)
    assert kept_to(world, "client", 1000) == pytest.approx(whole / 2, rel=0.05)
    passes(world, 2 * MINUTE_MS)
    before = kept_to(world, "client", 1000)
    refused(world, "item:a", 50)
    refused(world, "client", 1000)
    assert kept_to(world, "client", 1000) > before * 0.9  # another refusal would have halved it


def test_a_refused_bucket_is_shut_but_for_a_probe_now_and_then(world: Bench) -> None:
    refused(world, "item:a", 1000, 15)
    assert 5 < take(world, "item:a", 1000) <= 15
    for _ in range(20):
        refused(world, "item:a", 1000, 15)  # calls that were under way together, and probes, do not add up
    assert take(world, "item:a", 1000) <= 15
    passes(world, buckets.PROBE_MS)
    assert take(world, "item:a", 1000) == 0
    assert take(world, "item:a", 1000) > 10
    passes(world, 15_000)
    assert [take(world, "item:a", 1000) for _ in range(20)] == [0.0] * 20


def test_who_is_refused_while_a_bucket_is_shut_teaches_nothing_more(world: Bench) -> None:
    whole = kept_to(world, "item:a", 1000)
    for _ in range(6):
        refused(world, "item:a", 1000, 15)
        passes(world, 12_000)  # longer than a burst
    passes(world, 15_000)
    assert kept_to(world, "item:a", 1000) == pytest.approx(whole / 2, rel=0.15)


def test_one_items_refusal_shuts_nobody_else_out(world: Bench) -> None:
    refused(world, "item:a", 50, 15)
    refused(world, "client", 1000, 15)
    assert take(world, "client", 1000) == 0
    refused(world, "item:b", 50, 15)
    refused(world, "client", 1000, 15)
    assert take(world, "client", 1000) > 10


def test_what_a_clock_that_was_ahead_taught_is_over_as_soon_as_any(world: Bench) -> None:
    whole = kept_to(world, "item:a", 1000)
    refused(world, "item:a", 1000, 15)
    refused(world, "item:c", 1000, 15)
    passes(world, -60 * MINUTE_MS)
    assert kept_to(world, "item:a", 1000) == pytest.approx(whole / 2, rel=0.05)
    passes(world, 10 * MINUTE_MS)
    assert kept_to(world, "item:a", 1000) == pytest.approx(whole, rel=0.05)
    refused(world, "item:b", 50)
    refused(world, "client", 1000, 15)  # the others' refusals were at a time that is not yet
    assert take(world, "client", 1000) == 0


def test_workers_that_believe_in_a_higher_limit_learn_the_banks(
    world: Bench, store: Transport, database_url: str
) -> None:
    """The bank allows 20 calls a minute, the settings say 400: two workers slow down together after one refusal."""
    with running_bank(item_limit=20) as bank:
        made = bank.link()
        first, second = (_worker(world, store, bank.url, owner) for owner in ("w/1", "w/2"))
        item = World(first, database_url).link(made["access_token"], made["item_id"])
        until(lambda: _refused_at_last(item), 30, "a refusal")
        item.deps = second
        assert second.limiter is not None
        assert second.limiter(f"item:{item.item}", 400) > 5
        assert item.run("webhook").state == "waiting"
        calls = bank.get("requests", path="/transactions/sync")["requests"]
        assert len(calls) == 21  # the last of them was refused; nobody asked again
        first.plaid.close()
        second.plaid.close()


def _worker(world: Bench, store: Transport, url: str, owner: str) -> Deps:
    made = deps(store, url, owner, plaid_item_limit=400)
    made.limiter = lambda name, per_minute: buckets.take(world.client, world.keys, name, per_minute)
    made.slow = lambda name, per_minute, s: buckets.slow_down(world.client, world.keys, name, per_minute, s)
    return made


def _refused_at_last(item: World) -> bool:
    try:
        item.sync()
    except RateLimited:
        return True
    return False


def test_a_clock_that_was_ahead_leaves_no_wait_of_an_hour(world: Bench) -> None:
    assert take(world, "client", 600) == 0
    passes(world, -60 * MINUTE_MS)
    world.client.persist(world.keys.prefix + "bucket:client")  # its lifetime is by the server's clock, too
    assert 0 < take(world, "client", 600) <= MINUTE_MS / 1000
    until(lambda: take(world, "client", 600) == 0, what="a call")
