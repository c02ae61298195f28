"""Sealing of access tokens, and where secrets are kept."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import keyring
import keyring.backend
import keyring.backends.fail
import pytest

from engine.errors import SecretError
from engine.profile import Profile
from engine.secrets import Keeper, Secrets, kept
from engine.secrets import keeper as keeper_module
from engine.secrets.sealing import key_id, new_key, parse_key
from engine.settings import Settings, declared, load

TOKEN = "access-sandbox-0b7c8a1e-naïve"


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return Profile("test", tmp_path / "profile")


FILE = {"SYNCDESK_SECRETS": "file"}


def test_what_was_sealed_opens_again(profile: Profile) -> None:
    secrets = Secrets(profile, Settings(), FILE)
    text, key = secrets.seal(TOKEN, "item-1")
    assert TOKEN not in text
    assert secrets.unseal(text, key, "item-1") == TOKEN
    assert secrets.seal(TOKEN, "item-1").text != text, "each sealing has a nonce of its own"


def test_another_process_finds_the_same_key(profile: Profile) -> None:
    text, key = Secrets(profile, Settings(), FILE).seal(TOKEN, "item-1")
    assert Secrets(profile, Settings(), FILE).unseal(text, key, "item-1") == TOKEN


def test_a_token_opens_for_its_own_item_only(profile: Profile) -> None:
    secrets = Secrets(profile, Settings(), FILE)
    text, key = secrets.seal(TOKEN, "item-1")
    with pytest.raises(SecretError, match="belongs to another bank link"):
        secrets.unseal(text, key, "item-2")


@pytest.mark.parametrize("spoil", [lambda t: t[:-6] + "AAAAA=", lambda t: "", lambda t: "plain", lambda t: t[3:]])
def test_a_changed_text_does_not_open(profile: Profile, spoil: object) -> None:
    secrets = Secrets(profile, Settings(), FILE)
    text, key = secrets.seal(TOKEN, "item-1")
    with pytest.raises(SecretError, match="cannot be opened"):
        secrets.unseal(spoil(text), key, "item-1")  # type: ignore[operator]


def test_a_wrong_key_is_told_by_its_id(profile: Profile) -> None:
    text, key = Secrets(profile, Settings(master_key=new_key()), FILE).seal(TOKEN, "item-1")
    other = Secrets(profile, Settings(master_key=new_key()), FILE)
    with pytest.raises(SecretError, match=f"sealed with the master key {key}"):
        other.unseal(text, key, "item-1")


def test_an_older_key_still_opens_and_the_first_one_seals(profile: Profile) -> None:
    old, new = new_key(), new_key()
    text, key = Secrets(profile, Settings(master_key=old), FILE).seal(TOKEN, "item-1")
    both = Secrets(profile, Settings(master_key=f"{new},{old}"), FILE)
    assert both.unseal(text, key, "item-1") == TOKEN
    assert both.seal(TOKEN, "item-1").key_id == key_id(parse_key(new))


def test_a_key_from_a_file(profile: Profile, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(new_key() + "\n")
    text, key = Secrets(profile, Settings(master_key_file=str(file)), FILE).seal(TOKEN, "x")
    assert Secrets(profile, Settings(master_key=file.read_text()), FILE).unseal(text, key, "x") == TOKEN
    with pytest.raises(SecretError, match="nowhere"):
        Secrets(profile, Settings(master_key_file=str(tmp_path / "nowhere")), FILE).ensure()


@pytest.mark.parametrize("text", ["short", "z" * 64, "a" * 42, "ü" * 43, " "])
def test_a_malformed_key_is_refused_and_not_repeated(profile: Profile, text: str) -> None:
    with pytest.raises(SecretError) as caught:
        Secrets(profile, Settings(master_key=text), FILE).ensure()
    assert len(text) < 2 or text not in str(caught.value)


def test_hex_and_base64_are_the_same_key() -> None:
    raw = bytes(range(224, 256))
    texts = [
        raw.hex(),
        raw.hex().upper(),
        "4OHi4-Tl5ufo6err7O3u7_Dx8vP09fb3-Pn6-_z9_v8",
        "4OHi4+Tl5ufo6err7O3u7/Dx8vP09fb3+Pn6+/z9/v8=",
    ]
    assert {parse_key(text) for text in texts} == {raw}


def test_two_processes_at_once_make_one_key(profile: Profile) -> None:
    made: list[str] = []
    gate = threading.Barrier(8)

    def work() -> None:
        gate.wait()
        made.append(Secrets(profile, Settings(), FILE).ensure())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 8
    assert len(set(made)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_the_file_is_for_the_user_alone(profile: Profile) -> None:
    Keeper(profile, FILE).set("plaid_secret", "abc")
    assert stat.S_IMODE(profile.secrets_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(profile.root.stat().st_mode) == 0o700


def test_kept_secrets_become_settings_and_the_environment_wins(profile: Profile) -> None:
    Keeper(profile, FILE).set("plaid_secret", "kept")
    Keeper(profile, FILE).set("cron_secret", "kept too")
    settings = load(None, {"CRON_SECRET": "from environment"}, kept(profile, declared(), FILE))
    assert (settings.plaid_secret, settings.cron_secret) == ("kept", "from environment")
    assert settings.origin["plaid_secret"] == "keyring"


def test_a_damaged_file_is_told_not_overwritten(profile: Profile) -> None:
    profile.root.mkdir()
    profile.secrets_file.write_text("{half")
    with pytest.raises(SecretError, match=r"secrets\.json"):
        Secrets(profile, Settings(), FILE).ensure()
    assert profile.secrets_file.read_text() == "{half"


def test_removing(profile: Profile) -> None:
    keeper = Keeper(profile, FILE)
    keeper.set("plaid_secret", "abc")
    assert keeper.remove("plaid_secret")
    assert not keeper.remove("plaid_secret")
    assert keeper.get("plaid_secret") is None


class _Memory(keyring.backend.KeyringBackend):
    """A keyring backend of the test's own; can be told to be locked or to hang."""

    priority = 9  # type: ignore[assignment]
    held: ClassVar[dict[tuple[str, str], str]] = {}
    locked = False
    hangs: threading.Event | None = None

    def _answer(self) -> None:
        if self.hangs:
            self.hangs.wait(60)
        if self.locked:
            raise keyring.errors.KeyringLocked("locked")

    def get_password(self, service: str, username: str) -> str | None:
        self._answer()
        return self.held.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._answer()
        self.held[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._answer()
        del self.held[service, username]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> object:
    backend = _Memory()
    before = keyring.get_keyring()
    keyring.set_keyring(backend)
    _Memory.held.clear()
    monkeypatch.setattr(keeper_module, "_may_have_keyring", lambda environ: True)
    monkeypatch.setattr(keeper_module, "_ANSWER_S", 30.0)
    yield backend
    keyring.set_keyring(before)


def test_a_keyring_that_answers_is_used_and_the_file_holds_no_secret(profile: Profile, memory: _Memory) -> None:
    Keeper(profile, {}).set("plaid_secret", "very secret")
    assert Keeper(profile, {}).get("plaid_secret") == "very secret"
    assert "very secret" not in profile.secrets_file.read_text()
    assert json.loads(profile.secrets_file.read_text())["kept"] == "keyring"
    assert "very secret" in memory.held.values()


def test_a_keyring_locked_later_is_told_and_no_new_key_made(profile: Profile, memory: _Memory) -> None:
    made = Secrets(profile, Settings(), {}).ensure()
    memory.locked = True
    with pytest.raises(SecretError, match="unlock it"):
        Secrets(profile, Settings(), {}).ensure()
    memory.locked = False
    assert Secrets(profile, Settings(), {}).ensure() == made


def test_a_keyring_that_hangs_gives_way_to_the_file(
    profile: Profile, memory: _Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "_ANSWER_S", 0.2)
    memory.hangs = threading.Event()
    try:
        Keeper(profile, {}).set("plaid_secret", "abc")
    finally:
        memory.hangs.set()
    assert Keeper(profile, {}).place == "file"


def test_no_backend_means_the_file(profile: Profile, memory: _Memory) -> None:
    keyring.set_keyring(keyring.backends.fail.Keyring())
    Keeper(profile, {}).set("plaid_secret", "abc")
    assert Keeper(profile, {}).place == "file"
    with pytest.raises(SecretError, match="asks for the keyring"):
        Keeper(Profile("b", profile.root / "b"), {"SYNCDESK_SECRETS": "keyring"}).set("x", "y")


def test_importing_it_is_cheap() -> None:
    heavy = "{'keyring', 'cryptography', 'filelock', 'psycopg'} & set(__import__('sys').modules)"
    code = f"import engine.secrets; assert not {heavy}, {heavy}"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))


def test_plaids_sandbox_has_a_lower_limit_of_its_own() -> None:
    def limit(**given: str) -> int:
        return load(None, given).plaid_client_limit

    assert (limit(PLAID_ENV="production"), limit(PLAID_ENV="sandbox"), limit()) == (2500, 1000, 2500)
    assert limit(PLAID_ENV="sandbox", SYNCDESK_PLAID_CLIENT_LIMIT="300") == 300
