"""The C library's allocator, told to keep what it was given.

Each call of a large encoder needs blocks of many megabytes. glibc hands such blocks
back to the kernel when they are freed and must have their pages zeroed anew the next
time; docs/encoders_speed.md says what that costs. This touches the whole process, so
only programs ask for it, never an import.
"""

import ctypes
import sys

# parameters of mallopt(3)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Lets freed blocks stay with the process; does nothing without glibc.

    Returns:
      Whether the C library took all settings.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {
        _MMAP_MAX: 0,  # large blocks come from the heap too
        _TRIM_THRESHOLD: _LARGEST,  # whose end is not given back
        _TOP_PAD: 64 << 20,  # and which grows by 64 MiB at once
        _ARENA_MAX: 1,
    }
    taken = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(taken)
