"""Meta-learners over a pytree of parameters; no audio and no Flax in here."""
