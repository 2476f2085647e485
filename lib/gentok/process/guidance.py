"""Classifier-free guidance (Ho and Salimans 2022).

One network is trained with and without its condition; at sampling time the difference of the two
answers is exaggerated. Works alike on velocities, noise estimates, scores and logits.
"""

from torch import Tensor


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """u + s (c - u). s = 0 ignores the condition, s = 1 obeys it, s > 1 exaggerates it.

    (The paper's w is s - 1.) Both arguments and the result have the same shape.
    """
    return unconditional + scale * (conditional - unconditional)
