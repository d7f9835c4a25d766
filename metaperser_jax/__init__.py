"""Listener-personalised speech emotion recognition in JAX."""
