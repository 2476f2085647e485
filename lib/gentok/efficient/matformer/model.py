"""MatFormer: one training run, many nested transformers (Devvrit et al. 2024, arXiv:2310.07707).

All granularities share attention, norms, embeddings and head at full width; they differ only in how
many of the first neurons each feed-forward layer uses (see `nested`). MatLM is a
decoder language model, MatViT a vision transformer with a class token.

Two objectives go under the name. The revised paper draws one granularity a step ("sampling"); the
first version, and the DynaBERT baseline of the revised one, average all of them every step
("joint"). The released code *sums* four losses, which multiplies the effective learning rate; here
they are averaged. Not stated in the paper, and chosen here: rotary positions and tied embeddings of
MatLM (the totals of its table allow no second matrix), biases (with them the small sizes round to
the printed counts), exact GELU, and PyTorch's initialisation, with the output layers of MatLM's
blocks scaled by (2 l)^(-1/2) as in GPT-2. In sampling mode unused neurons get gradients of zero, so
Adam's moments and weight decay still move them; the paper is silent on that.

Shapes: B batch, N tokens, D channels, F hidden neurons, K vocabulary or classes, l layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.data.imageset import generator
from gentok.efficient.matformer.nested import Block, NestedFeedForward, NestedGated
from gentok.efficient.matformer.sizes import (
    PRESETS,
    MatLMConfig,
    MatViTConfig,
    NestedConfig,
    Submodel,
    check,
    submodel_config,
)
from gentok.nn.attention import SelfAttention
from gentok.nn.causal import CausalSelfAttention, KVCache
from gentok.nn.gpt_block import FixedKVCache
from gentok.nn.rope import Rope
from gentok.nn.stochastic_depth import drop_rates
from gentok.process.autoregressive import sample_next, write_tokens

__all__ = [
    "PRESETS",
    "Block",
    "MatFormer",
    "MatLM",
    "MatLMConfig",
    "MatViT",
    "MatViTConfig",
    "NestedConfig",
    "build",
    "example",
    "extract",
    "submodel_config",
]


class MatFormer(nn.Module, ABC):
    """What both networks share: nested blocks, and a loss over granularities.

    Raises:
        ValueError: if the configuration contradicts itself.
    """

    blocks: nn.ModuleList

    def __init__(self, config: NestedConfig):
        super().__init__()
        check(config)
        self.config = config

    def hidden(
        self, x: Tensor, submodel: Submodel = None, caches: Sequence[KVCache] | None = None
    ) -> Tensor:
        """Run the blocks and the final norm: (B, N, D) -> (B, N, D)."""
        widths = self.config.widths(submodel)
        caches = caches or [None] * len(widths)
        for block, width, cache in zip(self.blocks, widths, caches, strict=True):
            x = block(x, width, cache)
        return self.norm(x)

    @torch.compiler.disable  # torch.compile cannot trace the NumPy that mixes the seed
    def granularity(self, step: int) -> int:
        """Number of the granularity that sampling mode trains at a step."""
        weights = self.config.probabilities or (1.0,) * len(self.config.divisors)
        weights = torch.tensor(weights, device="cpu")
        draw = torch.multinomial(weights, 1, generator=generator(self.config.draw_seed, step))
        return int(draw)

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of one granularity ("sampling") or the mean of all ("joint"), in nats.

        Returns:
            the total, and its parts: in joint mode each granularity's loss by name, in sampling
            mode the number of the granularity that was trained.
        """
        names = self.config.names
        if self.config.objective == "joint":
            losses = [self.cross_entropy(batch, name) for name in names]
            parts = {name: loss.detach() for name, loss in zip(names, losses, strict=True)}
            return torch.stack(losses).mean(), parts  # the sum would multiply the learning rate
        index = self.granularity(step)
        total = self.cross_entropy(batch, names[index])
        return total, {"granularity": torch.full_like(total.detach(), index)}

    @abstractmethod
    def cross_entropy(self, batch: dict, submodel: Submodel = None) -> Tensor:
        """Mean cross-entropy of a submodel on a batch, nats."""


