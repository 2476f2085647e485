"""Batch normalisation that says what it does in micro-batches (Hoffer et al. 2017, "ghost" norm).

Batch norm mixes the rows of a batch, so a batch in parts cannot give the result of the whole: each
part is normalised by its own mean and variance, as on a GPU that sees only its share. Where a paper
trained like that, this layer states it. What it remembers for evaluation is exact all the same: the
mean and variance of the whole batch, moved once a step.

Shapes: B batch, C channels, H W space, P parts.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.gather import once_a_step, waiting


class GhostBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d`, except in a `gentok.nn.gather.whole_step`: then each part stands alone."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if not (self.training and waiting()):
            return super().forward(x)
        rows = x.detach().transpose(0, 1).flatten(1).float()  # (C, B H W)
        var, mean = torch.var_mean(rows, 1, unbiased=False)  # (C,)
        self._remember(mean[None], var[None], torch.full_like(mean, rows.shape[1])[None])
        return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)

    @once_a_step
    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        """Move the running statistics by the whole batch's; parts' statistics (P, C), biased."""
        total = count.sum(0)  # (C,)
        share = count / total
        whole = (share * mean).sum(0)
        # Law of total variance: the mean of the parts' variances plus the variance of their means.
        spread = (share * (var + (mean - whole).square())).sum(0)
        self.running_mean.lerp_(whole, self.momentum)
        self.running_var.lerp_(spread * total / (total - 1), self.momentum)  # unbiased
        self.num_batches_tracked += 1
