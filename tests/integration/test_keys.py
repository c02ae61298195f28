"""Changing the master key and getting it back: what is cut off, in the wrong hands, or asked in the wrong order."""

from __future__ import annotations

import dataclasses
import io
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from engine.cli.main import build_parser, run
from engine.errors import KeyAway, SecretError, UsageError
from engine.plaid.errors import InstallTrouble
from engine.profile import Profile
from engine.secrets import Secrets, recovery
from engine.secrets.sealing import key_id, new_key, parse_key
from engine.settings import Settings, declared, load
from engine.store import Transport
from engine.sync import keys
from tests.support.scripted_plaid import ScriptedPlaid, page, transaction
from tests.support.syncing import World, deps

FILE = {"SYNCDESK_SECRETS": "file"}
SYNC = "/transactions/sync"


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return Profile("keys", tmp_path / "profile")


def install(profile: Profile, **given: Any) -> Secrets:
    """A process that starts now on the profile."""
    return Secrets(profile, Settings(**given), FILE)


def links(store: Transport, url: str, bank: ScriptedPlaid, secrets: Secrets, count: int) -> list[World]:
    sealed = dataclasses.replace(deps(store, bank.url), secrets=secrets)
    return [World(sealed, url).link(f"access-canary-{n}") for n in range(count)]


def opened(world: World, secrets: Secrets) -> str:
    row = world.row()
    return secrets.unseal(row["access_token"], row["access_key_id"], world.item)


def test_all_tokens_are_sealed_anew_and_old_ones_still_open(
    store: Transport, database_url: str, scripted_bank: ScriptedPlaid, profile: Profile
) -> None:
    worker = install(profile)
    old = worker.ensure()
    worlds = links(store, database_url, scripted_bank, worker, 3)
    before = worlds[0].row()
    worker._looked = -1e9  # its last look into the profile is long ago
    done = keys.rotate(store, install(profile), "test")
    assert (done.resealed, done.damaged, done.kept, done.recoverable) == (3, (), 1, False)
    assert keys.used(store) == {done.key_id: 3}
    assert done.key_id != old
    for n, world in enumerate(worlds):
        assert opened(world, install(profile)) == f"access-canary-{n}"
        assert opened(world, worker) == f"access-canary-{n}", "a process that ran meanwhile finds the new key"
    assert install(profile).unseal(before["access_token"], old, worlds[0].item) == "access-canary-0"
    assert worker.seal("x", "y").key_id == done.key_id
    audit = worlds[0].rows("select action, detail from syncdesk.audit order by id")
    assert [row["action"] for row in audit] == ["secrets.rotate"]


def test_a_rotation_that_was_cut_off_is_ended_by_the_next(
    store: Transport, database_url: str, scripted_bank: ScriptedPlaid, profile: Profile
) -> None:
    worlds = links(store, database_url, scripted_bank, install(profile), 4)

    class Cut:
        """The process is killed before the third token goes in."""

        left = 2

        def call(self, name: str, /, **params: Any) -> Any:
            if name == "token_resealed":
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
            return store.call(name, **params)

    with pytest.raises(KeyboardInterrupt):
        keys.rotate(Cut(), install(profile), "test")
    assert sorted(keys.used(store).values()) == [2, 2]
    assert [opened(world, install(profile)) for world in worlds] == [f"access-canary-{n}" for n in range(4)]
    done = keys.rotate(store, install(profile), "test")
    assert keys.used(store) == {done.key_id: 4}
    assert [opened(world, install(profile)) for world in worlds] == [f"access-canary-{n}" for n in range(4)]


def test_more_links_than_one_answer_holds_and_old_keys_forgotten(
    store: Transport, database_url: str, scripted_bank: ScriptedPlaid, profile: Profile
) -> None:
    secrets = install(profile)
    (world,) = links(store, database_url, scripted_bank, secrets, 1)
    for n in range(450):
        item = str(uuid.uuid4())
        text, key = secrets.seal(f"access-{n}", item)
        world.execute(
            "insert into syncdesk.items (id, user_id, plaid_item_id, institution_name, environment, access_token, "
            "access_key_id) values (%s, %s, %s, '', 'simulated', %s, %s)", item, world.user, item, text, key,
        )  # fmt: skip
    keys.rotate(store, install(profile), "test")
    done = keys.rotate(store, install(profile), "test", forget=True)
    assert (done.resealed, done.kept, done.forgotten) == (451, 0, 2)
    assert [key_id(key) for key in install(profile).existing()] == [done.key_id]


