"""Measures adaptation beside PyTorch on one core and writes docs/performance.md."""

import os
import sys

CORE = max(os.sched_getaffinity(0))
os.sched_setaffinity(0, {CORE})  # before anything starts its threads
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), "--xla_cpu_multi_thread_eigen=false"]
).strip()

from perf import measure  # noqa: E402

sys.exit(measure.main())
