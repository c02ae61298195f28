"""What is kept of an error, which failures count as one cause, and when a job is tried again."""

from __future__ import annotations

import json

import pytest

from engine.errors import BrokerUnavailable, StoreRefused, StoreUnavailable, SyncdeskError, UsageError
from engine.jobs import failures, pace
from engine.jobs.failures import POISON, describe, fingerprint, poison
from engine.plaid.errors import plaid_error
from engine.settings import Settings

SECRET = "access-sandbox-4711"  # planted, looked for below


def raised(error: BaseException) -> BaseException:
    """With a traceback, as it is met."""
    try:
        raise error
    except BaseException as met:  # noqa: BLE001
        return met


def group(error: BaseException, institution: str = "First Bank", queue: str = "transactions") -> str:
    return fingerprint(error, describe(error, institution), queue, institution)


def test_a_foreign_message_and_its_values_are_never_kept() -> None:
    amount = "1234.56"
    error = raised(ValueError(f"Key (token)=({SECRET}) amount {amount}"))
    kept = json.dumps(describe(error, "First Bank").json())
    assert SECRET not in kept
    assert amount not in kept
    assert "ValueError" in kept
    assert "test_failures.py" in kept  # frames are


def test_locals_and_causes_keep_only_their_frames() -> None:
    def inner(token: str) -> None:
        raise KeyError(token)

    try:
        try:
            inner(SECRET)
        except KeyError as cause:
            raise StoreRefused("The database refused the row.", sqlstate="23505", secret=SECRET) from cause
    except StoreRefused as error:
        kept = describe(error, None).json()
    text = json.dumps(kept)
    assert SECRET not in text
    assert kept["detail"] == {"sqlstate": "23505"}
    assert kept["sentence"] == "The database refused the row."
    assert "inner" in kept["traceback"]


def test_plaids_errors_speak_to_the_person_and_keep_the_request_id() -> None:
    kept = describe(raised(plaid_error("ITEM_LOGIN_REQUIRED", "ITEM_ERROR", request_id="req1")), "First Bank")
    assert kept.kind == "plaid"
    assert kept.code == "ITEM_LOGIN_REQUIRED"
    assert kept.detail["request_id"] == "req1"
    assert "First Bank" in kept.sentence


def test_one_code_at_one_bank_is_one_cause() -> None:
    first, second = (
        plaid_error("RATE_LIMIT_EXCEEDED", request_id="a"),
        plaid_error("RATE_LIMIT_EXCEEDED", request_id="b"),
    )
    assert group(first) == group(second)
    assert group(first) != group(first, "Second Bank")
    assert group(first) != group(plaid_error("ITEM_LOGIN_REQUIRED"))


def test_without_own_frames_type_and_message_without_ids_decide() -> None:
    def seen(text: str) -> str:
        return group(UsageError(text))

    assert seen("item 11111111-2222-3333-4444-555555555555 of 7") == seen(
        "item aaaaaaaa-2222-3333-4444-55555555ffff of 9"
    )
    assert seen("one thing") != seen("another thing")


def test_foreign_errors_without_own_frames_group_by_message_without_values() -> None:
    assert group(KeyError("first")) == group(KeyError("second"))
    assert group(OSError("disk 7 is full (sda1)")) == group(OSError("disk 12 is full (sdb2)"))
    assert group(OSError("disk 7 is full")) != group(OSError("disk 7 is gone"))
    assert group(OSError("disk 7 is full")) != group(ValueError("disk 7 is full"))


def test_trouble_that_all_jobs_share_is_one_cause_wherever_it_is_met() -> None:
    def here() -> BaseException:
        return raised(StoreUnavailable("The database cannot be reached."))

    def there() -> BaseException:
        return raised(StoreUnavailable("All connections to the database are in use.", function="sync_claim"))

    assert group(here()) == group(there(), "Second Bank", "webhooks")
    assert group(here()) != group(raised(BrokerUnavailable("Redis does not answer.")))


def test_the_rule_is_part_of_a_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    error = plaid_error("RATE_LIMIT_EXCEEDED")
    now = group(error)
    assert failures.RULE_VERSION == 2
    monkeypatch.setattr(failures, "RULE_VERSION", 1)
    assert group(error) != now  # groups of the first rule are left as they were


def test_constraints_tell_causes_apart() -> None:
    assert group(StoreRefused("no", sqlstate="23505", constraint="a")) != group(
        StoreRefused("no", sqlstate="23505", constraint="b")
    )


def test_poison_groups_by_queue() -> None:
    described = poison(3)
    assert described.code == POISON
    assert fingerprint(None, described, "a", "") != fingerprint(None, described, "b", "")


# ---------------------------------------------------------------- pace


def tried(error: BaseException, *, tries: int = 0, start: int = 1, **changes: object) -> pace.Again | None:
    return pace.again(error, Settings(**{"backoff_jitter": 0.0, **changes}), tries=tries, start=start)  # type: ignore[arg-type]


def test_waits_grow_and_end_after_four_attempts() -> None:
    waits = [tried(ValueError("x"), tries=n, start=n + 1) for n in range(4)]
    assert [again and again.delay_s for again in waits] == [15.0, 60.0, 240.0, None]


def test_jitter_stays_in_its_share() -> None:
    waits = [pace.again(ValueError("x"), Settings(), tries=0, start=1) for _ in range(200)]
    delays = [again.delay_s for again in waits if again]
    assert len(delays) == 200
    assert 12.0 <= min(delays) < 14.5
    assert 15.5 < max(delays) <= 18.0


@pytest.mark.parametrize(
    "code", ["ITEM_LOGIN_REQUIRED", "INVALID_ACCESS_TOKEN", "INVALID_API_KEYS", "USER_PERMISSION_REVOKED"]
)
def test_what_no_retry_can_cure_is_not_retried(code: str) -> None:
    assert tried(plaid_error(code)) is None


@pytest.mark.parametrize("code", ["INSTITUTION_DOWN", "INTERNAL_SERVER_ERROR", "SOMETHING_NEW"])
def test_passing_trouble_is_retried(code: str) -> None:
    again = tried(plaid_error(code))
    assert again is not None
    assert again.counts


def test_plaids_own_wait_is_heeded() -> None:
    again = tried(plaid_error("RATE_LIMIT_EXCEEDED", retry_after_s=90.0))
    assert again == pace.Again(90.0, counts=True)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), BrokerUnavailable("away")])
def test_trouble_of_our_own_servers_uses_no_attempt_up_but_not_for_ever(error: SyncdeskError) -> None:
    first = tried(error, tries=3)
    assert first is not None
    assert not first.counts
    assert tried(error, tries=3, start=pace.UNCOUNTED_STARTS) is None


def test_a_refusal_of_the_database_fails_at_once() -> None:
    assert tried(StoreRefused("no")) is None


def test_later_is_no_attempt() -> None:
    assert tried(pace.Later("busy", 0.5), tries=9) == pace.Again(0.5, counts=False, forget=True)
