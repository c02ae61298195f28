"""Both listeners under requests made up from their own OpenAPI documents: no failure, no answer that is not documented.

Schemathesis makes them: the edges of every parameter and body, then random ones, good and bad, the same in each run.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import api as support
from tests.support.api import CRON_SECRET, Api
from tests.support.engines import clean_environment

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,unsupported_method,ignored_auth"
)


@pytest.fixture
def api(database_url: str, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Api]:
    settings = {"redis_url": redis_url, "redis_namespace": namespace, "database_url": database_url}
    # Linking asks Plaid, which nobody plays here: where it is away, 503 is what is documented.
    with support.running(tmp_path, plaid_url="http://127.0.0.1:9", **settings) as made:
        yield made


@pytest.mark.timeout(400)
@pytest.mark.parametrize("caller", ["cron", "operator", "admin"])
def test_made_up_requests(api: Api, caller: str, tmp_path: Path) -> None:
    url = str(api.endpoints.admin if caller == "admin" else api.endpoints.public)
    document = tmp_path / "openapi.json"
    document.write_bytes((api.admin if caller == "admin" else api.public).get("/api/openapi.json").content)
    token = {"cron": CRON_SECRET, "operator": api.tokens.of("operate"), "admin": api.tokens.admin}[caller]
    ran = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", str(document), "--url", url,
            "--header", f"Authorization: Bearer {token}", "--checks", CHECKS, "--max-examples", "10",
            "--phases", "coverage,fuzzing", "--generation-deterministic", "--exclude-path", "/api/events",
            # Without Plaid, their answer is the documented 503.
            "--exclude-path-regex", "/api/items/link.*", "--no-color",
        ],
        cwd=tmp_path, env=clean_environment(NO_PROXY="*", no_proxy="*"), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-12000:] + ran.stderr[-2000:]
    assert "generated" in ran.stdout
