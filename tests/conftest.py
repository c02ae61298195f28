"""Fixtures over real parts. The servers start once a session, on the first test that asks for them.

Nothing here imports Qt: the engine's tests run where its libraries are missing.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import hypothesis
import pytest

from engine.store import Transport
from tests.support import days, servers
from tests.support.bank import RunningBank, running_bank
from tests.support.engines import clean_environment
from tests.support.light import Light
from tests.support.redis7 import Door, Redis7
from tests.support.scripted_plaid import ScriptedPlaid

# The suite says the same of one commit each time, however slow the machine is: always the same examples, and none fails
# by its time. Others are drawn with `--hypothesis-profile default`.
hypothesis.settings.register_profile(
    "steady", derandomize=True, database=None, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("steady")

DEBIAN_POSTGRES = Path("/usr/lib/postgresql/15")

_NEEDS = {
    "debian15": ((DEBIAN_POSTGRES / "bin" / "postgres").exists, "Debian's Postgres 15"),
    "redis7": (lambda: shutil.which("redis-server"), "Debian's redis-server"),
    "pgbouncer": (lambda: shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin"), "pgbouncer"),
    "compiler": (lambda: shutil.which("cc") or shutil.which("gcc"), "a C compiler"),
}


def pytest_configure() -> None:
    """What the caller has set for an engine or a database of their own is not for ours, nor is their keyring."""
    own = {name: value for name, value in os.environ.items() if name.startswith("SYNCDESK_TEST_")}
    kept = {name: value for name, value in clean_environment(**own).items() if not name.startswith("PG")}
    os.environ.clear()
    os.environ.update(kept)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the console's tests, and skip by name what this machine lacks."""
    missing = {mark: words for mark, (present, words) in _NEEDS.items() if not present()}
    for item in items:
        if {"qapp", "qtbot"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.gui)
        for mark, words in missing.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=f"needs {words}, which is not installed here"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[servers.Cluster]:
    """The embedded Postgres with its migrated template database."""
    with servers.cluster() as made:
        yield made


@pytest.fixture(scope="session")
def cluster15() -> Iterator[servers.Cluster]:
    """Debian's Postgres 15, launched by the same code. Tests that use it carry the mark ``debian15``."""
    with servers.cluster(DEBIAN_POSTGRES) as made:
        yield made


@pytest.fixture
def database_url(cluster: servers.Cluster) -> Iterator[str]:
    """The URL of a fresh, migrated database of this test alone."""
    with cluster.fresh() as url:
        yield url


@pytest.fixture
def store(database_url: str) -> Iterator[Transport]:
    """The direct transport to the test's database."""
    from engine.store.direct import Direct

    made = Direct(database_url, connect_s=30.0)
    yield made
    made.close()


@pytest.fixture(scope="session")
def pooler(cluster: servers.Cluster) -> Iterator[str]:
    """pgbouncer in transaction mode before the cluster: its URL with ``{database}`` to be filled in."""
    from tests.support.pooler import pgbouncer

    with pgbouncer(cluster.url("postgres")) as url:
        yield url


@dataclass(frozen=True)
class Backend:
    """A way to a database: which server, and how the transport gets there."""

    server: str
    door: str


BACKENDS = [
    pytest.param(Backend("cluster", "direct"), id="direct"),
    pytest.param(Backend("cluster", "rest"), id="rest"),
    pytest.param(Backend("cluster15", "direct"), id="direct-15", marks=pytest.mark.debian15),
    pytest.param(Backend("cluster15", "rest"), id="rest-15", marks=pytest.mark.debian15),
    pytest.param(Backend("cluster", "pooled"), id="pooled", marks=pytest.mark.pgbouncer),
]


@pytest.fixture(params=BACKENDS)
def any_backend(request: pytest.FixtureRequest) -> Backend:
    """Each supported way to a database, in turn."""
    backend: Backend = request.param
    return backend


@pytest.fixture
def any_database_url(request: pytest.FixtureRequest, any_backend: Backend) -> Iterator[str]:
    """A fresh database behind the way under test, for looking at it directly."""
    with request.getfixturevalue(any_backend.server).fresh() as url:
        yield url


@pytest.fixture
def any_store(request: pytest.FixtureRequest, any_backend: Backend, any_database_url: str) -> Iterator[Transport]:
    """The transport under test: direct, through REST, on Postgres 18 and 15, and through a pooler."""
    from engine.store.direct import Direct

    made: Transport
    if any_backend.door == "rest":
        from engine.store.rest import Rest
        from tests.support.rpc_server import RpcServer

        key = "service-key-of-the-tests"
        with RpcServer(any_database_url, key) as server:
            made = Rest(server.url, key)
            yield made
            made.close()
        return
    url = any_database_url
    if any_backend.door == "pooled":
        database = urlsplit(url).path.removeprefix("/")
        url = request.getfixturevalue("pooler").format(database=database)
    made = Direct(url, connect_s=30.0)
    yield made
    made.close()


BROKERS = [
    pytest.param("valkey"),
    pytest.param("password", marks=pytest.mark.redis7, id="redis7"),
    pytest.param("acl", marks=pytest.mark.redis7, id="redis7-acl"),
    pytest.param("tls", marks=pytest.mark.redis7, id="redis7-tls"),
    pytest.param("light"),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with the mark ``brokers`` run on each kind of broker, all others on the bundled Valkey."""
    if metafunc.definition.get_closest_marker("brokers"):
        metafunc.parametrize("broker_kind", BROKERS, indirect=True)


@pytest.fixture
def broker_kind(request: pytest.FixtureRequest) -> str:
    """The kind of broker under test."""
    return str(getattr(request, "param", "valkey"))


@pytest.fixture(scope="session")
def broker_url() -> Iterator[str]:
    """The embedded Valkey, one for the session: use a ``namespace`` of your own in it."""
    with servers.broker() as made:
        yield made.url


@pytest.fixture(scope="session")
def redis7() -> Iterator[Redis7]:
    """Debian's Redis 7, one for the session. Tests that use it carry the mark ``redis7``."""
    with servers.broker(Redis7) as made:
        assert isinstance(made, Redis7)
        yield made


@pytest.fixture(scope="session")
def light_url() -> Iterator[str]:
    """The stand-in of a bare Windows, one for the session."""
    with servers.broker(Light) as made:
        yield made.url


@pytest.fixture
def namespace() -> str:
    """First part of every key of this test in the shared broker."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def redis_url(request: pytest.FixtureRequest, broker_kind: str) -> str:
    """The URL of the session's broker of that kind."""
    if broker_kind in ("valkey", "light"):
        return str(request.getfixturevalue("broker_url" if broker_kind == "valkey" else "light_url"))
    server: Redis7 = request.getfixturevalue("redis7")
    return server.url_by(cast("Door", broker_kind))


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[object]:
    """A plain client of the session's broker, answers as bytes."""
    import redis

    client = redis.Redis.from_url(redis_url)
    yield client
    client.close()


@pytest.fixture
def one_day() -> None:
    """For tests that count in days: today (UTC) stays today until their end."""
    days.settle()


@pytest.fixture
def bank() -> Iterator[RunningBank]:
    """A sandbox bank of this test alone, in which nothing happens by itself."""
    with running_bank() as running:
        yield running


@pytest.fixture
def scripted_bank() -> Iterator[ScriptedPlaid]:
    """A bank whose every answer the test decides."""
    made = ScriptedPlaid()
    yield made
    made.close()
