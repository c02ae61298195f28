"""A broker of the person's own: what it must be, what is said where it is not, and what happens when it refuses."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
import redis

from engine.errors import BrokerUnavailable, BrokerUnfit, SettingsError
from engine.host.valkey import Valkey
from engine.queue import Hints, fitness, lua, scripts
from engine.queue.connection import connect, translated
from engine.settings import Settings
from tests.support import servers
from tests.support.engines import NO_BANK, engine
from tests.support.queue import bench, settings
from tests.support.redis7 import Redis7
from tests.support.wait import until


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


@pytest.mark.redis7
def test_a_node_of_a_cluster_that_does_not_hold_the_keys() -> None:
    with own(cluster=True) as one, own(cluster=True) as other, admin(one) as root, admin(other) as second:
        root.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        slot = int(root.execute_command("CLUSTER", "KEYSLOT", "{syncdesk}:epoch"))
        owner = str(second.execute_command("CLUSTER", "MYID"))
        facts = {name: int(second.config_get(name)[name]) for name in ("port", "cluster-port")}
        root.execute_command("CLUSTER", "MEET", "127.0.0.1", str(facts["port"]), str(facts["cluster-port"]))
        until(lambda: owner in str(root.execute_command("CLUSTER", "NODES")), 30)
        until(lambda: "cluster_state:ok" in str(root.execute_command("CLUSTER", "INFO")), 30)
        look(one.url)
        root.execute_command("CLUSTER", "SETSLOT", str(slot), "NODE", owner)
        with pytest.raises(BrokerUnfit, match="one node of a cluster"):
            look(one.url)


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
        until(lambda: {row["state"] for row in made.look()["processes"]} == {"running"}, 60)


# ---------------------------------------------------------------- while it works


class Refusal:
    """One server that refuses, each kind in its own way, until it is healed."""

    def __init__(self, server: Redis7, root: redis.Redis) -> None:
        self._root = root
        self._file = server.profile.broker_data / "dump.rdb"

    def misconf(self) -> None:
        self._file.mkdir()  # what it saved cannot take this place
        self._saved("err")

    def misconf_heals(self) -> None:
        self._file.rmdir()
        self._saved("ok")

    def _saved(self, status: str) -> None:
        def saved() -> bool:
            with contextlib.suppress(redis.ResponseError):  # one is under way
                self._root.execute_command("BGSAVE")
            return bool(self._root.info("persistence")["rdb_last_bgsave_status"] == status)

        until(saved, 30, f"a save that ends {status}")

    def oom(self) -> None:
        self._root.config_set("maxmemory", "1")

    def oom_heals(self) -> None:
        self._root.config_set("maxmemory", "0")

    def readonly(self) -> None:
        self._root.execute_command("REPLICAOF", "127.0.0.1", "1")

    def readonly_heals(self) -> None:
        self._root.execute_command("REPLICAOF", "NO", "ONE")

    def cluster(self) -> None:
        self._root.execute_command("CLUSTER", "FLUSHSLOTS") if self._empty() else self._slots("DELSLOTSRANGE", "fail")

    def cluster_heals(self) -> None:
        self._slots("ADDSLOTSRANGE", "ok")

    def _empty(self) -> bool:
        return not self._root.execute_command("CLUSTER", "SLOTS")

    def _slots(self, command: str, state: str) -> None:
        self._root.execute_command("CLUSTER", command, "0", "16383")
        until(lambda: f"cluster_state:{state}" in str(self._root.execute_command("CLUSTER", "INFO")), 30)


REFUSALS: dict[str, tuple[str, dict[str, Any]]] = {
    "misconf": ("cannot save its data", {"more": "save 3600 1\n"}),
    "oom": ("out of memory", {}),
    "readonly": ("read-only replica", {}),
    "cluster": ("cluster is down", {"cluster": True}),
}


@pytest.mark.redis7
@pytest.mark.parametrize("kind", REFUSALS)
def test_a_server_that_refuses_costs_no_attempt_and_one_alarm(
    kind: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    said, options = REFUSALS[kind]
    with own(**options) as server, admin(server) as root:
        refusal = Refusal(server, root)
        if kind == "cluster":
            refusal.cluster_heals()
        with bench(server.url, namespace) as world:
            world.client.set(world.keys.epoch, "1")
            broker = world.broker(threads=2, given=settings(lease_s=30.0))  # longer than the refusal
            gate, ran = threading.Event(), []

            def act(**arguments: Any) -> None:
                ran.append(arguments["item_id"])
                gate.wait(30)

            dramatiq.actor(actor_name="sync_item", queue_name="transactions", broker=broker)(act)
            hints = Hints(world.client, world.keys)
            jobs = [hints.sync(f"i{n}", "u1", "Bank", "high", "webhook", "c") for n in range(5)]
            world.work(broker)
            until(lambda: len(ran) == 2)
            getattr(refusal, kind)()
            with pytest.raises(BrokerUnavailable, match=said):
                hints.sync("late", "u1", "Bank", "high", "webhook", "c")
            gate.set()  # what runs ends now, and its end must wait (a full server takes it)
            if kind == "oom":
                until(lambda: len(ran) == 5)  # what is there is done: that is what makes room
            else:
                until(lambda: [line for line in caplog.messages if "a job's end waits" in line])
            getattr(refusal, f"{kind}_heals")()
            until(lambda: [world.state(job) for job in jobs] == ["done"] * 5)
            assert sorted(ran) == [f"i{n}" for n in range(5)]
            assert {(world.fields(job)["starts"], world.fields(job)["tries"]) for job in jobs} == {("1", "0")}
            alarms = [line for line in caplog.messages if line.startswith(("Redis is away, waiting", "Leases could"))]
            assert len(alarms) <= 2, alarms


@pytest.mark.brokers
def test_scripts_that_were_forgotten_are_loaded_again(redis_url: str, namespace: str, broker_kind: str) -> None:
    with bench(redis_url, namespace) as world:
        hints = Hints(world.client, world.keys)
        hints.sync("i1", "u1", "Bank", "high", "webhook", "c")
        if broker_kind == "acl":
            return  # its user may not make the server forget
        world.client.script_flush()
        hints.sync("i2", "u1", "Bank", "high", "webhook", "c")
        assert scripts.run(world.client, world.keys, "counts", "transactions")[0] == 2
        world.client.script_flush()
        line = world.broker().line()  # a worker's own connection, which repeats nothing by itself
        assert scripts.run(line, world.keys, "counts", "transactions")[0] == 2


@pytest.mark.redis7
def test_a_connection_to_a_former_primary_is_not_kept(namespace: str) -> None:
    """Its name leads to another by now: the next call connects anew."""
    with own() as server, admin(server) as root, bench(server.url, namespace) as world:
        broker = world.broker()
        keys = world.keys
        assert scripts.run(broker.line(), keys, "renew", "transactions", "w", 1000) == []
        before = root.info("stats")["total_connections_received"]
        root.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(redis.exceptions.ReadOnlyError):
            broker.line().execute_command("SET", keys.epoch, "1")
        root.execute_command("REPLICAOF", "NO", "ONE")
        broker.line().execute_command("SET", keys.epoch, "1")
        assert root.info("stats")["total_connections_received"] == before + 1


@pytest.mark.redis7
def test_a_server_that_loads_its_data_is_waited_for() -> None:
    with own(durable=True, more="key-load-delay 50\n") as server, admin(server) as root:
        root.eval("for n = 1, 20000 do redis.call('SET', 'k' .. n, n) end", 0)
        server.stop()
        starting = threading.Thread(target=server.start)
        starting.start()
        told: set[str] = set()
        while starting.is_alive():
            client = connect(server.url, "worker")
            try:
                with translated():
                    client.ping()
            except BrokerUnavailable as error:
                told.add(error.message)
            finally:
                client.close()
        starting.join()
        assert "Redis is still loading its data." in told
        assert int(root.dbsize()) == 20000
