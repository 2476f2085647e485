"""Residual codes as Mogo and MoMask train them: drawn at random, started from data, overwritten.

Released code of MoMask (Guo et al. 2024) and Mogo (Fu 2024). In training each code is drawn from
softmax(-distance / temperature) and is not simply the nearest. The codebook starts as the first
latents and follows moving averages; a code whose averaged count falls below 1 is overwritten by a
latent of the batch at each step; and some batches use only the first levels.

Shapes: M vectors, D channels, K codes, Q levels.
"""

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from gentok.nn.gather import distributed, once_a_step, waiting
from gentok.nn.quantize import (
    ResidualVQ,
    VectorQuantizer,
    agreed,
    check_latents,
    nearest_code,
    partial_distances,
)
from gentok.process.masked import sample_categorical


class SampledQuantizer(VectorQuantizer):
    """A codebook whose training assignment is random, and which starts from data.

    Args:
        codebook_size: K; ``dim``: D; ``decay``: of the moving averages.
        temperature: codes are drawn from softmax(-|z - e|^2 / temperature); 0 takes the nearest.
    """

    def __init__(self, codebook_size: int, dim: int, decay: float, temperature: float):
        super().__init__(codebook_size, dim, decay, commitment=1.0, dead_threshold=1.0)
        self.temperature = temperature
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def quantize(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., D) -> codes' vectors (..., D) without gradient, codes (...), commitment term."""
        if not self.training:
            return super().quantize(z)
        check_latents(z, dim := self.codebook.shape[1])
        self.check_precision()
        flat = z.detach().reshape(-1, dim).float()  # (M, D)
        self._start(flat)
        codes = self._draw(flat)
        z_q = F.embedding(codes, self.codebook).view_as(z)
        self._update(flat, codes)
        return z_q, codes.view(z.shape[:-1]), F.mse_loss(z, z_q)

    def _draw(self, flat: Tensor) -> Tensor:
        """(M, D) -> (M,) codes."""
        if self.temperature == 0:
            return nearest_code(flat, self.codebook)
        return sample_categorical(-partial_distances(flat, self.codebook) / self.temperature)

    @torch.no_grad()
    def _start(self, flat: Tensor) -> None:
        """At the first batch the codes become its first latents.

        Raises:
            ValueError: if that batch comes in parts of fewer latents than there are codes.
        """
        if waiting() and len(flat) < self.codebook_size and not self.started:
            raise ValueError(
                f"a part of {len(flat)} latents cannot start {self.codebook_size} codes; "
                "use a smaller accumulate"
            )
        first = self._first(flat)
        # `where` and no `if`: a tensor's value need not be known, so cost can be counted on meta.
        self.codebook.copy_(torch.where(self.started, self.codebook, first))
        self.sums.copy_(torch.where(self.started, self.sums, first))
        self.started.fill_(True)

    @once_a_step
    @torch.no_grad()
    def _update(self, z: Tensor, codes: Tensor) -> None:
        """Moving averages; codes with a count below the threshold are overwritten.

        Unlike :class:`VectorQuantizer` this neither smooths the counts nor resets them: a code
        stays out of use until enough latents have chosen it.
        """
        counts = torch.zeros_like(self.counts).index_add_(0, codes, torch.ones_like(z[:, 0]))
        sums = torch.zeros_like(self.sums).index_add_(0, codes, z)  # (K, D)
        if distributed():
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        alive = (self.counts >= self.dead_threshold)[:, None]  # (K, 1)
        mean = self.sums / self.counts.clamp_min(self.epsilon)[:, None]
        self.codebook.copy_(torch.where(alive, mean, self._first(z)))

    def _first(self, flat: Tensor) -> Tensor:
        """The first K latents; fewer are repeated with a little noise, so that copies differ."""
        size = self.codebook_size
        if len(flat) < size:
            rows = flat.repeat(math.ceil(size / len(flat)), 1)
            flat = rows + 0.01 / math.sqrt(flat.shape[1]) * torch.randn_like(rows)
        first = flat[:size].contiguous()
        if distributed():
            dist.broadcast(first, src=0)  # every process must hold the same codebook
        return first


class SampledResidualVQ(ResidualVQ):
    """Residual levels of :class:`SampledQuantizer`, some of them dropped in some batches.

    Args:
        num_levels: Q; ``level_dropout``: probability of a shortened batch; its number of levels is
            uniform in 1 to Q.
        kwargs: of each level.
    """

    def __init__(self, num_levels: int, level_dropout: float, **kwargs: float):
        super().__init__(0, kwargs["codebook_size"], kwargs["dim"])
        self.level_dropout = level_dropout
        self.levels.extend(SampledQuantizer(**kwargs) for _ in range(num_levels))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize latents (..., D).

        Returns:
            z_q: sum of the levels' codes, (..., D). Every level passes its gradient straight
                through, as in the released code, so ``z`` receives it once per level in use.
            codes: (..., Q), int64; -1 at dropped levels.
            loss: commitment, mean over the levels in use, scalar.
        """
        keep = len(self.levels)
        if self.training and torch.rand(()).item() < self.level_dropout:
            keep = int(torch.randint(1, keep + 1, ()))
        keep = agreed(keep, z.device)
        residual, z_q, codes, losses = z, 0.0, [], []
        for level in self.levels[:keep]:
            step, level_codes, loss = level.quantize(residual)
            z_q = z_q + residual + (step - residual).detach()
            residual = residual - step
            codes.append(level_codes)
            losses.append(loss)
        codes += [torch.full_like(codes[0], -1)] * (len(self.levels) - keep)
        return z_q, torch.stack(codes, dim=-1), torch.stack(losses).mean()
