"""NAT: a bidirectional transformer that fills in masked tokens (Chang et al. 2022, MaskGIT).

Here also stands what every masked token generator of this part shares: embeddings, head, training
corruption, loss. The details (mask ratio, label drop, head) are those of ENAT's released code, so
that NAT and ENAT differ in their blocks and in nothing else.

Shapes: B batch, N tokens, M masked tokens, D channels, K codes.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.base.masked.groups import Groups, State, take
from gentok.base.masked.unmask import Schedule, generate
from gentok.nn.attention import SelfAttention
from gentok.nn.blocks import AdaLNBlock
from gentok.nn.position import LabelEmbedding, check_label, labels_to_draw
from gentok.nn.transformer import Mlp, Modulation, init_linears_xavier


@dataclass(frozen=True)
class MaskedTokenConfig:
    """What NAT and ENAT have in common; the defaults are ENAT's at 256x256.

    Args:
        codebook_size: K; the mask is token K of a vocabulary of K + 1.
        num_tokens: N, a square grid in raster order; ``num_classes``: labels beside "no class".
        dim: channels D; ``num_heads`` must divide it; ``mlp_ratio``: hidden width over D.
        mask_alpha, mask_beta: the mask ratio of a training batch is drawn from Beta(alpha, beta).
        label_drop: probabilities with which a label becomes "no class": by the data set, and again
            in the label embedding (0.235 together).
        dropout: on the embedded tokens.
        label_smoothing: of the cross-entropy.
        schedule: how to sample, see :class:`gentok.base.masked.unmask.Schedule`.
        published_params: parameters of the published network, where known.
    """

    codebook_size: int = 1024
    num_tokens: int = 256
    num_classes: int = 1000
    dim: int = 1024
    num_heads: int = 16
    mlp_ratio: int = 4
    mask_alpha: float = 12.0
    mask_beta: float = 3.0
    label_drop: tuple[float, float] = (0.15, 0.1)
    dropout: float = 0.1
    label_smoothing: float = 0.1
    schedule: Schedule = Schedule()
    published_params: int | None = None


class TokenEmbedding(nn.Module):
    """Code + position, normalised: (B, N) ids in [0, K] -> (B, N, D)."""

    def __init__(self, codebook_size: int, num_tokens: int, dim: int, dropout: float):
        super().__init__()
        self.word = nn.Embedding(codebook_size + 1, dim)
        self.position = nn.Parameter(torch.empty(num_tokens, dim))
        nn.init.normal_(self.word.weight, std=0.02)
        nn.init.normal_(self.position, std=0.02)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor) -> Tensor:
        return self.dropout(self.norm(self.word(ids) + self.position))


class TokenHead(nn.Module):
    """Features (..., D) -> logits (..., K): how like each code's embedding they are.

    The released code leaves eps at 1e-5 here and in the final norm, and sets 1e-6 elsewhere.
    """

    def __init__(self, dim: int, codebook_size: int):
        super().__init__()
        self.codebook_size = codebook_size
        self.linear = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.bias = nn.Parameter(torch.zeros(codebook_size + 1))

    def forward(self, features: Tensor, words: Tensor) -> Tensor:
        h = self.norm(F.gelu(self.linear(features)))
        # Detached: the head reads the embeddings and does not train them. The mask token's logit
        # exists (its cost counts, its bias is stored) and is cut off: no token becomes a mask.
        return F.linear(h, words.detach(), self.bias)[..., : self.codebook_size]


class NATBlock(AdaLNBlock):
    """DiT's adaLN-Zero block: every token attends to every token, masked or not."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: int = 4):
        super().__init__(dim, SelfAttention(dim, num_heads), Mlp(dim, mlp_ratio * dim))


