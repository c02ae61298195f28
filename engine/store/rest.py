"""The transport over a Supabase project's REST API: ``client.rpc(name, params)`` with the service role key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx

from engine import http
from engine.errors import StoreRefused, StoreUnavailable, SyncdeskError
from engine.store import failures
from engine.store.again import repeated

if TYPE_CHECKING:
    from supabase import Client

_NAMED = re.compile(r'\b(constraint|relation|table|column) "([^"]+)"')
#: The database ends a function by that function's own time; this is more than the longest of them.
_LONGEST_S = 130.0


class _Elsewhere(Exception):
    """What answered was not the project's API: a gateway before it, or a page that a network puts in between."""

    def __init__(self, status: int) -> None:
        self.status = status


class Rest:
    """Calls over HTTP. The service role key stays in the client's headers and appears in no error."""

    def __init__(self, url: str, key: str, *, timeout_s: float = 15.0) -> None:
        self._url = url.rstrip("/")
        self._client = _client(self._url, key, timeout_s)

    def call(self, name: str, /, **params: Any) -> Any:
        """See `engine.store.Transport.call`."""
        return repeated(lambda: self._once(name, params))

    def _once(self, name: str, params: dict[str, Any]) -> Any:
        from postgrest.exceptions import APIError

        body = {f"p_{key}": value for key, value in params.items()}
        failure: SyncdeskError
        try:
            return self._client.rpc(f"syncdesk_{name}", body).execute().data
        except APIError as error:
            failure = _failure(name, error)
        except UnicodeEncodeError:
            failure = failures.from_sqlstate(name, failures.UNTRANSLATABLE)
        except _Elsewhere as answer:
            failure = _by_status(name, answer.status)
        except httpx.HTTPError:
            failure = failures.unavailable(name)
        # Outside the handler, so that the client's error, which may hold values, does not travel along as context.
        raise failure

    def close(self) -> None:
        """Close the HTTP connections."""
        self._client.postgrest.session.close()


def _client(url: str, key: str, timeout_s: float) -> Client:
    from supabase import ClientOptions, create_client

    # Of its own, as supabase's would ask the environment's proxies also for a project on this machine.
    session = httpx.Client(
        timeout=httpx.Timeout(max(timeout_s, _LONGEST_S), connect=5.0),
        proxy=http.proxy_for(url),
        trust_env=False,
        verify=httpx.create_ssl_context(),  # with the authorities that the environment names
        http2=True,
        follow_redirects=True,
    )
    options = ClientOptions(
        auto_refresh_token=False,
        persist_session=False,
        httpx_client=session,
        # A call that may have happened is not sent again by the client: the job that made it knows what is safe.
        postgrest_client_retry=False,
    )
    client = create_client(url, key, options)
    client.postgrest  # noqa: B018 - made on first use; here, so that threads find it made
    session.event_hooks = {"response": [_only_the_api]}
    return client


def _only_the_api(response: httpx.Response) -> None:
    """postgrest forgets the status of an error in JSON, takes one without a code for a refusal, and any page of a
    success for the answer: those of somebody else end here.

    Raises:
        _Elsewhere: it is no answer of the API.
    """
    response.read()
    if "json" in response.headers.get("content-type", ""):
        ours = response.is_success or _has_code(response)
    else:
        ours = response.is_success and not response.content
    if not ours:
        raise _Elsewhere(response.status_code)


def _has_code(response: httpx.Response) -> bool:
    try:
        said = response.json()
    except ValueError:
        return False
    return isinstance(said, dict) and bool(said.get("code"))


def _by_status(name: str, status: int) -> SyncdeskError:
    if status in (401, 403):
        return failures.from_sqlstate(name, "42501")
    if status >= 500 or status < 300 or status in (408, 429):
        return StoreUnavailable("The Supabase project does not answer.", function=name, status=status)
    return StoreRefused(f"The Supabase project refused {name} (HTTP {status}).", function=name, status=status)


def _failure(name: str, error: Any) -> SyncdeskError:
    """By SQLSTATE, or by PostgREST's own codes, which `failures` knows as well."""
    code = str(error.code or "")
    message = str(error.message or "")
    # For a violated constraint Postgres' message has nothing but names; the values are in the details.
    named = dict(_NAMED.findall(message)) if code.startswith("23") else {}
    return failures.from_sqlstate(
        name,
        code,
        message,
        constraint=named.get("constraint"),
        table=named.get("relation") or named.get("table"),
        column=named.get("column"),
    )
