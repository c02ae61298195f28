"""Log lines: fixed words, no secrets, no row values, one private rotating file a part."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import logs
from engine.errors import BrokerUnavailable, ProfileError, StoreRefused, StoreUnavailable
from engine.profile import Profile


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[Profile]:
    yield Profile("test", tmp_path / "profile")
    logs.configure("test", None, terminal=False)  # closes the files


def lines(profile: Profile, part: str = "host") -> list[dict[str, object]]:
    return [json.loads(line) for line in (profile.logs / f"{part}.log").read_text(encoding="utf-8").splitlines()]


def test_the_words_and_facts_of_a_line(profile: Profile) -> None:
    logs.configure("host", profile, terminal=False)
    logs.logger("engine.jobs").info(logs.COMPLETED, item="i-1", trigger="webhook", added=3)
    (line,) = lines(profile)
    assert line["event"] == "✅ Transaction sync job completed"
    assert line["item"] == "i-1"
    assert line["part"] == "host"
    assert line["level"] == "info"
    assert "✅" in (profile.logs / "host.log").read_text(encoding="utf-8")
    assert (profile.logs / "host.log").stat().st_mode & 0o077 == 0


def test_every_line_of_the_contract() -> None:
    assert [logs.QUEUED, logs.PROCESSING, logs.COMPLETED, logs.FAILED, logs.HIGH_FAILURE_RATE] == [
        "📋 Queued transaction sync job",
        "🔄 Processing transaction sync job",
        "✅ Transaction sync job completed",
        "❌ Transaction sync job failed",
        "⚠️ High failure rate in queue",
    ]


@pytest.mark.parametrize("name", ["access_token", "PLAID_SECRET", "password", "amount", "merchant_name", "balance"])
def test_facts_that_no_log_may_hold_are_hidden(profile: Profile, name: str) -> None:
    logs.configure("host", profile, terminal=False)
    logs.logger("x").warning("words", **{name: "canary"})
    assert "canary" not in (profile.logs / "host.log").read_text()


def test_the_user_part_of_a_url_is_left_out(profile: Profile) -> None:
    logs.configure("host", profile, terminal=False)
    logs.logger("x").warning("words", at="redis://:canary@localhost:1/0")
    assert lines(profile)[0]["at"] == "redis://localhost:1/0"


def test_an_exception_is_its_frames_without_its_message(profile: Profile) -> None:
    logs.configure("host", profile, terminal=False)
    try:
        try:
            raise ValueError("canary 12.50 EUR")
        except ValueError as cause:
            raise StoreUnavailable("The database does not answer.") from cause
    except StoreUnavailable:
        logs.logger("x").exception("It broke")
    text = (profile.logs / "host.log").read_text()
    assert "canary" not in text
    assert "The database does not answer." in text
    assert "ValueError" in text
    assert "test_logs.py" in text


def test_a_librarys_record_keeps_its_template_only(profile: Profile) -> None:
    logs.configure("host", profile, terminal=False)
    library = logging.getLogger("somelibrary")
    library.warning("failed for %s", "canary")
    library.info("not worth a line")
    try:
        raise ValueError("canary")
    except ValueError:
        library.exception("it %s", "canary")
    text = (profile.logs / "host.log").read_text()
    assert "canary" not in text
    assert [line["event"] for line in lines(profile)] == ["failed for %s", "it %s"]


def test_text_on_the_terminal(profile: Profile, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("host", profile, terminal=True)
    logs.logger("x").info(logs.QUEUED, item="i-1")
    assert "INFO 📋 Queued transaction sync job  item=i-1" in capsys.readouterr().err


@pytest.mark.parametrize("sign", ["\n", "\r", "\x1b[2J", "\u2028", "\x85"])
def test_no_fact_makes_a_line_of_its_own(profile: Profile, capsys: pytest.CaptureFixture[str], sign: str) -> None:
    logs.configure("host", profile, form="text", terminal=True)
    logs.logger("x").info("words", fact=f"a{sign}2026-01-01T00:00:00Z ERROR forged")
    for text in (capsys.readouterr().err, (profile.logs / "host.log").read_text(encoding="utf-8")):
        assert sign not in text.rstrip("\n")
        assert len(text.splitlines()) == 1


def test_the_form_of_a_line_is_a_setting(profile: Profile, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("host", profile, terminal=True, form="text")
    logs.also("webhook", profile, "webhook", form="text")
    logs.logger("webhook").info(logs.QUEUED, item="i-1")
    logs.release("webhook")
    for file in ("host", "webhook"):
        (line,) = (profile.logs / f"{file}.log").read_text(encoding="utf-8").splitlines()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z INFO 📋 Queued transaction sync job  item=i-1", line)
    logs.configure("host", profile, terminal=True, form="json")
    capsys.readouterr()
    logs.logger("x").info(logs.FAILED, item="i-2")
    shown = json.loads(capsys.readouterr().err)
    assert (shown["event"], shown["item"], shown["part"]) == ("❌ Transaction sync job failed", "i-2", "host")


def test_a_supervised_part_keeps_its_terminal_free(
    profile: Profile, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(logs.SUPERVISED, "1")
    logs.configure("worker-sync", profile)
    logs.logger("x").info("words")
    assert capsys.readouterr().err == ""
    assert lines(profile, "worker-sync")[0]["event"] == "words"


def test_a_logger_with_a_file_of_its_own(profile: Profile) -> None:
    logs.configure("host", profile, terminal=False)
    logs.also("webhook", profile, "webhook")
    logs.logger("engine.webhook").info("A webhook")
    logs.logger("engine.other").info("Something else")
    assert [line["event"] for line in lines(profile, "webhook")] == ["A webhook"]
    assert len(lines(profile)) == 2
    logs.release("webhook")


def test_it_rotates_and_stays_private(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_FILE_BYTES", 2000)
    logs.configure("host", profile, terminal=False)
    for number in range(60):
        logs.logger("x").warning("words", number=number, fill="x" * 50)
    names = sorted(path.name for path in profile.logs.iterdir())
    assert names == ["host.log", "host.log.1", "host.log.2", "host.log.3", "host.log.4"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in profile.logs.iterdir())
    assert lines(profile)[-1]["number"] == 59


def test_a_log_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    with pytest.raises(ProfileError, match="cannot be written"):
        logs.configure("host", Profile("x", tmp_path), terminal=False)


def test_an_outage_is_told_once_and_so_is_its_end(profile: Profile) -> None:
    logs.configure("host", profile, terminal=False)
    outage = logs.Outage(logs.logger("x"), "It failed", "It goes on")
    outage.worked()
    for _ in range(2):
        for _ in range(3):
            outage.failed(BrokerUnavailable("The broker does not answer."))
        outage.failed(StoreUnavailable("The database does not answer."))
        for _ in range(3):
            outage.worked()
    told = [(line["level"], line["event"], line.get("code")) for line in lines(profile)]
    assert told == [("warning", "It failed", "BROKER_UNAVAILABLE"), ("info", "It goes on", None)] * 2


def test_a_database_that_is_away_is_no_warning_until_something_worse_is_found(profile: Profile) -> None:
    logs.configure("host", profile, terminal=False)
    outage = logs.Outage(logs.logger("x"), "It failed", "It goes on")
    for error in (StoreUnavailable("It is away."), StoreRefused("It refused."), StoreUnavailable("It is away.")):
        outage.failed(error)
        outage.failed(error)
    outage.worked()
    told = [(line["level"], line.get("code")) for line in lines(profile)]
    assert told == [("info", "DATABASE_UNAVAILABLE"), ("warning", "DATABASE_REFUSED"), ("info", None)]
