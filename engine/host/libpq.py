"""libpq's own variables (``PGSSLMODE``, ``PGOPTIONS``, ``PGSERVICE`` …), which a person sets for other databases.

They fill in what an address leaves open, so they count for a database of the person's own. The embedded one is reached
by its address alone.
Source: https://www.postgresql.org/docs/current/libpq-envars.html
"""

from __future__ import annotations

import os


def forget_variables() -> None:
    """Have this process, and those that it starts, connect by addresses alone."""
    for name in list(os.environ):
        if name.upper().startswith("PG"):
            del os.environ[name]
