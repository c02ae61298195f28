"""A broker of the person's own: what it must be, what is said where it is not, and what happens when it refuses."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from engine.errors import BrokerUnavailable, BrokerUnfit, SettingsError
from engine.host.valkey import Valkey
from engine.queue import fitness, lua
from engine.queue.connection import connect
from engine.settings import Settings
from tests.support import servers
from tests.support.engines import NO_BANK, engine
from tests.support.redis7 import Redis7
from tests.support.wait import until

ITEM = "11111111-1111-1111-1111-111111111111"


def look(url: str, namespace: str = "syncdesk", ca_file: str | None = None) -> None:
    fitness.check(Settings(redis_url=url, redis_namespace=namespace, redis_ca_file=ca_file))


@contextlib.contextmanager
def own(**options: Any) -> Iterator[Redis7]:
    """A server of this test alone."""
    with servers.broker(lambda profile: Redis7(profile, **options)) as made:
        assert isinstance(made, Redis7)
        yield made


@contextlib.contextmanager
def admin(server: Valkey) -> Iterator[redis.Redis]:
    """Its administrator."""
    url = server.url_by("password") if isinstance(server, Redis7) else server.url
    client = connect(url, "api")
    yield client
    client.close()


# ---------------------------------------------------------------- at the start


@pytest.mark.brokers
def test_each_kind_of_broker_is_fit(redis_url: str, namespace: str) -> None:
    look(redis_url, namespace)
    client = connect(redis_url, "api")
    assert list(client.scan_iter(match=f"*{namespace}*")) == []
    client.close()


def test_every_command_of_the_scripts_is_tried() -> None:
    used = {
        word for name in lua.SOURCES for word in re.findall(r"redis\.p?call\('([A-Z]+)'", lua.source(name))
    }  # fmt: skip
    assert used <= {call.split()[0] for call in fitness.COMMANDS}


@pytest.mark.redis7
def test_a_wrong_password_and_none(redis7: Redis7) -> None:
    url = redis7.url_by("password")
    with pytest.raises(BrokerUnfit, match="refuses the user or the password"):
        look(url.replace("redis://:", "redis://:x"))
    with pytest.raises(BrokerUnfit, match="wants a password"):
        look("redis://" + url.split("@")[1])


@pytest.mark.redis7
def test_a_certificate_needs_its_authority_and_its_name(redis7: Redis7) -> None:
    bare = redis7.url_by("tls").split("?")[0]
    with pytest.raises(BrokerUnfit, match="SYNCDESK_REDIS_CA_FILE"):
        look(bare)
    look(bare, ca_file=str(redis7.authority.ca))
    with pytest.raises(SettingsError, match="names no file"):
        look(bare, ca_file="/nowhere/ca.pem")


@pytest.mark.redis7
def test_a_certificate_for_another_name() -> None:
    with own(names=("redis.example",)) as server, pytest.raises(BrokerUnfit, match="for another name"):
        look(server.url_by("tls"))


@pytest.mark.redis7
@pytest.mark.parametrize(
    ("less", "said"),
    [
        ("-hset", "may not run HSET"),
        ("-zadd", "may not run ZADD"),
        ("-publish", "may not run PUBLISH"),
        ("-evalsha", "lacks a right"),
        ("-script|load", "lacks a right"),
        ("-subscribe", "lacks a right"),
        ("-exec", "lacks a right"),
        ("-info", "lacks a right"),
        ("resetkeys", "lacks a right"),
        ("resetchannels", "may not run PUBLISH"),
    ],
)
def test_a_user_that_lacks_a_right(redis7: Redis7, namespace: str, less: str, said: str) -> None:
    user = f"u{namespace}"
    with admin(redis7) as root:
        root.execute_command("ACL", "SETUSER", *_words(redis7.user_rule, user), less)
        url = redis7.url_by("acl").replace("//syncdesk:", f"//{user}:")
        with pytest.raises(BrokerUnfit, match=re.escape(said)):
            look(url, namespace)
        root.execute_command("ACL", "DELUSER", user)


def _words(rule: str, user: str) -> list[str]:
    return [user, *rule.split()[1:]]


@pytest.mark.redis7
def test_a_server_that_throws_keys_away() -> None:
    with own() as server, admin(server) as root:
        root.config_set("maxmemory-policy", "allkeys-lru")
        look(server.url)  # without a limit it throws nothing away
        root.config_set("maxmemory", "100mb")
        with pytest.raises(BrokerUnfit, match="maxmemory-policy to noeviction"):
            look(server.url)


@pytest.mark.redis7
def test_a_replica_and_its_primary(redis_url: str) -> None:
    with own() as server, admin(server) as root:
        root.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(BrokerUnfit, match="must name the primary"):
            look(server.url)
        root.execute_command("REPLICAOF", "NO", "ONE")
        look(server.url)


def test_a_server_that_is_too_old() -> None:
    with pytest.raises(BrokerUnfit, match=r"Redis 6\.0\.16 is too old: Syncdesk needs 6\.2"):
        fitness._facts({"redis_version": "6.0.16"})
    fitness._facts({"redis_version": "6.2.0", "role": "master"})


def test_nobody_there() -> None:
    with pytest.raises(BrokerUnavailable, match="cannot be reached"):
        look("redis://127.0.0.1:9")


@pytest.mark.redis7
def test_the_engine_does_not_start_on_an_unfit_broker_and_says_why(redis7: Redis7, database_url: str) -> None:
    bare = redis7.url_by("tls").split("?")[0]
    for command in ("up", "worker"):
        with engine(**NO_BANK, DATABASE_URL=database_url, REDIS_URL=bare) as made:
            done = made.run(command)
            assert done.returncode == 1
            assert "SYNCDESK_REDIS_CA_FILE" in done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.redis7
def test_the_engine_works_over_tls(redis7: Redis7, database_url: str, namespace: str) -> None:
    bare, ca = redis7.url_by("tls").split("?")[0], str(redis7.authority.ca)
    services = {"DATABASE_URL": database_url, "REDIS_URL": bare, "SYNCDESK_REDIS_CA_FILE": ca}
    with engine(**NO_BANK, **services, SYNCDESK_REDIS_NAMESPACE=namespace) as made:
        made.up()
        until(lambda: {row["state"] for row in made.look()["processes"]} == {"running"}, 20)