class MaskedTokenModel(nn.Module, ABC):
    """Base of NAT and ENAT: everything but the blocks between embedding and head."""

    def __init__(self, config: MaskedTokenConfig):
        super().__init__()
        if config.dim % config.num_heads:
            raise ValueError(
                f"num_heads must divide dim, got num_heads={config.num_heads}, dim={config.dim}"
            )
        self.config = config
        self.embedding = TokenEmbedding(
            config.codebook_size, config.num_tokens, config.dim, config.dropout
        )
        self.label = LabelEmbedding(config.num_classes, config.dim, drop=config.label_drop[1])
        self.norm = nn.LayerNorm(config.dim, eps=1e-5)
        self.head = TokenHead(config.dim, config.codebook_size)

    def initialise(self) -> None:
        """Xavier for linear layers; modulations zero, so that every block starts as identity."""
        init_linears_xavier(self)
        for module in self.modules():
            if isinstance(module, Modulation):
                nn.init.zeros_(module.linear.weight)

    @abstractmethod
    def features(self, x: Tensor, c: Tensor, groups: Groups, previous: Tensor | None) -> Tensor:
        """The blocks: embedded tokens (B, N, D) and condition (B, D) -> features (B, N, D).

        ``groups`` says which tokens are masked; ``previous`` are an earlier step's features, (B, N,
        D), or None.
        """

    def embed(
        self, codes: Tensor, label: Tensor, groups: Groups, previous: Tensor | None
    ) -> Tensor:
        """Hide the masked codes, embed, and apply the blocks: (B, N) -> features (B, N, D)."""
        ids = codes.scatter(1, groups.masked, self.config.codebook_size)
        return self.features(self.embedding(ids), self.label(label), groups, previous)

    def forward(
        self, codes: Tensor, label: Tensor, mask: Tensor, previous: State | None = None
    ) -> tuple[Tensor, State]:
        """One step of decoding.

        Args:
            codes: (B, N) int64 in [0, K); values under the mask are not looked at.
            label: (B,) int64 in [0, num_classes]; the last means "no class".
            mask: (B, N) bool, True where the token is hidden; equally many in every row.
            previous: the earlier step's state, or None.

        Returns:
            logits (B, N, K) and the state for the next step.

        Raises:
            ValueError: on wrong shapes or types, labels out of range, or a mask that hides a token
                that was visible in the earlier step.
        """
        state, _ = self._look(codes, label, mask, previous)
        return self.head(self.norm(state.features), self.embedding.word.weight), state

    def guess(
        self, codes: Tensor, label: Tensor, mask: Tensor, previous: State | None = None
    ) -> tuple[Tensor, Tensor, State]:
        """As :meth:`forward`, for the M masked tokens alone: all that sampling needs.

        Returns:
            logits (B, M, K), the tokens' positions (B, M) and the state for the next step.
        """
        state, groups = self._look(codes, label, mask, previous)
        chosen = self.norm(take(state.features, groups.masked))
        return self.head(chosen, self.embedding.word.weight), groups.masked, state

    def _look(
        self, codes: Tensor, label: Tensor, mask: Tensor, previous: State | None
    ) -> tuple[State, Groups]:
        """Check the arguments and apply the network, up to its final norm."""
        self._check(codes, label)
        if mask.shape != codes.shape or mask.dtype != torch.bool:
            raise ValueError(
                f"mask must be bool {tuple(codes.shape)}, got {mask.dtype} {tuple(mask.shape)}"
            )
        groups = Groups.from_masks(mask, None if previous is None else previous.mask)
        features = self.embed(codes, label, groups, None if previous is None else previous.features)
        return State(features, mask), groups

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy on the masked tokens of a random corruption.

        Args:
            batch: ``{"codes": (B, N) int64, "label": (B,) int64}``.
            step: training step; this loss does not depend on it.

        Raises:
            ValueError: if the batch does not fit the configuration.
        """
        codes, label, config = batch["codes"], batch["label"], self.config
        self._check(codes, label)
        _check_range(codes, config.codebook_size)
        dropped = torch.rand(label.shape, device=label.device) < config.label_drop[0]
        label = torch.where(dropped, config.num_classes, label)
        order = torch.rand(codes.shape, device=codes.device).argsort(-1)  # (B, N) random positions
        groups, previous = self.earlier(codes, label, order, self.draw_num_masked())
        features = self.embed(codes, label, groups, previous)
        # Only masked tokens count, so only they pass the head: (B, M, D) -> (B, M, K).
        chosen = self.norm(take(features, groups.masked))
        logits = self.head(chosen, self.embedding.word.weight).flatten(0, 1)
        targets = codes.gather(1, groups.masked).flatten()
        total = F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
        accuracy = (logits.argmax(-1) == targets).float().mean()
        return total, {"accuracy": accuracy.detach()}

    def earlier(
        self, codes: Tensor, label: Tensor, order: Tensor, num_masked: int
    ) -> tuple[Groups, Tensor | None]:
        """Which tokens are masked, and the features of a simulated earlier step (here: none)."""
        return Groups.from_order(order, num_masked), None

    def draw_num_masked(self) -> int:
        """One ratio for the whole batch, so that all rows have equally many masked tokens."""
        config = self.config
        ratio = torch.distributions.Beta(config.mask_alpha, config.mask_beta).sample().item()
        return min(max(round(config.num_tokens * ratio), 1), config.num_tokens - 1)

    @torch.no_grad()
    def sample(self, n: int, label: int | Tensor | None = None, **schedule) -> Tensor:
        """Generate codes.

        Args:
            n: number of samples.
            label: (n,) int64 classes, one for all, or None for random ones.
            schedule: fields of :class:`gentok.base.masked.unmask.Schedule` to change.

        Returns:
            (n, N) int64 in [0, K).
        """
        label = labels_to_draw(n, label, self.config.num_classes).to(self.head.bias.device)
        return generate(self, label, replace(self.config.schedule, **schedule))

    def _check(self, codes: Tensor, label: Tensor) -> None:
        shape = (len(label), self.config.num_tokens)
        if tuple(codes.shape) != shape or codes.dtype != torch.int64:
            raise ValueError(f"codes must be int64 {shape}, got {codes.dtype} {tuple(codes.shape)}")
        check_label(label, self.config.num_classes)


@dataclass(frozen=True)
class NATConfig(MaskedTokenConfig):
    """A plain network of ``depth`` blocks."""

    depth: int = 24


PRESETS: dict[str, NATConfig] = {
    "tiny": NATConfig(
        codebook_size=64,
        num_tokens=64,
        num_classes=10,
        dim=96,
        num_heads=4,
        depth=4,
        schedule=Schedule(mask_temperature=4.5, sample_temperature=1.0),
    ),
    "nat-l-256": NATConfig(),  # the width and depth of ENAT-L, for the comparison of costs
}


class NAT(MaskedTokenModel):
    """The plain network: all tokens pass all blocks, at every step."""

    def __init__(self, config: NATConfig):
        super().__init__(config)
        self.blocks = nn.ModuleList(
            NATBlock(config.dim, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.initialise()

    def features(self, x: Tensor, c: Tensor, groups: Groups, previous: Tensor | None) -> Tensor:
        """All tokens through all blocks; neither groups nor an earlier step matter."""
        for block in self.blocks:
            x = block(x, c)
        return x


def build(config: NATConfig) -> NAT:
    """The network of a configuration."""
    return NAT(config)


def example(config: MaskedTokenConfig, batch_size: int = 1, device: str = "meta") -> dict:
    """A batch of the right shape for ``loss``."""
    codes = torch.zeros(batch_size, config.num_tokens, dtype=torch.int64, device=device)
    return {"codes": codes, "label": codes[:, 0].clone()}


def _check_range(codes: Tensor, codebook_size: int) -> None:
    if codes.is_meta or codes.numel() == 0:
        return
    low, high = int(codes.min()), int(codes.max())
    if low < 0 or high >= codebook_size:
        raise ValueError(f"codes must lie in [0, {codebook_size}), got [{low}, {high}]")
