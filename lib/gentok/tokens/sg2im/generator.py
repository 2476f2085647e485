"""The picture's codes, one after the other, behind the tokens of a layout.

Sortino et al. 2023, code: minGPT over one sequence, causal over the layout too. Only the codes are
predicted.

Shapes: B pictures, T tokens of a layout, N codes of a picture, K codebook size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.gpt import Gpt, GptConfig
from gentok.process.autoregressive import sample_next
from gentok.tokens.sg2im.tokens import LayoutTokens

PUBLISHED_DRAW = partial(sample_next, top_k=100)  # of 8,192 codes
# Of 100 codes five, for the four colours where an object begins. A temperature below 1 leaves equal
# chances equal, and so the colours, and makes doubtful shapes rarer.
SMALL_DRAW = partial(sample_next, temperature=0.25, top_k=5)


@dataclass(frozen=True)
class ImageConfig:
    """Sizes of the image transformer.

    Args:
        codebook_size: K; ``num_codes``: N, of a picture.
        max_objects: places for objects in a layout, the image's node included.
        dim, num_layers, num_heads, dropout: of the transformer.
        published_params: where the authors' code gives a count.
    """

    codebook_size: int = 8192
    num_codes: int = 256
    max_objects: int = 30
    dim: int = 1056
    num_layers: int = 24
    num_heads: int = 12
    dropout: float = 0.1
    published_params: int | None = None

    @property
    def tokens(self) -> LayoutTokens:
        """How layouts are written."""
        return LayoutTokens(self.codebook_size, self.max_objects)

    @property
    def gpt(self) -> GptConfig:
        """Sizes of the decoder-only transformer over T + N places."""
        return GptConfig(
            vocabulary=self.codebook_size,
            length=self.tokens.length + self.num_codes,
            dim=self.dim,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            dropout=self.dropout,
        )


class ImageGPT(nn.Module):
    """Predict each code from the layout and the codes before it."""

    def __init__(self, config: ImageConfig):
        super().__init__()
        self.config = config
        self.gpt = Gpt(config.gpt)

    def nats(self, layout: Tensor, codes: Tensor) -> Tensor:
        """Cross-entropy of each code.

        Args:
            layout: (B, T) int64; ``codes``: (B, N) int64.

        Returns:
            (B, N), nats.

        Raises:
            ValueError: if the lengths are not those of the configuration.
        """
        expected = (self.config.tokens.length, self.config.num_codes)
        if (layout.shape[1], codes.shape[1]) != expected:
            raise ValueError(
                f"need {expected[0]} tokens of a layout and {expected[1]} codes, "
                f"got {layout.shape[1]} and {codes.shape[1]}"
            )
        first = layout.shape[1]
        stream = torch.cat([layout, codes], 1)[:, :-1]
        hidden = self.gpt.hidden(stream)  # (B, T + N - 1, D)
        # The last token of the layout, at T - 1, predicts the first code.
        logits = self.gpt.head.linear(hidden[:, first - 1 :])  # (B, N, K)
        return F.cross_entropy(logits.transpose(1, 2), codes, reduction="none")

    @torch.no_grad()
    def sample(
        self, n: int, layout: Tensor, draw: Callable[[Tensor], Tensor] = PUBLISHED_DRAW
    ) -> Tensor:
        """Draw codes.

        Args:
            n: pictures; ``layout``: (n, T) int64.
            draw: logits (n, K) to choices (n,).

        Returns:
            (n, N), int64 in [0, K).
        """
        stream = self.gpt.sample(n, given=layout, draw=draw)
        return stream[:, layout.shape[1] :]
