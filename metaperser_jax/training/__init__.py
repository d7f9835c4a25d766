"""Training steps, optimisers, state and writers."""
