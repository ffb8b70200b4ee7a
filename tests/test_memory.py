"""Freed memory is kept where a program asks for it, and only there."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
if sys.argv[1] == "keep":
    from cfkit.memory import keep_freed_memory
    assert keep_freed_memory()
def work():
    for _ in range(20):
        torch.ones(16, 1024, 1024)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_tensors_are_not_mapped_afresh():
    assert faults("keep") * 10 < faults("leave")


PEAK = """
import torch
from cfkit.memory import give_back_freed_memory, keep_freed_memory, peak_memory, reset_peak_memory
keep_freed_memory()
device = torch.device("cpu")
torch.ones(400, 1024, 256)
give_back_freed_memory()
reset_peak_memory(device)
low = peak_memory(device)
torch.ones(200, 1024, 256)
high = peak_memory(device)
give_back_freed_memory()
reset_peak_memory(device)
print(low, high, peak_memory(device))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="elsewhere the peak is the process's own")
def test_the_peak_counts_from_where_it_is_reset():
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    before, peak, after = map(int, done.stdout.split())
    assert peak >= before + 190 and after < before + 100
