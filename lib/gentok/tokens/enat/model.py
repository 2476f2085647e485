"""ENAT: visible and masked tokens apart, and no work done twice (Ni et al. 2024, arXiv:2411.06959).

A masked-token generator whose deep encoder sees only visible tokens, while a shallow decoder fills
in the masked ones by cross-attending to the encoder's result. From one decoding step to the next
only the newly revealed tokens are encoded; features of the older ones are reused. The paper states
the ideas; the details below (order of modulations, head, the two key-value projections, training
noise) follow the authors' released code. One thing of that code is left out: an MLP named
prev_embedder of 8 D^2 + 5 D parameters that it creates and never calls.

Shapes: B batch, N tokens, n queries, m context tokens, D channels, h heads, d = D / h, K codes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.base.masked.groups import Groups, put, take
from gentok.base.masked.nat import MaskedTokenConfig, MaskedTokenModel, example
from gentok.base.masked.unmask import Schedule
from gentok.nn.attention import merge_heads, split_heads
from gentok.nn.blocks import AdaLNBlock, plain_norm
from gentok.nn.transformer import Mlp, modulate

__all__ = ["ENAT", "PRESETS", "Block", "ENATConfig", "SCAttention", "build", "example"]


@dataclass(frozen=True)
class ENATConfig(MaskedTokenConfig):
    """Sizes of ENAT; the defaults are ENAT-L at 256x256.

    Args:
        encoder_depth: blocks on visible tokens; ``decoder_depth``: blocks on masked tokens.
        reuse_probability: share of training batches with a simulated earlier step.
    """

    encoder_depth: int = 22
    decoder_depth: int = 2
    reuse_probability: float = 0.5


def _d768(depth: int, published_params: int) -> ENATConfig:
    # How the smaller models divide their depth is not stated; two decoder blocks as in ENAT-L.
    return ENATConfig(
        dim=768, num_heads=12, encoder_depth=depth - 2, published_params=published_params
    )


PRESETS: dict[str, ENATConfig] = {
    # For 8x8 grids of the tiny VQGAN. The temperatures fit a network that is far less certain.
    "tiny": ENATConfig(
        codebook_size=64,
        num_tokens=64,
        num_classes=10,
        dim=96,
        num_heads=4,
        encoder_depth=3,
        decoder_depth=1,
        schedule=Schedule(mask_temperature=4.5, sample_temperature=1.0),
    ),
    # The book's own for shapes on plain floors, on the codes of the trained `base/vqgan`.
    "world-32": ENATConfig(
        codebook_size=256,
        num_tokens=64,
        num_classes=10,
        dim=160,
        num_heads=4,
        encoder_depth=6,
        decoder_depth=2,
        schedule=Schedule(guidance_scale=3.0, mask_temperature=1.5, sample_temperature=0.5),
    ),
    # A small one for pictures of five centred shapes: what the chapter compares.
    "study-32": ENATConfig(
        codebook_size=256,
        num_tokens=64,
        num_classes=5,
        dim=64,
        num_heads=4,
        encoder_depth=3,
        decoder_depth=1,
        schedule=Schedule(guidance_scale=1.0, mask_temperature=4.5, sample_temperature=1.0),
    ),
    # published_params: the released network less its unused MLP (574,298,113 - 8,393,728, ...).
    "enat-l-256": ENATConfig(published_params=565_904_385),
    "enat-l-512": ENATConfig(
        num_tokens=1024,
        schedule=Schedule(guidance_scale=3.5, sample_temperature=4.0),
        published_params=566_690_817,
    ),
    "enat-768-12": _d768(12, 162_961_409),
    "enat-768-16": _d768(16, 214_924_289),
    "enat-768-24": _d768(24, 318_850_049),
}


class SCAttention(nn.Module):
    """Attention of tokens on a context and on themselves, under one softmax.

    Context and self pass *different* key-value projections: features that are finished and features
    that are being made need not be read alike.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.context_kv = nn.Linear(dim, 2 * dim)
        self.self_kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Tokens (B, n, D) and context (B, m, D) or None -> (B, n, D)."""
        keys_values = self.self_kv(x)
        if context is not None:
            keys_values = torch.cat([self.context_kv(context), keys_values], dim=1)  # (B, m+n, 2D)
        k, v = (split_heads(part, self.num_heads) for part in keys_values.chunk(2, dim=-1))
        q = split_heads(self.query(x), self.num_heads)
        out = F.scaled_dot_product_attention(q, k, v)  # scale d^(-1/2); (B, h, n, d)
        return self.proj(merge_heads(out))


class Block(AdaLNBlock):
    """adaLN-Zero block around SC-attention; context has a norm and a modulation of its own."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: int = 4):
        super().__init__(dim, SCAttention(dim, num_heads), Mlp(dim, mlp_ratio * dim), count=8)
        self.norm_context = plain_norm(dim)

    def forward(self, x: Tensor, c: Tensor, context: Tensor | None = None) -> Tensor:
        """Tokens (B, n, D), condition (B, D), context (B, m, D) or None -> (B, n, D)."""
        shift_a, scale_a, shift_c, scale_c, gate_a, *feed = self.modulation(c)
        if context is not None:
            context = modulate(self.norm_context(context), shift_c, scale_c)
        return self.feed(self.attend(x, (shift_a, scale_a, gate_a), context), feed)


