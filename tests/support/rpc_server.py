"""A stand-in for a Supabase project's REST API: real HTTP over a real Postgres, as PostgREST answers RPC calls.

It keeps PostgREST's habits that a client can trip over: a schema cache that only ``notify pgrst`` refreshes,
functions found by the names of their parameters, arguments through ``json_to_record``, the role of the key, eight
seconds for a statement unless the function sets its own time, at most 1,000 rows of a set, errors as JSON.

``python -m tests.support.rpc_server DATABASE_URL KEY [PORT]`` runs it alone.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
from psycopg import sql

from engine.store.pool import Pool

PREFIX = "/rest/v1/rpc/"
ROW_LIMIT = 1000
DEFAULT_TIMEOUT = "8s"

_FUNCTIONS = """
    select p.proname, p.proretset,
           coalesce(p.proargnames[1:p.pronargs], '{}'),
           (select coalesce(array_agg(format_type(t, null) order by n), '{}')
              from unnest(p.proargtypes) with ordinality a(t, n)),
           p.pronargdefaults,
           (select split_part(c, '=', 2) from unnest(p.proconfig) c where c like 'statement_timeout=%')
      from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prokind = 'f'
"""
#: HTTP status by SQLSTATE, as PostgREST documents it; by class where the code itself is not listed.
_STATUS = {"23503": 409, "23505": 409, "25006": 405, "42501": 403, "42883": 404, "42P01": 404, "P0001": 400}
_STATUS_BY_CLASS = {"08": 503, "53": 503, "40": 500, "54": 413, "57": 500, "28": 403, "XX": 500, "58": 500}


@dataclass(frozen=True)
class Function:
    """One entry of the schema cache."""

    name: str
    is_set: bool
    types: dict[str, str]
    required: frozenset[str]
    timeout: str

    def takes(self, keys: set[str]) -> bool:
        return self.required <= keys <= set(self.types)


class Refused(Exception):
    """A request that is answered with an error before it reaches a function."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message, "details": None, "hint": None}


class RpcServer:
    """The stand-in. ``url`` is what a client takes for the project's URL."""

    def __init__(self, database_url: str, key: str, port: int = 0) -> None:
        self.key = key
        self._pool = Pool(lambda: psycopg.connect(database_url, prepare_threshold=None), 20, wait_s=30)
        self._listener = psycopg.connect(database_url, autocommit=True)
        with contextlib.suppress(psycopg.errors.ReadOnlySqlTransaction):  # a standby has no news of the schema
            self._listener.execute("listen pgrst")
        self._lock = threading.Lock()
        self._functions: list[Function] = []
        self._load()
        self._http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="rpc", daemon=True)

    def __enter__(self) -> RpcServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self._listener.close()
        self._pool.close()

    def run_forever(self) -> None:
        """Serve until interrupted."""
        self._http.serve_forever()

    def answer(self, name: str, body: dict[str, Any]) -> tuple[int, bytes]:
        """Call a function with the parsed body of a request: status and body of the answer."""
        try:
            function = self._find(name, set(body))
            return 200, self._call(function, body)
        except Refused as refusal:
            return refusal.status, json.dumps(refusal.body).encode()
        except psycopg.Error as error:
            return _error(error)

    def _load(self) -> None:
        rows = self._listener.execute(_FUNCTIONS).fetchall()
        self._functions = []
        for name, is_set, names, types, defaults, timeout in rows:
            required = frozenset(names[: len(names) - defaults])
            arguments = dict(zip(names, types, strict=True))
            self._functions.append(Function(name, is_set, arguments, required, timeout or DEFAULT_TIMEOUT))

    def _find(self, name: str, keys: set[str]) -> Function:
        with self._lock:
            self._listener.execute("select 1")  # brings what was notified before this request
            if any(note.payload == "reload schema" for note in self._listener.notifies(timeout=0)):
                self._load()
            for function in self._functions:
                if function.name == name and function.takes(keys):
                    return function
        told = ", ".join(sorted(keys))
        raise Refused(404, "PGRST202", f"Could not find the function public.{name}({told}) in the schema cache")

    def _call(self, function: Function, body: dict[str, Any]) -> bytes:
        used = [key for key in function.types if key in body]
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(key), sql.SQL(function.types[key])) for key in used
        )
        arguments = sql.SQL(", ").join(sql.SQL("{0} => _a.{0}").format(sql.Identifier(key)) for key in used)
        call = sql.SQL("public.{}({})").format(sql.Identifier(function.name), arguments)
        source = sql.SQL("json_to_record(%s::json) as _a({})").format(columns) if used else sql.SQL("(select 1) _a")
        if function.is_set:
            query = sql.SQL(
                "select coalesce(json_agg(r), '[]')::text from (select s.* from {}, lateral {} s limit {}) r"
            ).format(source, call, ROW_LIMIT)
        else:
            query = sql.SQL("select coalesce(to_json({})::text, 'null') from {}").format(call, source)
        values = [json.dumps(body)] if used else []
        with self._pool.connection() as connection, connection.transaction():
            connection.execute("select set_config('role', 'service_role', true)")
            connection.execute("select set_config('request.jwt.claims', '{\"role\": \"service_role\"}', true)")
            connection.execute("select set_config('statement_timeout', %s, true)", [function.timeout])
            row = connection.execute(query, values).fetchone()
        return row[0].encode() if row else b"null"


def _error(error: psycopg.Error) -> tuple[int, bytes]:
    code = error.sqlstate or "PGRST000"
    status = _STATUS.get(code) or _STATUS_BY_CLASS.get(code[:2], 400 if error.sqlstate else 503)
    diagnosis = error.diag
    body = {
        "code": code,
        "message": diagnosis.message_primary or "Database connection error",
        "details": diagnosis.message_detail,
        "hint": diagnosis.message_hint,
    }
    return status, json.dumps(body).encode()


def _handler(server: RpcServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            try:
                status, body = server.answer(*self._read(content))
            except Refused as refusal:
                status, body = refusal.status, json.dumps(refusal.body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _read(self, content: bytes) -> tuple[str, dict[str, Any]]:
            given = self.headers.get("apikey", "")
            bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if not (hmac.compare_digest(given, server.key) and hmac.compare_digest(bearer, server.key)):
                raise Refused(401, "PGRST301", "Invalid API key")
            if not self.path.startswith(PREFIX):
                raise Refused(404, "PGRST125", "Invalid path specified in request URL")
            if self.headers.get_content_type() != "application/json":
                raise Refused(415, "PGRST102", f"Content-Type not acceptable: {self.headers.get_content_type()}")
            try:
                body = json.loads(content)
            except ValueError:
                raise Refused(400, "PGRST102", "Empty or invalid json") from None
            if not isinstance(body, dict):
                raise Refused(400, "PGRST102", "All object keys must match")
            return self.path.removeprefix(PREFIX), body

        def log_message(self, *_: object) -> None:
            """Nothing: tests read no access log."""

    return Handler


if __name__ == "__main__":
    RpcServer(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0).run_forever()
