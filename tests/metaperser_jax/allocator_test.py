"""Freed memory stays with a process that asks for it: no new pages the second time."""

import subprocess
import sys

import pytest

from metaperser_jax import allocator

PROGRAM = """
import resource, sys
import numpy as np
from metaperser_jax import allocator

if sys.argv[1] == "keep":
    assert allocator.keep_freed_memory()
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(64 << 20, np.uint8)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


def new_pages(choice):
    command = [sys.executable, "-c", PROGRAM, choice]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_a_large_block_takes_no_new_pages_the_second_time():
    assert new_pages("keep") < 10
    assert new_pages("default") > 100  # with huge pages there are fewer


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert allocator.keep_freed_memory() is False
