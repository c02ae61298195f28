"""What many of these tests begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.scripted_plaid import ScriptedPlaid


@pytest.fixture
def bank() -> Iterator[ScriptedPlaid]:
    """A bank whose every answer the test decides."""
    made = ScriptedPlaid()
    yield made
    made.close()
