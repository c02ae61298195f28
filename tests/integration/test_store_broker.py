"""The embedded broker: what it survives, and what serves where it does not come with us."""

from __future__ import annotations

import socket
import stat
import sys
from collections.abc import Iterator

import psutil
import pytest
import redis

from engine.host import binaries, valkey
from engine.host.valkey import Valkey
from engine.profile import Profile
from tests.support import servers
from tests.support.servers import dead, kill
from tests.support.wait import until


@pytest.fixture
def profile() -> Iterator[Profile]:
    with servers.throwaway_profile() as made:
        yield made


@pytest.fixture
def broker(profile: Profile) -> Iterator[Valkey]:
    made = Valkey(profile)
    yield made
    made.stop()


def test_the_broker_needs_its_password_and_listens_on_loopback_alone(broker: Valkey) -> None:
    broker.start()
    port = int(broker.url.rsplit(":", 1)[1].split("/")[0])
    bare = redis.Redis(port=port)
    with pytest.raises(redis.exceptions.AuthenticationError):
        bare.ping()
    bare.close()
    listening = [c.laddr.ip for c in psutil.Process(broker.pid).net_connections("inet") if c.status == "LISTEN"]
    assert listening == ["127.0.0.1"]
    password = broker.url.split(":")[2].split("@")[0]
    assert password not in " ".join(psutil.Process(broker.pid).cmdline())
    config = broker.profile.run / "valkey.conf"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600 or sys.platform == "win32"


def test_the_broker_keeps_what_it_was_told(broker: Valkey) -> None:
    broker.start()
    url = broker.url
    with redis.Redis.from_url(url) as client:
        client.set("kept", "7")
    broker.stop()
    broker.start()
    assert broker.url == url
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"7"
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}


def test_the_broker_starts_again_after_a_kill(broker: Valkey) -> None:
    broker.start()
    kill(broker.pid)
    assert not broker.alive()
    broker.start()
    with redis.Redis.from_url(broker.url) as client:
        assert client.ping()


def test_a_damaged_broker_file_is_put_aside(broker: Valkey) -> None:
    broker.start()
    with redis.Redis.from_url(broker.url) as client:
        client.set("lost", "7")
    broker.stop()
    for file in (broker.profile.broker_data / "appendonlydir").glob("*.aof"):
        file.write_bytes(b"*3\r\n$3\r\nSET\r\nrubbish\r\n" * 20)
    broker.start()
    with redis.Redis.from_url(broker.url) as client:
        assert client.get("lost") is None
    assert list(broker.profile.root.glob("valkey.damaged-*"))


def test_an_orphan_of_a_dead_engine_is_ended(profile: Profile) -> None:
    orphan = Valkey(profile)
    orphan.start()
    pid = orphan.pid
    assert pid
    fresh = Valkey(profile)
    fresh.start()
    try:
        assert dead(pid)
        assert valkey.running_url(profile) == fresh.url
    finally:
        fresh.stop()


def test_a_port_taken_at_the_first_start_is_changed(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.host import binaries_process

    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1]])
        real = binaries_process.free_port
        monkeypatch.setattr(binaries_process, "free_port", lambda: next(ports, None) or real())
        broker.start()
    with redis.Redis.from_url(broker.url) as client:
        assert client.ping()


def test_where_no_server_comes_with_us_the_light_broker_serves(
    profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "valkey_server", lambda: None)
    light = Valkey(profile)
    assert light.light
    light.start()
    try:
        with redis.Redis.from_url(light.url) as client:
            assert client.eval("return redis.call('incr', KEYS[1])", 1, "n") == 1
            client.lpush("list", "a")
            assert client.brpop(["list"], timeout=1) == (b"list", b"a")
            heard = client.pubsub()
            heard.subscribe("news")
            assert until(lambda: heard.get_message(timeout=1))["type"] == "subscribe"
            client.publish("news", "x")
            assert until(lambda: heard.get_message(timeout=1))["data"] == b"x"
            heard.close()
        pid = light.pid
    finally:
        light.stop()
    assert pid
    assert dead(pid)
