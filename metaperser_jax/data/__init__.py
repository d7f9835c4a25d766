"""Corpora: audio, ratings, splits and episodes."""
