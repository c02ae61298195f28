"""A clock that can be put forward and back for an engine's processes alone, their servers included.

A library of a few lines, loaded before all others, adds what a file says to the wall clock. Time that only runs
(the monotonic clock) is left alone, as it is when a person or a time server sets a clock.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from pathlib import Path

from tests.faults.run import LASTS_S
from tests.faults.world import World

HOUR_S = 3600
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *offset;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTS_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *found = mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (found != MAP_FAILED)
        offset = found;
}

static int64_t more(void) { return offset ? *offset : 0; }

int clock_gettime(clockid_t id, struct timespec *found)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(id, found);
    if (!answer && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        found->tv_sec += more();
    return answer;
}

int gettimeofday(struct timeval *restrict found, void *restrict zone)
{
    static int (*real)(struct timeval *, void *);
    if (!real)
        real = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
    int answer = real(found, zone);
    found->tv_sec += more();
    return answer;
}

time_t time(time_t *found)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found)
        *found = now.tv_sec;
    return now.tv_sec;
}
"""


class Clock:
    """The clock of one world, kept in two files in ``folder`` that every account can read."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "offset"
        self._library = folder / "clock.so"

    def environment(self) -> dict[str, str]:
        """Make the library; what the engine's environment needs.

        Raises:
            AssertionError: there is no C compiler, or it refuses.
        """
        compiler = shutil.which("cc")
        assert compiler is not None, "there is no C compiler"
        source = self._file.with_name("clock.c")
        source.write_text(SOURCE)
        made = subprocess.run(
            [compiler, "-O1", "-shared", "-fPIC", "-o", str(self._library), str(source), "-ldl"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        self._file.write_bytes(struct.pack("q", 0))
        for path in (self._file, self._library):
            path.chmod(0o755)
        return {"LD_PRELOAD": str(self._library), "FAULTS_CLOCK": str(self._file)}

    def shift(self, seconds: int) -> None:
        """From now on, compared with the true clock."""
        with open(self._file, "r+b") as file:
            file.write(struct.pack("q", seconds))


def forward(world: World) -> None:
    """The engine's clock goes an hour ahead, and is put right."""
    _shifted(world, HOUR_S)


def back(world: World) -> None:
    """The engine's clock goes an hour back, and is put right."""
    _shifted(world, -HOUR_S)


def _shifted(world: World, seconds: int) -> None:
    clock = Clock(world.beside("clock"))
    clock.shift(seconds)
    with world.database() as connection:
        row = connection.execute("select extract(epoch from clock_timestamp())").fetchone()
    assert row is not None
    assert abs(float(row[0]) - time.time() - seconds) < HOUR_S / 2, "the database does not see the clock"
    time.sleep(LASTS_S)
    clock.shift(0)
