"""Durations in any unit: steps, epochs or a share of the whole."""

import re

from metaperser_jax.errors import InputError

_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(steps?|epochs?|%)?")


def to_steps(
    duration: int | str, steps_per_epoch: int, total: int | None = None
) -> int:
    """Returns a duration as a number of steps, rounded, at least 0.

    Args:
      duration: 300, '300 steps', '25 epochs' or '40%' (of `total`).
      steps_per_epoch: steps in an epoch.
      total: what a percentage refers to.

    Raises:
      InputError: it cannot be read, or is a percentage of nothing.
    """
    found = _PATTERN.fullmatch(str(duration).strip())
    unit = found and found[2]
    if not found or (unit == "%" and total is None):
        raise InputError(
            f"duration {duration!r}: expected a number of steps, '25 epochs' or '40%'."
        )
    number = float(found[1])
    if unit == "%":
        return round(number / 100 * (total or 0))
    scale = steps_per_epoch if unit and unit.startswith("epoch") else 1
    return round(number * scale)
