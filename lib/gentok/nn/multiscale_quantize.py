"""Residual quantization over growing scales: few coarse codes first, then more and finer ones.

Tian et al. 2024 (VAR, arXiv:2404.02905), algorithms 1 and 2, without their convolutions after
upsampling; on a sequence of slots Zhang et al. 2024 (VAT, arXiv:2412.02202), who do not state how
they go up and down: here by averages and linear interpolation, on a 2-D grid as in VAR.

Shapes: B batch, N tokens of the finest scale, D channels, K codes, S scales of n_s tokens.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.precision import at_least_single, full_precision
from gentok.nn.quantize import check_latents, nearest_code


class MultiscaleQuantizer(nn.Module):
    """One codebook for all scales; each quantizes what the coarser ones left.

    The latents are exactly the sum of the upsampled scales and the last residual.

    Args:
        codebook_size: K; ``dim``: channels D.
        scales: sizes from coarse to fine: ints for a sequence, (height, width) for a grid, the last
            one that of the latents.
        commitment: weight of the pull of latents towards their codes (VAR: 0.25).

    Raises:
        ValueError: if the scales are empty, of mixed kind, below 1, or do not grow.
    """

    def __init__(
        self,
        codebook_size: int,
        dim: int,
        scales: Sequence[int | tuple[int, int]],
        commitment: float = 0.25,
    ):
        super().__init__()
        self.scales = tuple((s,) if isinstance(s, int) else tuple(s) for s in scales)
        _check_scales(self.scales)
        self.commitment = commitment
        bound = 1 / codebook_size
        self.codebook = nn.Parameter(torch.empty(codebook_size, dim).uniform_(-bound, bound))

    @property
    def codebook_size(self) -> int:
        """Number of codes K."""
        return self.codebook.shape[0]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each scale, n_1 to n_S = N."""
        return tuple(math.prod(scale) for scale in self.scales)

    def forward(self, z: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Quantize latents. Nothing but the codebook's gradient is left behind.

        Args:
            z: encoder output, (B, N, D), float; a grid row by row.

        Returns:
            z_q: sum of the upsampled scales, (B, N, D), float32; straight-through gradient.
            codes: of each scale, (B, n_s) int64.
            loss: codebook term + commitment, of each accumulated scale, mean over scales and
                elements, squared latent units.

        Raises:
            ValueError: if ``z`` is not (B, N, D), empty, not float or not finite.
        """
        z = self._checked(z)
        residual, total, codes, losses = z.detach(), torch.zeros_like(z), [], []
        with full_precision(z):
            for scale in self.scales:
                chosen = self._nearest(residual, scale)
                step = self._up(F.embedding(chosen, self.codebook), scale)  # (B, N, D)
                total, residual = total + step, residual - step.detach()
                losses.append(F.mse_loss(total, z.detach()))
                losses.append(self.commitment * F.mse_loss(z, total.detach()))
                codes.append(chosen)
        loss = torch.stack(losses).sum() / len(self.scales)
        return z + (total - z).detach(), codes, loss

    def encode(self, z: Tensor) -> list[Tensor]:
        """Latents (B, N, D) -> codes of each scale, (B, n_s) int64."""
        with torch.no_grad():
            return self(z)[1]

    def lookup(self, codes: Sequence[Tensor]) -> Tensor:
        """Codes of the first scales -> their accumulated latents (B, N, D): a coarse version.

        Raises:
            ValueError: on no or too many scales, a wrong length, or codes outside [0, K).
        """
        return self._accumulate(codes)[-1]

    def next_inputs(self, codes: Sequence[Tensor]) -> list[Tensor]:
        """What a next-scale generator reads: after each given scale, the sum of all so far.

        Args:
            codes: of the first scales, (B, n_s) each.

        Returns:
            The accumulated latents at the resolution of the scale that follows,
            (B, n_{s+1}, D) each; nothing follows the last scale. Alike in training and sampling.
        """
        totals = self._accumulate(codes)
        pairs = zip(totals, self.scales[1:], strict=False)
        return [self._down(total, scale) for total, scale in pairs]

    @torch.no_grad()
    def seed(self, z: Tensor, rows: Tensor | None = None) -> None:
        """Move codes onto latents: all at the start, or the unused ones now and then.

        A random codebook collapses when quantized from the first step; VAT-style training begins
        without it, then seeds it from one batch. The candidates are what each scale quantizes.

        Args:
            z: latents, (B, N, D); ``rows``: bool, (K,), codes to move; None: all.

        Raises:
            ValueError: if ``z`` is no (B, N, D) or ``rows`` not (K,) bool.
        """
        rows = torch.ones(self.codebook_size, dtype=torch.bool) if rows is None else rows
        if rows.dtype != torch.bool or rows.shape != (self.codebook_size,):
            raise ValueError(f"rows must be ({self.codebook_size},) bool, got {tuple(rows.shape)}")
        residual = self._checked(z)
        pools = []
        for scale in self.scales:
            pools.append(self._down(residual, scale).flatten(0, 1))
            step = F.embedding(self._nearest(residual, scale), self.codebook)
            residual = residual - self._up(step, scale)
        pool = torch.cat(pools)  # (B sum n_s, D)
        rows = rows.to(pool.device)
        picks = torch.randint(len(pool), (int(rows.sum()),), device=pool.device)
        self.codebook[rows] = pool[picks].to(self.codebook.dtype)

    def _accumulate(self, codes: Sequence[Tensor]) -> list[Tensor]:
        """Sums of the first 1, 2, ... scales, (B, N, D) each."""
        if not 1 <= len(codes) <= len(self.scales):
            raise ValueError(f"codes must be of 1 to {len(self.scales)} scales, got {len(codes)}")
        total, totals = 0.0, []
        for chosen, scale, length in zip(codes, self.scales, self.lengths, strict=False):
            if chosen.ndim != 2 or chosen.shape[1] != length:
                raise ValueError(f"codes must be (B, {length}), got {tuple(chosen.shape)}")
            if chosen.numel() and not 0 <= chosen.min() <= chosen.max() < self.codebook_size:
                raise ValueError(f"codes must lie in [0, {self.codebook_size})")
            total = total + self._up(F.embedding(chosen, self.codebook), scale)
            totals.append(total)
        return totals

    def _nearest(self, residual: Tensor, scale: tuple[int, ...]) -> Tensor:
        """(B, N, D) -> codes (B, n_s) of its average over the cells of the scale."""
        pooled = self._down(residual, scale)
        return nearest_code(pooled.flatten(0, 1), self.codebook.detach()).view(len(pooled), -1)

    def _down(self, x: Tensor, scale: tuple[int, ...]) -> Tensor:
        """(B, N, D) -> (B, n_s, D): means over cells."""
        if scale == self.scales[-1]:
            return x
        pool = F.adaptive_avg_pool1d if len(scale) == 1 else F.adaptive_avg_pool2d
        grid = x.mT.unflatten(-1, self.scales[-1])  # (B, D, *size)
        return pool(grid, scale[0] if len(scale) == 1 else scale).flatten(2).mT

    def _up(self, x: Tensor, scale: tuple[int, ...]) -> Tensor:
        """(B, n_s, D) -> (B, N, D): linear in one dimension, bicubic in two (VAR)."""
        if scale == self.scales[-1]:
            return x
        mode = "linear" if len(scale) == 1 else "bicubic"
        grid = x.mT.unflatten(-1, scale)  # (B, D, *scale)
        return F.interpolate(grid, size=self.scales[-1], mode=mode).flatten(2).mT

    def _checked(self, z: Tensor) -> Tensor:
        size = (self.lengths[-1], self.codebook.shape[1])
        if z.ndim != 3 or z.shape[1:] != size:
            raise ValueError(f"z must be (B, {size[0]}, {size[1]}), got {tuple(z.shape)}")
        z = at_least_single(z)
        check_latents(z, size[1])
        return z


def _check_scales(scales: tuple[tuple[int, ...], ...]) -> None:
    kinds = {len(scale) for scale in scales}
    if kinds not in ({1}, {2}) or any(side < 1 for scale in scales for side in scale):
        raise ValueError(f"scales must be sizes of 1 or 2 axes, at least 1, got {scales}")
    sizes = [math.prod(scale) for scale in scales]
    if any(a >= b for a, b in zip(sizes, sizes[1:], strict=False)):
        raise ValueError(f"scales must grow, got {scales}")
