"""Discrete codes by the Gumbel-softmax relaxation: the quantizer of a dVAE (DALL-E).

Jang et al. 2017 (arXiv:1611.01144); Ramesh et al. 2021 (DALL-E, arXiv:2102.12092), 2.1. The
encoder emits a distribution over K codes for each place. In training the decoder sees a mixture of
codes, which hardens as the temperature falls; afterwards the likeliest code.

Shapes: K codes of D channels; leading axes (...) are batch and places.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.precision import at_least_single, full_precision


class GumbelQuantizer(nn.Module):
    """A codebook that is read by noisy, softened choices.

    Args:
        codebook_size: K; ``dim``: channels D of a code.
        straight_through: in training use the one chosen code, with the gradient of the mixture,
            instead of the mixture itself.
    """

    def __init__(self, codebook_size: int, dim: int, straight_through: bool = False):
        super().__init__()
        self.straight_through = straight_through
        self.codebook = nn.Parameter(torch.randn(codebook_size, dim))  # (K, D)

    @property
    def codebook_size(self) -> int:
        """Number of codes K."""
        return self.codebook.shape[0]

    def forward(self, logits: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize; in evaluation mode without noise and mixture, whatever the temperature.

        Args:
            logits: of the K codes, (..., K), float.
            temperature: tau > 0 of the softmax; small is nearly one code, with noisier gradients.

        Returns:
            z_q: (..., D), float32 or wider.
            codes: the likeliest, without noise, (...), int64.
            kl: KL to the uniform distribution, (...), nats a place: sum or average it knowingly.

        Raises:
            ValueError: if the last axis is not K, ``logits`` is empty or not float, or
                ``temperature`` not positive.
        """
        if logits.shape[-1] != self.codebook_size:
            raise ValueError(f"logits must be (..., {self.codebook_size}), got {logits.shape}")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        logits = at_least_single(logits)
        codes = logits.detach().argmax(-1)
        if not self.training:
            return self.lookup(codes), codes, kl_to_uniform(logits)
        with full_precision(logits):
            z_q = self._relax(logits, temperature) @ self.codebook.to(logits.dtype)
        return z_q, codes, kl_to_uniform(logits)

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (...), int64 in [0, K) -> vectors (..., D).

        Raises:
            ValueError: if a code lies outside [0, K).
        """
        if codes.numel() and not 0 <= codes.min() <= codes.max() < self.codebook_size:
            low, high = int(codes.min()), int(codes.max())
            raise ValueError(f"codes must lie in [0, {self.codebook_size}), got [{low}, {high}]")
        return F.embedding(codes, self.codebook)

    def _relax(self, logits: Tensor, temperature: float) -> Tensor:
        """softmax((logits + g) / tau) (Jang et al., equation 2): (..., K), rows sum to 1."""
        # -log(-log u) is several times faster than torch's exponential_.
        u = torch.rand_like(logits).clamp_(1e-20, 1 - 1e-7)
        soft = F.softmax((logits - torch.log(-torch.log(u))) / temperature, dim=-1)
        if not self.straight_through:
            return soft
        hard = F.one_hot(soft.argmax(-1), self.codebook_size).to(soft.dtype)
        return hard + (soft - soft.detach())  # value of the one, gradient of the other


def kl_to_uniform(logits: Tensor) -> Tensor:
    """KL(softmax(logits) || uniform) = log K - entropy: (..., K) -> (...), nats, at most log K."""
    log_q = F.log_softmax(at_least_single(logits), dim=-1)
    return math.log(logits.shape[-1]) + (log_q.exp() * log_q).sum(-1)


def cosine_temperature(step: int, num_steps: int, start: float = 1.0, end: float = 1 / 16) -> float:
    """From ``start`` to ``end`` along half a cosine, then ``end`` (DALL-E: 150,000 steps).

    Raises:
        ValueError: if ``num_steps`` is below 1.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    progress = min(step / num_steps, 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def exponential_temperature(
    step: int, rate: float, start: float = 1.0, floor: float = 0.5
) -> float:
    """max(floor, start exp(-rate step)) (Jang et al. 2017, 4.2 and its 0.5)."""
    return max(floor, start * math.exp(-rate * step))
