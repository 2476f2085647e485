"""Which latent axes a decoder listens to, and how many of them matter.

The relevance score of Saha et al. 2025 (arXiv:2501.10901) in the form of the authors' code: the
variance of an axis times how strongly the decoder's output reacts to it. The variance alone does
not tell, since an axis that nobody uses may have any.

Shapes: N samples, L axes, P numbers of a decoded item.
"""

from collections.abc import Callable

import torch
from torch import Tensor


@torch.no_grad()
def jacobian_weights(decode: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """w_l = sum over p of (mean over samples of |d x_p / d z_l|)^2.

    One forward-mode pass an axis: the rows of a batch do not see each other, so a tangent that is 1
    on axis l in every row gives column l of every row's Jacobian.

    Args:
        decode: (N, L) -> (N, ...), row by row (batch norm in eval mode).
        z: where to look, (N, L).

    Returns:
        (L,), in squared units of the output per squared unit of the latent.

    Raises:
        ValueError: if ``z`` is not (N, L) with N of 1 or more.
    """
    if z.ndim != 2 or not len(z):
        raise ValueError(f"z must be (N, L) with N of 1 or more, got {tuple(z.shape)}")
    weights = []
    for axis in range(z.shape[1]):
        tangent = torch.zeros_like(z)
        tangent[:, axis] = 1
        column = torch.func.jvp(decode, (z,), (tangent,))[1]  # (N, ...)
        weights.append(column.abs().mean(0).square().sum())
    return torch.stack(weights)


def relevant_axes(scores: Tensor, share: float = 0.99) -> Tensor:
    """The smallest set of axes whose scores exceed a share of all scores.

    Args:
        scores: relevance, (L,), 0 or more.
        share: in (0, 1); the authors' code has 0.99.

    Returns:
        indices, most relevant first, int64.

    Raises:
        ValueError: if ``share`` is out of range, or the scores are negative or all 0.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    if scores.ndim != 1 or not (scores >= 0).all() or not scores.sum() > 0:
        raise ValueError(f"scores must be (L,), 0 or more and not all 0, got {scores}")
    order = scores.argsort(descending=True, stable=True)
    reached = scores[order].double().cumsum(0) / scores.double().sum()
    return order[: int((reached <= share).sum()) + 1]
