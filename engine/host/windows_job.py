"""A Windows Job Object that ends its processes when its last handle closes: the net below the keeper.

The keeper holds the handle, so that a host's death still stops everything in order; only the keeper's own death is
hard. Documented at learn.microsoft.com under "Job Objects" (JOBOBJECT_EXTENDED_LIMIT_INFORMATION).
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_KILL_ON_CLOSE = 0x2000
_BREAKAWAY_OK = 0x0800
_EXTENDED_LIMITS = 9
_SET_QUOTA_AND_TERMINATE = 0x0101


class _Basic(ctypes.Structure):
    _fields_ = (
        ("per_process_time", ctypes.c_int64),
        ("per_job_time", ctypes.c_int64),
        ("flags", ctypes.c_uint32),
        ("minimum_working_set", ctypes.c_size_t),
        ("maximum_working_set", ctypes.c_size_t),
        ("active_processes", ctypes.c_uint32),
        ("affinity", ctypes.c_size_t),
        ("priority_class", ctypes.c_uint32),
        ("scheduling_class", ctypes.c_uint32),
    )


class _Extended(ctypes.Structure):
    _fields_ = (
        ("basic", _Basic),
        ("io", ctypes.c_uint64 * 6),
        ("process_memory", ctypes.c_size_t),
        ("job_memory", ctypes.c_size_t),
        ("peak_process_memory", ctypes.c_size_t),
        ("peak_job_memory", ctypes.c_size_t),
    )


class WindowsJob:
    """Makes the job; where the system refuses (a job within a job of old), the pipe alone does it."""

    def __init__(self) -> None:
        self._kernel: Any = None
        self._handle: Any = None
        if sys.platform == "win32":
            self._kernel = ctypes.WinDLL("kernel32", use_last_error=True)
            self._kernel.CreateJobObjectW.restype = ctypes.c_void_p
            self._kernel.OpenProcess.restype = ctypes.c_void_p
            self._handle = self._kernel.CreateJobObjectW(None, None)
            limits = _Extended()
            limits.basic.flags = _KILL_ON_CLOSE | _BREAKAWAY_OK
            self._kernel.SetInformationJobObject(
                ctypes.c_void_p(self._handle), _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
            )

    def take(self, pid: int) -> None:
        """Put a process into the job."""
        if self._handle:
            process = self._kernel.OpenProcess(_SET_QUOTA_AND_TERMINATE, False, pid)
            if process:
                self._kernel.AssignProcessToJobObject(ctypes.c_void_p(self._handle), ctypes.c_void_p(process))
                self._kernel.CloseHandle(ctypes.c_void_p(process))
