"""DA: derivative annealing, from first to second order (MAML++, section 4)."""

from metaperser_jax.errors import InputError
from metaperser_jax.typing import Order


def derivative_order(
    step: int, num_steps: int, second_order_from: float = 0.5
) -> Order:
    """Returns the derivative order of a meta-training step.

    Args:
      step: 0-based step (or epoch).
      num_steps: how many there are.
      second_order_from: fraction after which the second order is used; 0 is second
        order throughout, 1 is first order throughout (FOMAML).

    Raises:
      InputError: the fraction is outside [0, 1].
    """
    if not 0.0 <= second_order_from <= 1.0:
        raise InputError(
            f"second_order_from={second_order_from}: expected a fraction in [0, 1]."
        )
    threshold = second_order_from * num_steps - 1e-9  # 0.07 * 100 is above 7
    return "second" if step >= threshold else "first"
