"""Metrics as mergeable, masked, jitted sums."""