def test_a_token_that_changed_meanwhile_is_not_overwritten(
    store: Transport, database_url: str, scripted_bank: ScriptedPlaid, profile: Profile
) -> None:
    (world,) = links(store, database_url, scripted_bank, install(profile), 1)

    class Meanwhile:
        """The link is made anew between reading its token and putting it back."""

        done = False

        def call(self, name: str, /, **params: Any) -> Any:
            if name == "token_resealed" and not self.done:
                self.done = True
                text, key = install(profile).seal("access-fresh", world.item)
                world.execute(
                    "update syncdesk.items set access_token = %s, access_key_id = %s where id = %s",
                    text, key, world.item,
                )  # fmt: skip
            return store.call(name, **params)

    assert keys.rotate(Meanwhile(), install(profile), "test").resealed == 0
    assert opened(world, install(profile)) == "access-fresh"


def test_a_damaged_token_is_named_and_left(
    store: Transport, database_url: str, scripted_bank: ScriptedPlaid, profile: Profile
) -> None:
    worlds = links(store, database_url, scripted_bank, install(profile), 2)
    worlds[0].execute("update syncdesk.items set access_token = 'v1.AAAA' where id = %s", worlds[0].item)
    done = keys.rotate(store, install(profile), "test", forget=True)
    assert (done.resealed, done.damaged, done.forgotten) == (1, (worlds[0].item,), 0)
    assert worlds[0].row()["access_token"] == "v1.AAAA"


def test_keys_of_the_environment_are_changed_there(
    store: Transport, database_url: str, scripted_bank: ScriptedPlaid, profile: Profile, tmp_path: Path
) -> None:
    old, new = new_key(), new_key()
    links(store, database_url, scripted_bank, install(profile, master_key=old), 2)
    for given in ({"master_key": old}, {"master_key_file": str(tmp_path / "key")}):
        (tmp_path / "key").write_text(old)
        with pytest.raises(UsageError, match="write a new one there before the old"):
            keys.rotate(store, install(profile, **given), "test")
    done = keys.rotate(store, install(profile, master_key=f"{new},{old}"), "test")
    assert (done.key_id, done.resealed) == (key_id(parse_key(new)), 2)
    assert not profile.secrets_file.exists()


def test_without_the_right_key_nothing_is_changed(
    store: Transport, database_url: str, scripted_bank: ScriptedPlaid, profile: Profile, tmp_path: Path
) -> None:
    (world,) = links(store, database_url, scripted_bank, install(profile), 1)
    before = world.row()
    fresh = Profile("other", tmp_path / "other")
    for change in (keys.rotate, keys.make_code):
        with pytest.raises(UsageError if change is keys.rotate else KeyAway):
            change(store, install(fresh), "test")
    install(fresh).ensure()
    kept = fresh.secrets_file.read_text()
    for change in (keys.rotate, keys.make_code):
        with pytest.raises(KeyAway, match="1 bank link is sealed with a master key that is not here"):
            change(store, install(fresh), "test")
    assert world.row() == before
    assert fresh.secrets_file.read_text() == kept
    assert world.rows("select 1 from syncdesk.settings where key = 'recovery'") == []


