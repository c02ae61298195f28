"""The child's side of the pipe that a host holds: settings come in, and its end means that the host is gone.

The host starts its parts before it knows where broker and database are, so that their imports run meanwhile, and
then sends one JSON line with the environment they shall have. Secrets stay out of command lines that way too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from engine.logs import SUPERVISED


def supervised() -> bool:
    """Whether a host started this process and holds a pipe to it."""
    return os.environ.get(SUPERVISED) == "1"


def adopt() -> bool:
    """Take over the environment that the host sends, and watch for its end; at once True where nobody supervises us.

    False: the host went away before it sent anything, or called the start off.
    """
    if not supervised():
        return True
    # Not through sys.stdin: a thread that waits in its buffer makes the interpreter's end fail.
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 65536)
        if not part:
            return False
        line += part
    os.environ.update({str(name): str(value) for name, value in json.loads(line).items()})
    threading.Thread(target=_watch, name="host-watch", daemon=True).start()
    return True


def _watch() -> None:
    while os.read(0, 4096):
        pass
    end_myself()


def end_myself() -> None:
    """Have this process's own handler of SIGTERM run, from any thread and on every system."""
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGTERM)
    else:
        os.kill(os.getpid(), signal.SIGTERM)
