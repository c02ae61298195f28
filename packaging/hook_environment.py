"""Runs first in both programs: gives back the library path that the person had.

On Linux the boot loader points it at our own libraries and starts the program anew. The system reads it once at
that start, so what we load is found all the same; but a browser that we open would get our libraries in place of
its own. Programs of ours that we start must then begin afresh as well: else their boot loader believes that the
path is still there, and they would run on the system's libraries.
"""

import os

_NAME = "LD_LIBRARY_PATH"
_before = os.environ.pop(f"{_NAME}_ORIG", None)
if _before is None:
    os.environ.pop(_NAME, None)
else:
    os.environ[_NAME] = _before
os.environ["PYINSTALLER_RESET_ENVIRONMENT"] = "1"
