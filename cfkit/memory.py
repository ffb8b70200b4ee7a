"""How the C library treats memory that is freed: on a CPU this decides a third of an edit's time."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Has glibc keep freed memory for the next tensor rather than give it back.

    A tensor of some megabytes is otherwise mapped afresh each time, and every page of it faults when
    it is first written. For the whole process and for good, so a program calls it, not a library: the
    commands of cfkit do, Python users may. Peak memory stays about the same; what was once used stays
    with the process.

    Returns:
        Whether the C library took it; elsewhere than on glibc nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(*setting) for setting in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 2**26)))
