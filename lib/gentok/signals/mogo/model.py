"""Mogo: one hierarchy of causal transformers writes all residual codes of a frame at once.

Fu 2024 (arXiv:2412.07797); details follow the released code (MiRECoFu/Mogo), of which two states
are known: code-A prefixes each level with two tokens [text, level], code-B with their sum and has
more layers. Which of them gave the paper's numbers is not stated. Level i of the hierarchy sees
the codes 0..i of *past* frames, as a prefix sum of their embeddings; all levels share the table of
embeddings and the output layer. Given the past, the Q codes of a frame are independent.

The released network also creates, in every level, the adaptive embedding and softmax of
Transformer-XL with (K + 1)(D + 1) parameters (1,050,625 at K = 1024) and never calls them. They
are left out here, and ``published_params`` is the released count less Q (K + 1)(D + 1).

Shapes: B batch, T frames, Q levels, K codes, D channels, P prefix tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.process.autoregressive import sample_next
from gentok.signals.mogo.relative_attention import RelativeCache, RelativeTransformer


@dataclass(frozen=True)
class MogoConfig:
    """Sizes of Mogo; the defaults are code-A at K = 1024.

    Args:
        codebook_size: K; ``dim``: D; ``mlp_ratio``: hidden width of the feed-forward layers / D.
        depths: blocks of each level, coarsest first; their number is Q.
        num_heads: attention heads of each level.
        text_dim: channels of a sentence vector (CLIP ViT-B/32 has 512).
        prefix_tokens: P, 2 for [text, level] or 1 for their sum.
        dropout: of inputs, sub-layers, attention weights and outputs.
        corruption: probability that a code of the input is replaced by a random one in training.
        positions: ``"relative"`` as in the paper, or ``"absolute"``: a learned vector a place
            instead, the baseline of the length experiment.
        max_positions: places of the absolute table, the prefix included; unused otherwise.
        published_params: released count without CLIP and without the parameters never used.
    """

    codebook_size: int = 1024
    dim: int = 1024
    mlp_ratio: int = 4
    depths: tuple[int, ...] = (18, 10, 6, 4, 2, 2)
    num_heads: tuple[int, ...] = (16, 16, 16, 16, 16, 16)
    text_dim: int = 512
    prefix_tokens: int = 2
    dropout: float = 0.15
    corruption: float = 0.5
    positions: str = "relative"
    max_positions: int = 256
    published_params: int | None = None

    @property
    def num_levels(self) -> int:
        """Q."""
        return len(self.depths)


def _released(count: int, codebook_size: int) -> int:
    """A released count less what the released network never uses."""
    return count - 6 * (codebook_size + 1) * (1024 + 1)


PRESETS: dict[str, MogoConfig] = {
    # No dropout: a run of minutes does not overfit, and corruption is noise enough.
    "tiny": MogoConfig(
        codebook_size=64,
        dim=64,
        depths=(4, 2, 1, 1),
        num_heads=(2, 2, 2, 2),
        text_dim=64,
        dropout=0.0,
    ),
    # The weights that come with the book.
    "world": MogoConfig(
        codebook_size=128,
        dim=96,
        depths=(4, 2, 1, 1),
        num_heads=(3, 3, 3, 3),
        text_dim=64,
        dropout=0.0,
    ),
    "code-a-512": MogoConfig(codebook_size=512, published_params=_released(577_658_886, 512)),
    "code-a-1024": MogoConfig(published_params=_released(581_856_262, 1024)),
    "code-a-8192": MogoConfig(codebook_size=8192, published_params=_released(640_619_526, 8192)),
    "code-b-1024": MogoConfig(
        depths=(20, 14, 8, 6, 2, 2),
        num_heads=(16, 16, 8, 8, 4, 4),
        prefix_tokens=1,
        published_params=_released(718_263_302, 1024),
    ),
}


class Mogo(nn.Module):
    """The hierarchical causal transformer."""

    def __init__(self, config: MogoConfig):
        super().__init__()
        _check(config)
        self.config = config
        d, k = config.dim, config.codebook_size
        self.embedding = nn.Embedding(k + 1, d)  # one table for all levels; row K: padding
        self.text = nn.Linear(config.text_dim, d)
        self.level = nn.Linear(config.num_levels, d)  # of a one-hot vector
        relative = config.positions == "relative"
        self.levels = nn.ModuleList(
            RelativeTransformer(d, depth, heads, config.mlp_ratio, config.dropout, relative)
            for depth, heads in zip(config.depths, config.num_heads, strict=True)
        )
        self.head = nn.Linear(d, k, bias=False)  # one output layer for all levels
        self.place = None if relative else nn.Parameter(torch.zeros(config.max_positions, d))
        self.apply(_initialise)
        if self.place is not None:
            nn.init.normal_(self.place, std=0.02)

    def forward(self, codes: Tensor, text: Tensor) -> Tensor:
        """Logits of every frame given the frames before it.

        Args:
            codes: (B, T, Q), int64 in [0, K]; K is padding.
            text: sentence vectors, (B, text_dim).

        Returns:
            (B, T, Q, K): entry t predicts frame t from frames 0..t-1; the last frame's codes are
            not read.
        """
        self._check_codes(codes, text)
        prefix, past = self.prefix(text), self.prefix_sums(codes[:, :-1])
        outputs = []
        for i, level in enumerate(self.levels):
            x = torch.cat([prefix[i], past[:, :, i]], dim=1)  # (B, P + T - 1, D)
            outputs.append(level(self._placed(x))[:, self.config.prefix_tokens - 1 :])
        return self.head(torch.stack(outputs, dim=2))

    def prefix(self, text: Tensor) -> list[Tensor]:
        """What each level reads first: [text, level] or text + level, (B, P, D)."""
        sentence = self.text(text)[:, None]  # (B, 1, D)
        one_hot = torch.eye(self.config.num_levels, device=text.device, dtype=text.dtype)
        names = self.level(one_hot)[:, None, None].expand(-1, len(text), 1, -1)  # (Q, B, 1, D)
        if self.config.prefix_tokens == 1:
            return [sentence + name for name in names]
        return [torch.cat([sentence, name], dim=1) for name in names]

    def prefix_sums(self, codes: Tensor) -> Tensor:
        """Inputs of all levels, codes (B, T, Q) -> (B, T, Q, D): sum of embeddings 0..i."""
        return self.embedding(codes).cumsum(2)

    def loss(self, batch: dict[str, Tensor], step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy over all frames and levels, in nats a code; each clip has equal weight.

        In training mode codes of the input are corrupted; the targets never are.

        Args:
            batch: ``codes`` (B, T, Q), ``text`` (B, text_dim), and ``length`` (B,) where clips
                are shorter than T.
            step: unused.

        Raises:
            ValueError: if a length is not in [1, T].
        """
        codes, size = batch["codes"], self.config.codebook_size
        inputs = codes
        if self.training and self.config.corruption > 0:
            noise = torch.randint_like(codes, size)
            replace = torch.rand(codes.shape, device=codes.device) < self.config.corruption
            inputs = torch.where(replace & (codes < size), noise, codes)
        nll = self._nll(self(inputs, batch["text"]), codes)  # (B, T, Q)
        if "length" in batch:
            self._check_length(batch["length"], codes.shape[1])
            frame = torch.arange(codes.shape[1], device=codes.device)
            seen = (frame < batch["length"][:, None])[..., None]  # (B, T, 1)
            levels = ((nll * seen).sum(1) / batch["length"][:, None]).mean(0)
        else:
            levels = nll.mean((0, 1))  # (Q,)
        parts = {f"level_{i}": value for i, value in enumerate(levels.detach())}
        return levels.mean(), parts

    def nll(self, codes: Tensor, text: Tensor) -> Tensor:
        """Negative log-likelihood of each code given the true past, (B, T, Q), nats."""
        return self._nll(self(codes, text), codes)

    def _nll(self, logits: Tensor, codes: Tensor) -> Tensor:
        target = codes.clamp_max(self.config.codebook_size - 1)  # padding is masked by the caller
        nll = F.cross_entropy(logits.flatten(0, 2), target.flatten(), reduction="none")
        return nll.view(codes.shape)

    def next_logits(self, inputs: list[Tensor], caches: list[list[RelativeCache]]) -> Tensor:
        """Logits of the next frame.

        Args:
            inputs: what each level has not read yet, (B, N, D) a level.
            caches: of all levels; grown by this call.

        Returns:
            (B, Q, K).
        """
        outputs = []
        for level, x, cache in zip(self.levels, inputs, caches, strict=True):
            outputs.append(level(self._placed(x, len(cache[0])), cache)[:, -1])
        return self.head(torch.stack(outputs, dim=1))

    @torch.no_grad()
    def stream(
        self,
        text: Tensor,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Iterator[Tensor]:
        """Write frames without end, one column of codes after the other.

        Each frame costs one pass of each level over one token. There is no end token: the caller
        stops. Put the model in eval mode first.

        Args:
            text: sentence vectors, (B, text_dim).
            temperature, top_k, top_p: see `gentok.process.autoregressive.sample_next`.

        Yields:
            (B, Q), int64 in [0, K).
        """
        caches = [level.start() for level in self.levels]
        inputs = self.prefix(text)
        while True:
            column = sample_next(self.next_logits(inputs, caches), temperature, top_k, top_p)
            yield column
            inputs = list(self.prefix_sums(column[:, None]).unbind(2))  # Q x (B, 1, D)

    def sample(self, n: int, text: Tensor, frames: int, **options: float | None) -> Tensor:
        """Draw ``n`` clips of ``frames`` columns: codes (n, frames, Q).

        Args:
            n: clips.
            text: sentence vectors, (n, text_dim).
            options: as :meth:`stream`.

        Raises:
            ValueError: if there are not n sentences, or ``frames`` < 1.
        """
        if frames < 1 or text.shape != (n, self.config.text_dim):
            raise ValueError(
                f"need frames >= 1 and text ({n}, {self.config.text_dim}), "
                f"got {frames} and {tuple(text.shape)}"
            )
        return torch.stack(list(islice(self.stream(text, **options), frames)), dim=1)

    def _placed(self, x: Tensor, start: int = 0) -> Tensor:
        """Add the learned vectors of places start, start + 1, ... (absolute positions only)."""
        if self.place is None:
            return x
        end = start + x.shape[1]
        if end > len(self.place):
            raise ValueError(f"{end} tokens are more than max_positions = {len(self.place)}")
        return x + self.place[start:end]

    def _check_length(self, length: Tensor, frames: int) -> None:
        if not length.is_meta and not 1 <= int(length.min()) <= int(length.max()) <= frames:
            raise ValueError(
                f"length must lie in [1, {frames}], got {int(length.min())} to {int(length.max())}"
            )

    def _check_codes(self, codes: Tensor, text: Tensor) -> None:
        levels, size = self.config.num_levels, self.config.codebook_size
        if codes.dtype != torch.int64 or codes.ndim != 3 or codes.shape[2] != levels:
            raise ValueError(
                f"codes must be int64 (B, T, {levels}), got {codes.dtype} {tuple(codes.shape)}"
            )
        if text.shape != (len(codes), self.config.text_dim):
            raise ValueError(
                f"text must be ({len(codes)}, {self.config.text_dim}), got {tuple(text.shape)}"
            )
        if not codes.is_meta and not 0 <= int(codes.min()) <= int(codes.max()) <= size:
            raise ValueError(
                f"codes must lie in [0, {size}], got {int(codes.min())} to {int(codes.max())}"
            )


def build(config: MogoConfig) -> Mogo:
    """The transformer of a configuration."""
    return Mogo(config)


def example(config: MogoConfig, batch_size: int, device: str = "meta") -> dict[str, Tensor]:
    """A batch that :meth:`Mogo.loss` takes: clips of 196 frames, the longest of HumanML3D."""
    shape = (batch_size, 196, config.num_levels)
    return {
        "codes": torch.zeros(shape, dtype=torch.int64, device=device),
        "text": torch.zeros(batch_size, config.text_dim, device=device),
    }


def _check(config: MogoConfig) -> None:
    if len(config.depths) != len(config.num_heads) or min(config.depths, default=0) < 1:
        raise ValueError(
            "depths and num_heads need one entry a level, depths at least 1; got "
            f"{config.depths} and {config.num_heads}"
        )
    if config.prefix_tokens not in (1, 2):
        raise ValueError(f"prefix_tokens must be 1 or 2, got {config.prefix_tokens}")
    if config.positions not in ("relative", "absolute"):
        raise ValueError(
            f"positions: accepted are 'relative' and 'absolute', got {config.positions!r}"
        )


def _initialise(module: nn.Module) -> None:
    """N(0, 0.02) for weights and 0 for biases; the paper does not say."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
