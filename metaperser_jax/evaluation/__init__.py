"""The protocol, its numbers, plots and report."""
