"""Calls to Plaid: plaid-python's configuration, authentication and connection pool, our own decoding.

plaid-python's response models take seconds for 500 transactions, so answers are read as raw
bytes and decoded by msgspec into `engine.plaid.types`. Everything that can go wrong comes out
as one `PlaidError`, with Plaid's request id wherever the answer has one. A client may be shared by threads.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec

from engine import clock, http
from engine.errors import SettingsError
from engine.plaid import types
from engine.plaid.errors import (
    InstallTrouble,
    PlaidError,
    PlaidUnreachable,
    RateLimited,
    not_plaid,
    plaid_error,
    request_id_in,
    words,
)
from engine.plaid.table import CODES, MISSING_KEYS, UNREACHABLE
from engine.settings import Settings

T = TypeVar("T")

#: Seconds to connect, and between two pieces of an answer. Plaid documents none; its slowest calls take tens.
TIMEOUT = (5.0, 30.0)
#: Seconds for the whole of an answer: one that drips keeps no thread for ever.
ANSWER_S = 120.0
#: A page of 500 transactions is about 600 kB; anything near this is not an answer of Plaid.
MAX_ANSWER = 8 * 1024 * 1024
PAGE_SIZE = 500
_PIECE = 64 * 1024

_HOSTS = {"sandbox": "https://sandbox.plaid.com", "production": "https://production.plaid.com"}


class PlaidClient:
    """Plaid's endpoints as methods. Opens nothing before the first call."""

    def __init__(self, settings: Settings, counted: Callable[[str, str], None] | None = None) -> None:
        """``counted`` is told the path of each call, and ``ok`` or the code of its error."""
        self._counted = counted
        self._host = settings.plaid_url or _HOSTS.get(settings.plaid_env, "")
        simulated = settings.plaid_env == "simulated"
        self._client_id = settings.plaid_client_id or ("simulated" if simulated else None)
        self._secret = settings.plaid_secret or ("simulated" if simulated else None)
        self._connections = max(settings.sync_threads, settings.event_threads) * 2 + 2
        self._lock = threading.Lock()
        self._api: Any = None

    # -- transactions

    def transactions_sync(self, access_token: str, cursor: str | None, count: int = PAGE_SIZE) -> bytes:
        """One raw answer of /transactions/sync; `engine.plaid.pages.read` makes rows of it.

        Raises:
            PlaidError: any failure, typed by what to do about it.
        """
        body: dict[str, Any] = {"access_token": access_token, "count": count}
        if cursor:
            body["cursor"] = cursor
        # Asking for a page twice changes nothing, so a connection that was closed under us is tried anew.
        return self._post("/transactions/sync", body, repeatable=True)

    def transactions_refresh(self, access_token: str) -> None:
        self._call("/transactions/refresh", {"access_token": access_token}, types.Ok)

    # -- items and accounts

    def item_get(self, access_token: str) -> types.ItemInfo:
        return self._call("/item/get", {"access_token": access_token}, types.ItemAnswer, repeatable=True).item

    def item_remove(self, access_token: str) -> None:
        self._call("/item/remove", {"access_token": access_token}, types.Ok)

    def item_webhook_update(self, access_token: str, url: str) -> types.ItemInfo:
        body = {"access_token": access_token, "webhook": url}
        return self._call("/item/webhook/update", body, types.ItemAnswer, repeatable=True).item

    def accounts_get(self, access_token: str) -> types.AccountsAnswer:
        return self._call("/accounts/get", {"access_token": access_token}, types.AccountsAnswer, repeatable=True)

    def institution_name(self, institution_id: str, countries: tuple[str, ...] = ("US", "CA")) -> str:
        body = {"institution_id": institution_id, "country_codes": list(countries)}
        answer = self._call("/institutions/get_by_id", body, types.InstitutionAnswer, repeatable=True)
        return answer.institution.name

    # -- linking

    def exchange(self, public_token: str) -> types.Exchanged:
        """A public token (valid for 30 minutes) becomes the item's access token, once."""
        return self._call("/item/public_token/exchange", {"public_token": public_token}, types.Exchanged)

    def link_token_create(self, request: Mapping[str, Any]) -> types.LinkToken:
        return self._call("/link/token/create", dict(request), types.LinkToken)

    def link_token_get(self, link_token: str) -> types.LinkTokenAnswer:
        return self._call("/link/token/get", {"link_token": link_token}, types.LinkTokenAnswer, repeatable=True)

    # -- webhooks

    def verification_key(self, kid: str) -> types.VerificationKey:
        body = {"key_id": kid}
        answer = self._call("/webhook_verification_key/get", body, types.VerificationKeyAnswer, repeatable=True)
        return answer.key

    # -- the seam

    def close(self) -> None:
        with self._lock:
            if self._api is not None:
                self._api.rest_client.pool_manager.clear()
                self._api = None

    def _call(self, path: str, body: dict[str, Any], kind: type[T], *, repeatable: bool = False) -> T:
        raw = self._post(path, body, repeatable=repeatable)
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            failure = not_plaid(path, 200, raw)
        raise failure

    def _post(self, path: str, body: dict[str, Any], *, repeatable: bool) -> bytes:
        code = "other"
        try:
            answer = self._send(path, body, repeatable=repeatable)
            code = "ok"
            return answer
        except PlaidError as error:
            code = error.plaid_code if error.plaid_code in CODES else code
            raise
        finally:
            if self._counted is not None:
                self._counted(path, code)

    def _send(self, path: str, body: dict[str, Any], *, repeatable: bool) -> bytes:
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        api = self._connected()
        failure: PlaidError
        for last in (not repeatable, True):
            try:
                # Not through its `call_api`: that reads the body of a refusal whole, however large or slow it is.
                answer = api.rest_client.pool_manager.request(
                    "POST",
                    self._host + path,
                    headers=dict(api.default_headers),
                    body=json.dumps(body),
                    preload_content=False,
                    timeout=Timeout(connect=TIMEOUT[0], read=TIMEOUT[1]),
                )
                data, whole, cut = _read(answer)
                if whole and 200 <= answer.status <= 299:
                    return data
                if cut and not last:
                    continue
                failure = _refusal(path, answer, data) if whole else not_plaid(path, answer.status, data)
            except HTTPError as error:
                failure = _unreachable(path, type(error).__name__)
                if not last and _was_closed(error):
                    continue
            except (OSError, TypeError, ValueError) as error:
                failure = _unreachable(path, type(error).__name__)
            # Outside the handlers: the library's errors hold the request, which holds a token.
            raise failure
        raise failure

    def _connected(self) -> Any:
        api = self._api
        if api is None:
            with self._lock:
                api = self._api
                if api is None:
                    api = self._api = self._open()
        return api

    def _open(self) -> Any:
        from plaid.api_client import ApiClient
        from plaid.configuration import Configuration
        from urllib3 import Retry, make_headers

        if not self._host:
            raise SettingsError("SYNCDESK_PLAID_URL is not set, so there is no bank to talk to.", setting="plaid_url")
        if not (self._client_id and self._secret):
            said = words(MISSING_KEYS, None)
            raise InstallTrouble(f"{said.title}. {said.sentence}", plaid_code=MISSING_KEYS)
        configuration = Configuration(
            host=self._host, api_key={"clientId": self._client_id, "secret": self._secret, "plaidVersion": "2020-09-14"}
        )
        configuration.connection_pool_maxsize = self._connections
        configuration.retries = Retry(total=0, redirect=0)
        configuration.proxy = http.proxy_for(self._host)
        if configuration.proxy:
            configuration.proxy_headers = make_headers(proxy_basic_auth=_credentials(configuration.proxy))
        api = ApiClient(configuration)
        for name in configuration.auth_settings().values():
            api.set_default_header(name["key"], name["value"])
        api.set_default_header("Content-Type", "application/json")
        api.set_default_header("Accept-Encoding", "gzip")
        return api


