"""Scale by scale: a transformer that predicts all codes of a scale at once (Tian et al. 2024, VAR).

A sample is a pyramid of codes, coarse to fine. The input of a scale is not its codes, shifted by
one, but features made of all coarser scales; so a place's output predicts the code of that very
place, and the codes of one scale are drawn together. All places of a scale see each other, the
coarser scales and the condition.

Shapes: B batch, P prefix places, S scales of n_1 < ... < n_S places, N their sum, F features.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gentok.nn.causal_transformer import CausalTransformer
from gentok.nn.gpt import Draw
from gentok.nn.gpt_block import GptConfig, init_gpt
from gentok.nn.place_head import PlaceHead, draw_token


class NextScaleGpt(nn.Module):
    """Predict the codes of each scale from the coarser ones.

    Args:
        config: ``length`` is P + N; ``segments`` may give scales vocabularies of their own.
        scales: places of each scale, n_1 to n_S.
        features: channels F of the input of a place.

    Raises:
        ValueError: if scales and prefix do not fill the length.
    """

    def __init__(self, config: GptConfig, scales: Sequence[int], features: int):
        super().__init__()
        if config.prefix + sum(scales) != config.length:
            raise ValueError(
                f"prefix={config.prefix} and scales must fill length={config.length}, "
                f"got {tuple(scales)}"
            )
        self.config, self.scales = config, tuple(scales)
        self.start = nn.Parameter(torch.randn(self.scales[0], config.dim) * 0.02)
        self.project = nn.Linear(features, config.dim)
        init_gpt(self.project)
        self.trunk = CausalTransformer(config, config.prefix_blocks + self.scales)
        self.head = PlaceHead(
            config.dim, config.vocabulary, sum(scales), config.segments, config.head_bias
        )

    def hidden(self, features: Tensor, prefix: Tensor | None = None) -> Tensor:
        """Hidden states that predict the codes.

        Args:
            features: inputs of the scales after the first, (B, N - n_1, F); fewer scales will do.
            prefix: (B, P, D), needed if and only if the configuration has one.

        Returns:
            (B, n_1 + places of ``features``, D).

        Raises:
            ValueError: if the prefix does not fit, or the features end inside a scale.
        """
        x = torch.cat([self._start(len(features), prefix), self.project(features)], dim=1)
        return self.trunk(x)[:, self.config.prefix :]

    def forward(self, features: Tensor, prefix: Tensor | None = None) -> Tensor:
        """Logits of every code, (B, N, V). Args: as :meth:`hidden`."""
        return self.head(self.hidden(features, prefix))

    def loss(self, batch: dict[str, Tensor], step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropy over all codes of all scales, each code with equal weight.

        Args:
            batch: ``codes`` (B, N) int64, ``features`` (B, N - n_1, F), and ``prefix`` (B, P, D) if
                there is one.
            step: not used.

        Returns:
            The mean, nats a code; and by name it and each scale's, ``scale_1`` and so on.
        """
        hidden = self.hidden(batch["features"], batch.get("prefix"))
        nats = self.head.nats(hidden, batch["codes"])  # (B, N)
        loss = nats.mean()
        parts = {"cross_entropy": loss.detach()}
        for index, scale in enumerate(nats.detach().split(self.scales, dim=1), 1):
            parts[f"scale_{index}"] = scale.mean()
        return loss, parts

    @torch.no_grad()
    def sample(
        self,
        n: int,
        next_features: Callable[[Tensor], Tensor],
        prefix: Tensor | None = None,
        draw: Draw = draw_token,
    ) -> Tensor:
        """Draw pyramids, one pass a scale.

        Args:
            n: number of pyramids.
            next_features: maps the codes so far (n, n_1 + ... + n_s) to the inputs of scale s + 1,
                (n, n_{s+1}, F), as in training.
            prefix: (n, P, D) conditions, if the configuration has a prefix.
            draw: maps logits (m, K) to choices (m,).

        Returns:
            (n, N), int64.
        """
        cache, codes = self.trunk.new_cache(), None
        x = self._start(n, prefix)
        for size in self.scales:
            if codes is not None:
                x = self.project(next_features(codes))  # (n, n_s, D)
            hidden = self.trunk(x, cache)[:, -size:]
            first = 0 if codes is None else codes.shape[1]
            drawn = self._draw(hidden, first, draw)
            codes = drawn if codes is None else torch.cat([codes, drawn], dim=1)
        return codes

    def _draw(self, hidden: Tensor, first: int, draw: Draw) -> Tensor:
        """Codes of places ``first`` on, (n, n_s), each from its own range."""
        out = []
        for start, stop, low, high in self.head.spans:
            part = hidden[:, max(start - first, 0) : max(stop - first, 0)]
            if part.shape[1]:
                logits = self.head.part(part, low, high)
                out.append(draw(logits.flatten(0, 1)).view(part.shape[:2]) + low)
        return torch.cat(out, dim=1)

    def _start(self, n: int, prefix: Tensor | None) -> Tensor:
        """Prefix and the first scale's learned input, (n, P + n_1, D)."""
        p, shape = self.config.prefix, None if prefix is None else tuple(prefix.shape)
        expected = (n, p, self.config.dim) if p else None
        if shape != expected:
            raise ValueError(f"prefix must have the shape {expected}, got {shape}")
        start = self.start.expand(n, -1, -1)
        return start if prefix is None else torch.cat([prefix, start], dim=1)
