"""Frozen entry of ``syncdeskctl``."""

import sys

from scheduler.command import main

sys.exit(main())
