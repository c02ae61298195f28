"""Small parts of the API that need no server."""

from __future__ import annotations

import threading

import pytest

from engine import clock
from engine.api import guard, phrases, problems, types, types_jobs
from engine.api.admin_operation import _check_trigger
from engine.api.auth import RANK, Tokens, allowed, new_token
from engine.api.hinting import Hinter
from engine.api.overview import NOTHING, causes
from engine.api.problems import status_of
from engine.api.rates import Rate
from engine.api.threads import Threads
from engine.errors import (
    BrokerUnavailable,
    Conflict,
    Forbidden,
    NotFound,
    SchemaError,
    SettingsError,
    StoreRefused,
    StoreUnavailable,
    SyncdeskError,
    UsageError,
)
from tests.support.wait import until


def test_tokens_are_of_three_kinds_that_do_not_tell_each_other() -> None:
    tokens = Tokens(new_token())
    assert len({tokens.of(kind) for kind in RANK}) == 3
    for kind in RANK:
        assert tokens.kind(f"Bearer {tokens.of(kind)}") == kind
    for wrong in (
        None,
        "",
        "Bearer",
        "Bearer ",
        tokens.admin,
        f"bearer {tokens.admin}",
        f"Bearer {tokens.admin} ",
        "é",
    ):
        assert tokens.kind(wrong) is None
    assert tokens.admin not in repr(tokens)
    assert Tokens("a" * 16).of("view") != Tokens("b" * 16).of("view")
    for weak in ("", "guess-me", "é" * 20, "a" * 15 + "\n"):
        with pytest.raises(SettingsError, match="SYNCDESK_TOKEN must have"):
            Tokens(weak)


@pytest.mark.parametrize("kind", [None, "view", "operate", "admin"])
@pytest.mark.parametrize("needed", ["view", "operate", "admin"])
def test_a_higher_kind_may_do_what_a_lower_one_may(kind: types.TokenKind | None, needed: types.TokenKind) -> None:
    order = ["view", "operate", "admin"]
    assert allowed(kind, needed) == (kind is not None and order.index(kind) >= order.index(needed))


def test_hosts_are_exact() -> None:
    hosts = guard.hosts(8080, "127.0.0.1", "sync.example:443, Other.example")
    assert hosts == {"127.0.0.1:8080", "localhost:8080", "[::1]:8080", "sync.example:443", "other.example"}
    assert "192.168.1.5:8080" in guard.hosts(8080, "192.168.1.5", "")
    assert "0.0.0.0:8080" not in guard.hosts(8080, "0.0.0.0", "")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("x"), 400),
        (problems.Unauthorised("x"), 401),
        (Forbidden("x"), 403),
        (NotFound("x"), 404),
        (problems.TooSlow("x"), 408),
        (problems.TooOften("x"), 429),
        (Conflict("x"), 409),
        (problems.TooLarge("x"), 413),
        (problems.WrongType("x"), 415),
        (StoreRefused("x", sqlstate="22007"), 400),
        (StoreRefused("x", sqlstate="23505"), 500),
        (StoreUnavailable("x"), 503),
        (SchemaError("x"), 503),
        (BrokerUnavailable("x"), 503),
        (problems.NotConfigured("x"), 503),
        (SyncdeskError("x"), 422),
        (ZeroDivisionError(), 500),
    ],
)
def test_every_error_has_its_status(error: Exception, status: int) -> None:
    assert status_of(error) == status
    answer = problems.response(error, "test")
    assert answer.status_code == status
    assert answer.headers["cache-control"] == "no-store"


def test_an_unforeseen_error_keeps_its_text_to_itself() -> None:
    answer = problems.response(ValueError("secret-canary"), "test")
    assert b"secret-canary" not in answer.body


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.044, "44 ms"), (12, "12 s"), (68, "1 min 8 s"), (900, "15 min"), (19_440, "5 h 24 min"), (86_400, "1 day")],
)
def test_spans_read_as_people_say_them(seconds: float, text: str) -> None:
    assert phrases.span(seconds) == text


