"""A wall clock that a test can set, for a process that is started with it."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

# Wraps the C library's functions and adds the file's offset to their results.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile long *offset;

__attribute__((constructor)) static void map_offset(void) {
    int fd = open(getenv("CLOCK_OFFSET"), O_RDONLY);
    offset = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "clock_gettime");
    int result = next(id, now);
    int is_wall_clock = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE;
    if (result == 0 && is_wall_clock) now->tv_sec += *offset;
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    int result = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return result;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}
"""


@cache
def why_not() -> str | None:
    """Return what the clock needs and isn't installed, or ``None``."""
    return None if shutil.which("cc") else "there is no C compiler"


class Clock:
    """A clock that follows the machine's until it is set.

    :param folder: a folder for its files.
    """

    def __init__(self, folder: Path) -> None:
        self._offset = folder / "offset"
        self.set(0)
        library = folder / "clock.so"
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), "-x", "c", "-", "-ldl"],
            input=SHIM.encode(),
            check=True,
            timeout=60,
        )
        #: Environment variables for a process that uses the clock.
        self.env = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self._offset)}

    def set(self, seconds: int) -> None:
        """Set the clock *seconds* ahead of the machine's, or behind if negative."""
        with self._offset.open("r+b" if self._offset.exists() else "wb") as file:
            file.write(seconds.to_bytes(8, "little", signed=True))
