"""Frozen entry of ``syncdesk``, the console."""

import sys

from gui.main import main

try:
    code = main()
except ImportError as error:
    if ".so" not in str(error):
        raise
    # The graphics driver's libraries belong to the machine and cannot come with us; the engine needs none of them.
    sys.exit(
        f"syncdesk: the console needs a library of the system ({error}). On Debian or Ubuntu: "
        "apt-get install libgl1 libegl1 libxcb1 libxcb-icccm4 libxcb-keysyms1"
    )
sys.exit(code)
