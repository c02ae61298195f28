"""Which proxy a call takes: as people's other programs do, but never for what is on this machine."""

from __future__ import annotations

import base64
from urllib.parse import urlsplit

import pytest

from engine.http import proxy_for
from engine.plaid.client import PlaidClient
from engine.settings import Settings
from engine.store.rest import Rest
from tests.support.receiver import receiver

PROXY = "http://proxy.example.test:3128"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": PROXY}, PROXY),
        ({"https_proxy": "proxy.example.test:3128"}, PROXY),
        ({"ALL_PROXY": PROXY}, PROXY),
        ({"HTTP_PROXY": PROXY}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "example.org, .plaid.com"}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "example.org"}, PROXY),
        ({"ALL_PROXY": "socks5://127.0.0.1:1080"}, None),
    ],
)
def test_the_usual_variables_count(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_for("https://production.plaid.com") == proxy


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3:8080", "localhost:54321", "api.localhost", "[::1]:3000"])
def test_this_machine_is_asked_directly(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("ALL_PROXY", PROXY)
    assert proxy_for(f"http://{host}") is None
    assert proxy_for("http://192.168.1.4") == PROXY


def test_plaid_and_supabase_are_reached_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as through:
        address = urlsplit(through.url).netloc
        monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@{address}")
        plaid = PlaidClient(Settings(plaid_url="http://plaid.example.test"))
        plaid.transactions_sync("token", None)
        plaid.close()
        store = Rest("http://project.example.test", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln")
        store.call("writable")
        store.close()
    assert [headers["host"] for headers, _ in through.arrived] == ["plaid.example.test", "project.example.test"]
    login = "Basic " + base64.b64encode(b"me:p@ss").decode()
    assert {headers["proxy-authorization"] for headers, _ in through.arrived} == {login}