class MatLM(MatFormer):
    """Decoder language model with rotary positions and a tied head."""

    def __init__(self, config: MatLMConfig):
        super().__init__(config)
        dim = config.dim
        self.embedding = nn.Embedding(config.vocab_size, dim)
        # It is the head, too: at first, logits have a standard deviation of about 1.
        nn.init.normal_(self.embedding.weight, std=dim**-0.5)
        rope = Rope((dim // config.num_heads,), interleaved=False)
        self.blocks = nn.ModuleList(
            Block(dim, CausalSelfAttention(dim, config.num_heads, rope=rope), layer, eps=1e-5)
            for layer in _feed_forwards(config)
        )
        self.norm = nn.LayerNorm(dim)
        with torch.no_grad():  # else what blocks add would drown the embedding at first
            for block in self.blocks:
                for layer in (block.attention.proj, block.mlp.down):
                    layer.weight /= (2 * config.depth) ** 0.5

    def forward(
        self, tokens: Tensor, submodel: Submodel = None, caches: Sequence[KVCache] | None = None
    ) -> Tensor:
        """Logits of the next token at every place.

        Args:
            tokens: (B, N), int64 in [0, K); with caches, the new tokens only.
            submodel: a name, a name for each layer, or None for XL.
            caches: one a layer; the new tokens are added to them.

        Returns:
            (B, N, K).
        """
        return self.logits(self.hidden(self.embedding(tokens), submodel, caches))

    def logits(self, z: Tensor) -> Tensor:
        """Features after the final norm (B, N, D) -> (B, N, K)."""
        return F.linear(z, self.embedding.weight)

    def cross_entropy(self, batch: dict, submodel: Submodel = None) -> Tensor:
        """Mean over all places of ``batch["tokens"]`` (B, N) but the first, nats a token."""
        tokens = batch["tokens"]
        if tokens.ndim != 2 or tokens.dtype != torch.int64 or tokens.shape[1] < 2:
            found = f"{tuple(tokens.shape)} {tokens.dtype}"
            raise ValueError(f"tokens must be int64 (B, N) with N >= 2, got {found}")
        logits = self(tokens[:, :-1], submodel)
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    def new_caches(self) -> list[FixedKVCache]:
        """An empty cache for each layer, with room for one context."""
        return [FixedKVCache(self.config.context) for _ in self.blocks]

    @torch.no_grad()
    def sample(
        self,
        n: int,
        length: int = 128,
        prompt: Tensor | None = None,
        submodel: Submodel = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Tensor:
        """Write ``n`` texts, a token at a time; `decoding` drafts instead.

        A text that does not fit the context goes on from its own last half context, and again.

        Args:
            length: new tokens.
            prompt: (P,) for all, or (n, P), P at least 1; token 0 if None.
            submodel: the granularity or mixture that writes.

        Returns:
            (n, length), int64.

        Raises:
            ValueError: if there is no prompt, or a setting of the sampler is out of its range.
        """
        prompt = torch.zeros(1, dtype=torch.int64) if prompt is None else prompt
        tokens = prompt.to(self.embedding.weight.device).expand(n, -1)  # (n, P)
        start = tokens.shape[1]
        draw = partial(sample_next, temperature=temperature, top_k=top_k, top_p=top_p)
        while (left := start + length - tokens.shape[1]) > 0:
            held, room = fresh_context(tokens, left, self.config.context)
            step = partial(self, submodel=submodel, caches=self.new_caches())
            new = write_tokens(step, held, room, draw)
            tokens = torch.cat([tokens, new], dim=1)
        return tokens[:, start:]


class MatViT(MatFormer):
    """Vision transformer: patches and a class token, learned positions, linear classifier."""

    def __init__(self, config: MatViTConfig):
        super().__init__(config)
        if config.image_size % config.patch_size:
            raise ValueError(
                f"patch_size must divide image_size, got {config.patch_size}, {config.image_size}"
            )
        dim, side = config.dim, config.image_size // config.patch_size
        self.patches = nn.Conv2d(3, dim, config.patch_size, config.patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position = nn.Parameter(0.02 * torch.randn(1, 1 + side * side, dim))
        self.blocks = nn.ModuleList(
            Block(
                dim,
                SelfAttention(dim, config.num_heads),
                layer,
                drop_path=rate,
                dropout=config.dropout,
            )
            for layer, rate in zip(
                _feed_forwards(config),
                drop_rates(config.stochastic_depth, config.depth),
                strict=True,
            )
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, config.num_classes)

    def features(self, images: Tensor, submodel: Submodel = None) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> the class token after the final norm, (B, D).

        Raises:
            ValueError: if the images have another size.
        """
        side = self.config.image_size
        if images.ndim != 4 or images.shape[1:] != (3, side, side):
            raise ValueError(f"images must be (B, 3, {side}, {side}), got {tuple(images.shape)}")
        x = self.patches(images).flatten(2).mT  # (B, N, D)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.position
        return self.hidden(x, submodel)[:, 0]

    def forward(self, images: Tensor, submodel: Submodel = None) -> Tensor:
        """Images (B, 3, H, W) -> class logits (B, K)."""
        return self.head(self.features(images, submodel))

    def cross_entropy(self, batch: dict, submodel: Submodel = None) -> Tensor:
        """Mean over ``batch["image"]`` (B, 3, H, W), nats.

        ``batch["label"]`` holds classes (B,), or their shares (B, K) where images were mixed.
        """
        return F.cross_entropy(self(batch["image"], submodel), batch["label"])


def fresh_context(tokens: Tensor, left: int, context: int) -> tuple[Tensor, int]:
    """What an empty context starts from, and how many tokens can follow before it is full.

    Args:
        tokens: all so far, (..., N); ``left``: how many are still to come.
        context: how many the network reads; the last token of all is never read.

    Returns:
        all tokens if the rest fits behind them, else the last half context; and the number.
    """
    fits = tokens.shape[-1] + left - 1 <= context
    held = tokens if fits else tokens[..., -(context // 2) :]
    return held, min(left, context + 1 - held.shape[-1])


def build(config: NestedConfig) -> MatLM | MatViT:
    """The network of a configuration."""
    return MatViT(config) if isinstance(config, MatViTConfig) else MatLM(config)


def example(
    config: NestedConfig, batch_size: int = 2, device: str | torch.device = "meta"
) -> dict[str, Tensor]:
    """A batch that `MatFormer.loss` takes."""
    if isinstance(config, MatViTConfig):
        side = config.image_size
        label = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return {"image": torch.zeros(batch_size, 3, side, side, device=device), "label": label}
    shape = (batch_size, config.context)
    return {"tokens": torch.zeros(shape, dtype=torch.int64, device=device)}


@torch.no_grad()
def extract(model: MatFormer, submodel: Submodel = None) -> MatFormer:
    """A submodel as a network of its own: same outputs, fewer weights, copies of the originals."""
    out = build(submodel_config(model.config, submodel)).to(next(model.parameters()))
    shared = {k: v for k, v in model.state_dict().items() if ".mlp." not in k}
    out.load_state_dict(shared, strict=False)
    for ours, block, width in zip(
        out.blocks, model.blocks, model.config.widths(submodel), strict=True
    ):
        ours.mlp = block.mlp.extract(width)
    return out.train(model.training)


def _feed_forwards(config: NestedConfig) -> list[nn.Module]:
    widths = config.layer_widths or (config.hidden,) * config.depth
    if getattr(config, "gated", False):
        return [NestedGated(config.dim, width) for width in widths]
    activation = getattr(config, "activation", "gelu")
    return [NestedFeedForward(config.dim, width, activation=activation) for width in widths]
