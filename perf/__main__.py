"""Measures the library beside its peers and writes docs/performance.md."""

import sys

from perf import measure

if __name__ == "__main__":
    sys.exit(measure.main())
