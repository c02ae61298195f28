"""``syncdeskctl``: the engine's commands and the scheduler's, the one place that knows both."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from engine.cli.main import build_parser, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``syncdeskctl``."""
    parser, _commands = build_parser()
    return run(parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
