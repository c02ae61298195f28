"""Frozen entry of ``syncdesk``, the console."""

import sys

from gui.main import main

sys.exit(main())
