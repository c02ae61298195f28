"""What tests and benches start ends with them, though they are killed: a process of its own watches over them.

It learns of each folder before anything is started there. When the pipe from its starter ends, it ends every process
of these folders and removes them; after an orderly end it finds nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

END_S = 15.0
"""An engine ends in order within 10 s."""


def hold(folder: Path) -> None:
    """Let nothing of this folder outlive this process."""
    watcher = _watcher(os.getpid())
    assert watcher.stdin is not None
    watcher.stdin.write(os.fsencode(folder) + b"\n")
    watcher.stdin.flush()


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder that is held, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="syncdesk-bench-") as made:
        hold(Path(made))
        yield Path(made)


@functools.cache
def _watcher(of: int) -> subprocess.Popen[bytes]:
    """The watcher of this process; a forked one gets another."""
    made = subprocess.Popen([sys.executable, "-P", __file__], stdin=subprocess.PIPE, start_new_session=True)
    atexit.register(_end, of, made)
    return made


def _end(of: int, watcher: subprocess.Popen[bytes]) -> None:
    if os.getpid() == of:
        watcher.communicate()


def processes(*folders: Path) -> list[psutil.Process]:
    """Every process that has one of the folders in its command line or environment, or works there."""
    roots = {str(root) for held in folders for root in (held, held.resolve(), (held / "pg").resolve())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = "\0".join((*process.cmdline(), process.cwd(), *process.environ().values()))
            if any(root in words for root in roots):
                found.append(process)
    return found


def end_all(folders: list[Path]) -> None:
    """End what runs in these folders, killed after `END_S`, and remove them."""
    found = processes(*folders)
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    psutil.wait_procs(found, END_S)
    left = processes(*folders) if found else []
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, END_S)  # else it may write into what is being removed
    for held in folders:
        shutil.rmtree((held / "pg").resolve(), ignore_errors=True)
        shutil.rmtree(held, ignore_errors=True)


if __name__ == "__main__":
    end_all([Path(os.fsdecode(line.rstrip(b"\n"))) for line in sys.stdin.buffer])