@pytest.mark.parametrize(
    "trigger",
    [{"every_s": 900}, {"cron": "30 2 * * *"}, {"cron": "*/5 0-6 1,15 jan mon-fri", "zone": "Europe/Berlin"}],
)
def test_triggers_that_can_be(trigger: dict[str, object]) -> None:
    _check_trigger(trigger)


@pytest.mark.parametrize(
    "trigger",
    [
        {},
        {"every_s": 1},
        {"every_s": True},
        {"every_s": "900"},
        {"every_s": 900, "cron": "* * * * *"},
        {"cron": "* * * *"},
        {"cron": "* * * * *; x"},
        {"cron": "* * * * *", "zone": "Nowhere/City"},
        {"cron": "* * * * *", "zone": 5},
        {"every_s": 900, "other": 1},
    ],
)
def test_triggers_that_cannot_be(trigger: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        _check_trigger(trigger)


def test_hints_are_dropped_while_the_broker_is_away_and_go_on_after() -> None:
    hinter = Hinter()

    def away() -> None:
        raise BrokerUnavailable("away")

    assert hinter.put(away)
    until(lambda: not hinter.put(away), what="the open breaker")
    given = threading.Event()
    until(lambda: hinter.put(given.set) and given.wait(5), what="the closed breaker")
    assert hinter.dropped >= 1
    hinter.close()


def test_a_hint_that_fails_does_not_end_the_thread() -> None:
    hinter = Hinter()
    given = threading.Event()
    hinter.put(lambda: 1 / 0)
    hinter.put(given.set)
    assert given.wait(20)
    hinter.close()


def test_causes_name_what_is_wrong_and_its_cure() -> None:
    facts = {**NOTHING, "install_trouble": {"code": "INVALID_API_KEYS"}}
    crashed = types.ProcessInfo(role="scheduler", pid=None, state="given_up", note="The scheduler ended five times.")
    engine = types.EngineInfo(state="running", version="0", profile="p", pid=1, started_at="")
    status = types.Status(engine=engine, processes=[crashed], endpoints=types.Endpoints(None, None, None))
    rows = [
        types_jobs.QueueStatus(
            name="transactions", label="Transaction sync", paused=False, waiting=1, delayed=0, running=0, retrying=0,
            failed=0, done_24h=0, failed_24h=0, oldest_wait_ms=None, concurrency=5, per_minute=None, consumers=0,
            high_failure_rate=True,
        )
    ]  # fmt: skip
    found = causes(facts, status, rows, [])
    assert [cause.code for cause in found] == ["CRASH_LOOP", "INVALID_API_KEYS", "NO_WORKERS", "HIGH_FAILURE_RATE"]
    assert all(cause.action for cause in found)
    assert causes(facts, status, rows, None)[0].code == "QUEUE_LOST"


def test_a_rate_lets_a_minutes_calls_pass_and_fills_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    rate = Rate(60)
    assert [rate.take() for _ in range(62)] == [True] * 60 + [False] * 2
    assert rate.wait_s() == 1
    now += 3
    assert [rate.take() for _ in range(4)] == [True] * 3 + [False]
    now += 3600
    assert sum(rate.take() for _ in range(100)) == 60


def test_threads_are_bounded_reused_and_abandoned() -> None:
    threads = Threads(2, "test")
    gate, names = threading.Event(), set()

    def work() -> str:
        gate.wait(20)
        names.add(threading.current_thread().name)
        return "done"

    futures = [threads.submit(work) for _ in range(6)]
    gate.set()
    assert [future.result(20) for future in futures] == ["done"] * 6
    assert names <= {"test-1", "test-2"}
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 // 0).result(20)
    stuck, waiting = threading.Event(), threading.Event()
    for _ in range(2):
        threads.submit(lambda: (waiting.set(), stuck.wait(20)))
    assert waiting.wait(20)
    behind = threads.submit(work)
    threads.shutdown(cancel_futures=True)
    assert behind.cancelled()
    with pytest.raises(RuntimeError):
        threads.submit(work)
    stuck.set()
