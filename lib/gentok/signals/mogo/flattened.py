"""The obvious rival of Mogo: one causal transformer that writes codes one after the other.

The matrix of T frames and Q levels is read row by row, c_00, c_01, ..., c_0Q, c_10, ... Every code
is conditioned on all codes before it, those of its own frame included, so nothing is assumed
independent. The price is Q passes a frame, and a sequence Q times as long. Not part of the paper;
the same blocks, shared table, corruption and text as `model`, for a fair comparison.

Shapes: B batch, T frames, Q levels, K codes, D channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.process.autoregressive import sample_next
from gentok.signals.mogo.model import MogoConfig
from gentok.signals.mogo.relative_attention import RelativeTransformer


class FlattenedTransformer(nn.Module):
    """One stack with as many blocks as all levels of Mogo together.

    Args:
        config: Mogo's; its ``depths`` are added up, its first number of heads is used.
    """

    def __init__(self, config: MogoConfig):
        super().__init__()
        self.config = config
        d, k = config.dim, config.codebook_size
        self.embedding = nn.Embedding(k, d)
        self.level = nn.Embedding(config.num_levels, d)  # level of the code that was read
        self.text = nn.Linear(config.text_dim, d)
        self.stack = RelativeTransformer(
            d, sum(config.depths), config.num_heads[0], config.mlp_ratio, config.dropout
        )
        self.head = nn.Linear(d, k, bias=False)
        for table in (self.embedding, self.level):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, codes: Tensor, text: Tensor) -> Tensor:
        """Codes (B, T, Q), text (B, text_dim) -> logits (B, T, Q, K), each given all before it."""
        x = self.embed(codes).flatten(1, 2)[:, :-1]  # (B, T Q - 1, D)
        x = torch.cat([self.text(text)[:, None], x], dim=1)
        return self.head(self.stack(x)).unflatten(1, codes.shape[1:])

    def embed(self, codes: Tensor) -> Tensor:
        """(B, T, Q) -> (B, T, Q, D)."""
        return self.embedding(codes) + self.level.weight

    def loss(self, batch: dict[str, Tensor], step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropy in nats a code, input corrupted in training as Mogo's is."""
        codes = inputs = batch["codes"]
        if self.training and self.config.corruption > 0:
            replace = torch.rand(codes.shape, device=codes.device) < self.config.corruption
            noise = torch.randint_like(codes, self.config.codebook_size)
            inputs = torch.where(replace, noise, codes)
        levels = _nll(self(inputs, batch["text"]), codes).mean((0, 1))  # (Q,)
        return levels.mean(), {f"level_{i}": v for i, v in enumerate(levels.detach())}

    def nll(self, codes: Tensor, text: Tensor) -> Tensor:
        """Negative log-likelihood of each code given all codes before it, (B, T, Q), nats."""
        return _nll(self(codes, text), codes)

    @torch.no_grad()
    def sample(self, n: int, text: Tensor, frames: int, **options: float | None) -> Tensor:
        """Draw ``n`` clips, code by code: (n, frames, Q); ``options`` as `Mogo.stream`'s."""
        levels, caches = self.config.num_levels, self.stack.start()
        x, codes = self.text(text)[:, None], []
        for index in range(frames * levels):
            code = sample_next(self.head(self.stack(x, caches)[:, -1]), **options)  # (n,)
            codes.append(code)
            x = (self.embedding(code) + self.level.weight[index % levels])[:, None]
        return torch.stack(codes, dim=1).view(n, frames, levels)


def _nll(logits: Tensor, codes: Tensor) -> Tensor:
    """Logits (B, T, Q, K) and codes (B, T, Q) -> (B, T, Q), nats."""
    nll = F.cross_entropy(logits.flatten(0, 2), codes.flatten(), reduction="none")
    return nll.view(codes.shape)
