"""Memory: what the C library keeps of it, which on a CPU decides a third of an edit's time, and its peak."""

from __future__ import annotations

import ctypes
import platform
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

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


def give_back_freed_memory() -> None:
    """Gives back what was kept, so that a peak counted from now on holds nothing of what went before."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak_memory(device: torch.device) -> None:
    """Has `peak_memory` count from now on: on CUDA, and on Linux for the process with all that it keeps."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # no Linux, or a container that forbids it: the peak since the start stands
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Megabytes (2^20 bytes) since `reset_peak_memory`: of the device where it counts them, else of the process."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated(device) / 2**20)
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) >> 10
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak / (2**20 if sys.platform == "darwin" else 2**10))