class PreviousProjection(nn.Module):
    """f(z) = z + MLP(LN(z)): makes an earlier step's features fit for this step.

    In sampling, a token that was revealed long ago passes f once a step, f(f(...)); in training one
    hop is simulated. The released code does the same.
    """

    def __init__(self, dim: int, mlp_ratio: int = 4):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, mlp_ratio * dim)

    def forward(self, z: Tensor) -> Tensor:
        """(B, n, D) -> (B, n, D)."""
        return z + self.mlp(self.norm(z))


class ENAT(MaskedTokenModel):
    """Encoder on the newly revealed tokens, decoder on the masked ones.

    In training a moving average of the weights plays the earlier step: train it by
    ``fit(enat, ..., ema=0.9999)``, the paper's decay, and sample from the average.
    """

    def __init__(self, config: ENATConfig):
        super().__init__(config)
        if min(config.encoder_depth, config.decoder_depth) < 1:
            raise ValueError(
                "encoder_depth and decoder_depth must be at least 1, got "
                f"{config.encoder_depth} and {config.decoder_depth}"
            )
        sizes = (config.dim, config.num_heads, config.mlp_ratio)
        self.previous = PreviousProjection(config.dim, config.mlp_ratio)
        self.encoder = nn.ModuleList(Block(*sizes) for _ in range(config.encoder_depth))
        self.decoder = nn.ModuleList(Block(*sizes) for _ in range(config.decoder_depth))
        self._teacher: tuple[nn.Module, ...] = ()  # a tuple, so that it is no part of this module
        self.initialise()

    def set_teacher(self, teacher: nn.Module | None) -> None:
        """Say which network plays the earlier step in training; None: this one itself."""
        self._teacher = () if teacher is None else (teacher,)

    def features(self, x: Tensor, c: Tensor, groups: Groups, previous: Tensor | None) -> Tensor:
        """One step of the network.

        Args:
            x: embedded tokens, (B, N, D); ``c``: condition, (B, D).
            groups: positions of new, old and masked tokens.
            previous: earlier features, (B, N, D), read at the old positions only; None if there
                are no old positions.

        Returns:
            Features (B, N, D) in raster order, before the final norm.
        """
        old = None
        if groups.old.shape[1]:
            # Detached: an earlier step is taken as it was, not trained through this one.
            old = self.previous(take(previous, groups.old).detach())
        new = take(x, groups.new)
        if groups.new.shape[1]:
            for block in self.encoder:
                new = block(new, c, context=old)  # the same old features at every layer
        # Attention does not see the order of its context, so new and old need no sorting here.
        visible = new if old is None else torch.cat([new, old], dim=1)
        masked = take(x, groups.masked)
        context = visible if visible.shape[1] else None  # the first step knows nothing yet
        for block in self.decoder:
            masked = block(masked, c, context=context)
        order = (
            [groups.new, groups.masked] if old is None else [groups.new, groups.old, groups.masked]
        )
        return put([visible, masked], order)

    def earlier(
        self, codes: Tensor, label: Tensor, order: Tensor, num_masked: int
    ) -> tuple[Groups, Tensor | None]:
        """Simulate the step before: hide some more tokens, and let the teacher look at those left.

        Returns:
            Groups of the present step and the teacher's features (B, N, D), or None in those
            batches that simulate nothing.
        """
        if torch.rand(()).item() >= self.config.reuse_probability:
            return super().earlier(codes, label, order, num_masked)
        teacher = self._teacher[0] if self._teacher else self
        num_new = round((order.shape[1] - num_masked) * torch.rand(()).item())
        with torch.no_grad():
            groups = Groups.from_order(order, num_masked + num_new)
            z = teacher.embed(codes, label, groups, None)
        return Groups.from_order(order, num_masked, num_new), z


def build(config: ENATConfig) -> ENAT:
    """The network of a configuration."""
    return ENAT(config)
