"""Token by token: a decoder-only transformer with a condition, a vocabulary per place and a cache.

GPT-2 (Radford et al. 2019) in minGPT's form is the default; the options are what the book's token
generators need: a prefix of vectors, text and codes in one stream, padding, an end token.

Shapes: B batch, P prefix places, T tokens, D channels, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gentok.nn.causal_transformer import CausalTransformer
from gentok.nn.gpt_block import Attend, GptConfig, init_gpt
from gentok.nn.place_head import PlaceHead, draw_token

__all__ = ["Gpt", "GptConfig", "Draw"]

Draw = Callable[[Tensor], Tensor]  # logits (B, K) -> (B,) int64 in [0, K)


class Gpt(nn.Module):
    """Predict each token from the prefix and the tokens before it.

    With a prefix (P > 0) all tokens are predicted, the first from the prefix alone. Without one the
    first token is given and never predicted.

    Args:
        config: see :class:`GptConfig`.
        attend: see :class:`gentok.nn.causal_transformer.CausalTransformer`.

    Raises:
        ValueError: if ``config.segments`` do not fit the places.
    """

    def __init__(self, config: GptConfig, attend: Attend | None = None):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.dim)
        init_gpt(self.embedding)
        blocks = config.prefix_blocks + (1,) * config.num_tokens
        self.trunk = CausalTransformer(config, blocks, attend)
        self.head = PlaceHead(
            config.dim,
            config.vocabulary,
            config.num_tokens,
            config.segments,
            config.head_bias,
            self.embedding if config.tie else None,
        )

    def hidden(
        self,
        tokens: Tensor,
        prefix: Tensor | None = None,
        keys: Tensor | None = None,
        cache: list | None = None,
    ) -> Tensor:
        """Hidden states that predict tokens: of the prefix's last place and of each token.

        Args:
            tokens: (B, T) int64, the first ones of the stream.
            prefix: (B, P, D), needed if and only if the configuration has one.
            keys: (B, any) bool over all places, prefix included; False for padding.
            cache: an empty one from ``trunk.new_cache()``, to be filled.

        Returns:
            (B, T + 1, D) with a prefix, (B, T, D) without.

        Raises:
            ValueError: if the prefix is missing, superfluous or of another shape.
        """
        p, shape = self.config.prefix, None if prefix is None else tuple(prefix.shape)
        expected = (len(tokens), p, self.config.dim) if p else None
        if shape != expected:
            raise ValueError(f"prefix must have the shape {expected}, got {shape}")
        x = self.embedding(tokens)  # (B, T, D)
        if prefix is not None:
            x = torch.cat([prefix, x], dim=1)
        return self.trunk(x, cache, keys)[:, max(p - 1, 0) :]

    def forward(
        self, tokens: Tensor, prefix: Tensor | None = None, keys: Tensor | None = None
    ) -> Tensor:
        """Logits of the token after the prefix (if there is one) and after each token.

        Args: as :meth:`hidden`.

        Returns:
            (B, T + 1, V) with a prefix, (B, T, V) without; -inf outside a place's vocabulary.
        """
        return self.head(self.hidden(tokens, prefix, keys), first=self.first)

    @property
    def first(self) -> int:
        """The first token that is predicted: 0 with a prefix, 1 without."""
        return 0 if self.config.prefix else 1

    def nats(
        self, tokens: Tensor, prefix: Tensor | None = None, keys: Tensor | None = None
    ) -> Tensor:
        """Cross-entropy of each predicted token, (B, T) with a prefix, (B, T - 1) without."""
        hidden = self.hidden(tokens[:, :-1], prefix, keys)
        return self.head.nats(hidden, tokens[:, self.first :], self.first)

    def loss(self, batch: dict[str, Tensor], step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted mean cross-entropy.

        Args:
            batch: ``tokens`` (B, T); if used ``prefix`` (B, P, D), ``keys`` (B, any) and ``weight``
                (B, T), 0 where a token is context or has no right answer.
            step: not used.

        Returns:
            The mean, nats a token, and it by name.
        """
        nats = self.nats(batch["tokens"], batch.get("prefix"), batch.get("keys"))
        if "weight" in batch:
            weight = batch["weight"][:, self.first :]
            loss = (nats * weight).sum() / weight.sum()
        else:
            loss = nats.mean()
        return loss, {"cross_entropy": loss.detach()}

    @torch.no_grad()
    def sample(
        self,
        n: int,
        prefix: Tensor | None = None,
        given: Tensor | None = None,
        length: int | None = None,
        keys: Tensor | None = None,
        end: int | None = None,
        draw: Draw = draw_token,
    ) -> Tensor:
        """Draw streams, one place after the other, each from its own vocabulary.

        Args:
            n: number of streams.
            prefix: (n, P, D) conditions, if the configuration has a prefix.
            given: (n, G) first tokens; needed without a prefix.
            length: tokens of the result, those given included; all that fit if None.
            keys: see :meth:`hidden`; for prefix and given tokens.
            end: a token after which a stream is over; the rest is filled with it.
            draw: maps logits (n, K) to choices (n,). `gentok.process.autoregressive.sample_next`
                with its settings fits. For guidance put both branches into the batch, and let
                ``draw`` combine their logits and return each choice twice.

        Returns:
            (n, length), int64.

        Raises:
            ValueError: if there is nothing to start from, or ``n`` or ``length`` do not fit.
        """
        length = self.config.num_tokens if length is None else length
        device = self.embedding.weight.device
        if given is None:
            given = torch.empty(n, 0, dtype=torch.int64, device=device)
        self._check_start(n, given, length)
        tokens = torch.empty(n, length, dtype=torch.int64, device=device)
        tokens[:, : given.shape[1]] = given
        over = torch.zeros(n, dtype=torch.bool, device=device)
        cache = self.trunk.new_cache()
        hidden = self.hidden(given, prefix, keys, cache)[:, -1]  # (n, D)
        for place in range(given.shape[1], length):
            low, high = self.head.range_of(place)
            token = draw(self.head.part(hidden, low, high)) + low  # (n,)
            if end is not None:
                token = torch.where(over, end, token)
                over |= token == end
                if over.all():
                    tokens[:, place:] = end
                    break
            tokens[:, place] = token
            if place + 1 < length:
                hidden = self.trunk(self.embedding(token)[:, None], cache, keys)[:, 0]
        return tokens

    def _check_start(self, n: int, given: Tensor, length: int) -> None:
        if n < 1 or given.ndim != 2 or len(given) != n:
            raise ValueError(f"given must be ({n}, any) with n >= 1, got {tuple(given.shape)}")
        if not self.config.prefix and given.shape[1] == 0:
            raise ValueError("given must hold a first token, since there is no prefix, got none")
        if not given.shape[1] <= length <= self.config.num_tokens:
            raise ValueError(
                f"length must lie in [{given.shape[1]}, {self.config.num_tokens}], got {length}"
            )