def test_the_recovery_code_brings_every_key_back_on_another_machine(
    store: Transport, database_url: str, scripted_bank: ScriptedPlaid, profile: Profile, tmp_path: Path
) -> None:
    worlds = links(store, database_url, scripted_bank, install(profile), 2)
    before = worlds[0].row()
    old = keys.make_code(store, install(profile), "test")
    code = keys.make_code(store, install(profile), "test")
    keys.rotate(store, install(profile), "test")
    assert keys.rotate(store, install(profile), "test").recoverable
    fresh = Profile("other", tmp_path / "other")
    own = install(fresh).ensure()  # it began with a key of its own, as a new install does
    running = install(fresh)
    with pytest.raises(KeyAway):
        opened(worlds[0], running)
    with pytest.raises(SecretError, match="does not open"):
        keys.recover(store, install(fresh), old, "test")
    with pytest.raises(UsageError, match="letter is wrong"):
        keys.recover(store, install(fresh), ("A" if code[0] != "A" else "C") + code[1:], "test")
    assert [key_id(key) for key in install(fresh).existing()] == [own]
    found = keys.recover(store, install(fresh), code.lower().replace("-", " "), "test")
    assert len(found) == 3
    running._looked = -1e9
    for n, world in enumerate(worlds):
        assert opened(world, install(fresh)) == f"access-canary-{n}"
        assert opened(world, running) == f"access-canary-{n}"
    assert install(fresh).unseal(before["access_token"], before["access_key_id"], worlds[0].item) == "access-canary-0"
    assert key_id(install(fresh).existing()[-1]) == own
    stored = json.dumps(worlds[0].rows("select value from syncdesk.settings where key = 'recovery'")[0])
    assert code not in stored
    with pytest.raises(UsageError, match="SYNCDESK_MASTER_KEY"):
        keys.recover(store, install(fresh, master_key=new_key()), code, "test")


def test_a_code_survives_a_tired_hand() -> None:
    for _ in range(200):
        code = recovery.new_code()
        lookalike = code.replace("O", "0").replace("I", "1").replace("B", "8")
        assert recovery.public_half(lookalike.lower()) == recovery.public_half(code)


def test_a_wrong_key_is_one_alarm_and_no_item_is_marked(
    store: Transport, database_url: str, scripted_bank: ScriptedPlaid, profile: Profile, tmp_path: Path
) -> None:
    worlds = links(store, database_url, scripted_bank, install(profile), 3)
    wrong = install(Profile("other", tmp_path / "other"))
    before = (worlds[0].row()["state"], worlds[0].row()["state_code"])
    for world in worlds:
        world.deps = dataclasses.replace(world.deps, secrets=wrong)
        world.want()
    with pytest.raises(InstallTrouble, match="Give Syncdesk the right one"):
        worlds[0].run()
    assert [world.run().state for world in worlds[1:]] == ["install_paused", "install_paused"]
    assert [(world.row()["state"], world.row()["state_code"]) for world in worlds] == [before] * 3
    told = worlds[0].rows("select payload ->> 'code' as code from syncdesk.outbox where kind = 'install_trouble'")
    assert told == [{"code": "MASTER_KEY"}]
    assert scripted_bank.calls == []
    scripted_bank.answer(SYNC, page([transaction("t1")], cursor="c1"))
    worlds[0].deps = dataclasses.replace(worlds[0].deps, secrets=install(profile))
    worlds[0].want("manual")
    assert worlds[0].run("manual").state == "done"
    assert worlds[0].rows("select 1 from syncdesk.settings where key = 'install_trouble'") == []


def test_the_commands(
    store: Transport,
    database_url: str,
    scripted_bank: ScriptedPlaid,
    profile: Profile,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del store
    monkeypatch.setenv("SYNCDESK_PROFILE", str(profile.root))
    monkeypatch.setenv("SYNCDESK_SECRETS", "file")
    monkeypatch.setenv("DATABASE_URL", database_url)

    def say(*arguments: str, told: str = "") -> dict[str, Any]:
        monkeypatch.setattr("sys.stdin", io.StringIO(told))
        assert run(build_parser()[0], ["secrets", *arguments, "--json"]) == 0
        return dict(json.loads(capsys.readouterr().out))

    made = say("new-key")["master_key"]
    say("set", "master_key", told=made)
    code = say("recovery")["recovery_code"]
    rotated = say("rotate", "--forget")
    assert rotated["ok"]
    assert rotated["key_id"] != key_id(parse_key(made))
    say("remove", "master_key")
    assert say("recover", told=code)["key_ids"] == [rotated["key_id"]]
    wanted = {name: spec for name, spec in declared().items() if spec.metadata["secret"]}
    from engine.secrets import kept

    found = load(profile.settings_file, FILE, kept(profile, wanted, FILE))
    assert Secrets(profile, found, FILE).source is None
