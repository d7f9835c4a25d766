"""The faults of both packages, see `benchmark.errors`, under the library's own name."""

from benchmark.errors import (
    InputError,
    MachineError,
    Problem,
    Problems,
    did_you_mean,
)

__all__ = ["InputError", "MachineError", "Problem", "Problems", "did_you_mean"]
