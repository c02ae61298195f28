"""What a worker process' exit code tells whoever supervises it. Free of imports."""

from typing import Final

STOPPED: Final = 0
CRASHED: Final = 1
REPLACE: Final = 75
"""Over its memory limit: everything in order, start another in its place; no crash."""