def _read(answer: Any) -> tuple[bytes, bool, bool]:
    """The body, whether it is whole, and whether the connection broke within it.

    Of one that is too large or too slow only the ends are kept: that is where a request id stands. The connection
    goes back to the pool only when all was read.
    """
    from urllib3.exceptions import HTTPError

    until, kept, length, end = clock.monotonic() + ANSWER_S, [], 0, False
    try:
        while not end and (piece := answer.read1(_PIECE, decode_content=True)):
            kept.append(piece)
            length += len(piece)
            if length > MAX_ANSWER:
                kept = [kept[0], *kept[-2:]]
            end = length > 2 * MAX_ANSWER or clock.monotonic() > until
    except HTTPError:
        answer.close()
        return b"".join(kept), False, True
    if end:
        answer.close()
        return b"".join(kept), False, False
    answer.release_conn()
    announced = answer.headers.get("Content-Length")
    plain = "Content-Encoding" not in answer.headers
    whole = not (plain and announced and announced.isdigit() and int(announced) != length)
    return b"".join(kept), whole and length <= MAX_ANSWER, False


def _credentials(proxy: str) -> str | None:
    """``user:password`` of a proxy's address, as it stands in its header; None where it has none."""
    parts = urlsplit(proxy)
    return None if parts.username is None else f"{unquote(parts.username)}:{unquote(parts.password or '')}"


def _was_closed(error: Exception) -> bool:
    from urllib3.exceptions import ProtocolError

    return isinstance(error, ProtocolError)


def _unreachable(path: str, reason: str) -> PlaidError:
    return PlaidUnreachable(
        "Plaid did not answer. The network or Plaid is down.", plaid_code=UNREACHABLE, path=path, reason=reason
    )


def _refusal(path: str, answer: Any, raw: bytes) -> PlaidError:
    """Plaid's error body as a typed error; any other body as "not Plaid"."""
    status = int(answer.status)
    try:
        body = msgspec.json.decode(raw, type=types.ErrorBody)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        if status == 429:
            return RateLimited(
                "Plaid asked us to slow down.",
                plaid_code="RATE_LIMIT",
                request_id=request_id_in(raw),
                http_status=status,
                path=path,
            )
        return not_plaid(path, status, raw)
    wait = answer.headers.get("Retry-After", "")
    detail: dict[str, Any] = {"path": path, "retry_after_s": int(wait)} if _seconds(wait) else {"path": path}
    if body.error_code in ("INVALID_FIELD", "MISSING_FIELDS", "UNKNOWN_FIELDS"):
        # Says which field of our request; it names fields, not values.
        detail["refused_cursor"] = "cursor" in body.error_message.lower()
    return plaid_error(
        body.error_code[:100], body.error_type[:100], request_id=body.request_id, http_status=status, **detail
    )


def _seconds(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5
