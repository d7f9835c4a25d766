"""Side by side with peers: `python -m perf [PART ...] [--quick]`."""
