"""Sizes of MatLM and MatViT, the networks of the MatFormer paper (arXiv:2310.07707), as data.

Shapes: D channels, F hidden neurons, K vocabulary or classes, l layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

NAMES = ("S", "M", "L", "XL")
OBJECTIVES = ("sampling", "joint")
Submodel = str | Sequence[str] | None  # one granularity, or one for each layer; None is XL


@dataclass(frozen=True)
class NestedConfig:
    """Sizes that MatLM and MatViT share.

    Args:
        hidden: neurons F of the largest feed-forward layer.
        divisors: the granularities have F / divisor neurons; ``(1,)`` is an ordinary transformer.
        objective: ``"sampling"`` trains one granularity a step, ``"joint"`` the average of all.
        probabilities: of the granularities in sampling mode, small to large; uniform if None.
        draw_seed: of the sequence of granularities, which depends on nothing else but the step: all
            processes and micro-batches of a step train the same one.
        layer_widths: neurons of each layer of an extracted mixture; ``hidden`` everywhere if None.
        published_blocks: parameters of all blocks of S, M, L and XL as the paper prints them.
    """

    dim: int = 256
    depth: int = 16
    num_heads: int = 16
    hidden: int = 1024
    divisors: tuple[int, ...] = (8, 4, 2, 1)
    objective: str = "sampling"
    probabilities: tuple[float, ...] | None = None
    draw_seed: int = 0
    layer_widths: tuple[int, ...] | None = None
    published_params: int | None = None
    published_blocks: tuple[float, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the granularities, small to large."""
        return NAMES[-len(self.divisors) :]

    def widths(self, submodel: Submodel = None) -> tuple[int, ...]:
        """Neurons that each layer uses, (l,).

        Raises:
            ValueError: if a name is unknown or their number is not that of the layers.
        """
        chosen = self.names[-1] if submodel is None else submodel
        chosen = [chosen] * self.depth if isinstance(chosen, str) else list(chosen)
        if len(chosen) != self.depth or set(chosen) - set(self.names):
            raise ValueError(
                f"submodel must be one of {self.names} or {self.depth} of them, got {submodel!r}"
            )
        whole = self.layer_widths or (self.hidden,) * self.depth
        divisors = dict(zip(self.names, self.divisors, strict=True))
        return tuple(F_ // divisors[name] for F_, name in zip(whole, chosen, strict=True))


@dataclass(frozen=True)
class MatLMConfig(NestedConfig):
    """A decoder language model; the defaults are the paper's 78M.

    Args:
        vocab_size: K; ``context``: tokens of a training sequence.
        gated: SwiGLU feed-forward layers (as LLaMA) instead of two layers with ``activation``.
    """

    vocab_size: int = 256_000
    context: int = 1024
    gated: bool = False
    activation: str = "gelu"


@dataclass(frozen=True)
class MatViTConfig(NestedConfig):
    """A vision transformer classifier.

    Args:
        image_size, patch_size: pixels; ``num_classes``: K.
        dropout: on both branches of a block; ``stochastic_depth``: chance to skip a branch of the
            last block for one image, rising linearly from 0 in the first.
    """

    image_size: int = 224
    patch_size: int = 16
    num_classes: int = 1000
    dropout: float = 0.0
    stochastic_depth: float = 0.0


def _lm(dim: int, total: float, blocks: tuple[float, ...]) -> MatLMConfig:
    return MatLMConfig(
        dim=dim,
        hidden=4 * dim,
        published_params=round(total * 1e6),
        published_blocks=tuple(count * 1e6 for count in blocks),
    )


def _vit(
    dim: int,
    depth: int,
    num_heads: int,
    published_params: int,
    blocks: tuple[float, ...] | None = None,
) -> MatViTConfig:
    return MatViTConfig(
        dim=dim,
        depth=depth,
        num_heads=num_heads,
        hidden=4 * dim,
        dropout=0.1,
        stochastic_depth=0.1,
        published_params=published_params,
        published_blocks=blocks and tuple(count * 1e6 for count in blocks),
    )


PRESETS: dict[str, NestedConfig] = {
    "tiny": MatLMConfig(dim=96, depth=4, num_heads=4, hidden=384, vocab_size=96, context=64),
    # Of the book: characters of Python's manual for the weights, and networks for comparisons.
    "text": MatLMConfig(dim=64, depth=4, num_heads=4, hidden=256, vocab_size=96, context=64),
    "study-text": MatLMConfig(dim=32, depth=2, num_heads=2, hidden=128, vocab_size=96, context=64),
    "study-mixtures": MatLMConfig(
        dim=32, depth=4, num_heads=2, hidden=128, vocab_size=96, context=64
    ),
    "study-digits": MatViTConfig(
        dim=64, depth=4, num_heads=4, hidden=256, image_size=8, patch_size=2, num_classes=10
    ),
    "tiny-vit": MatViTConfig(
        dim=64, depth=4, num_heads=4, hidden=256, image_size=32, patch_size=4, num_classes=10
    ),
    # published_params: the paper's totals, embedding of 256,000 words included.
    "matlm-78m": _lm(256, 78, (5.3, 6.3, 8.4, 12.6)),
    "matlm-180m": _lm(512, 180, (21.1, 25.3, 33.7, 50)),
    "matlm-310m": _lm(768, 310, (47, 56, 75, 113)),
    "matlm-463m": _lm(1024, 463, (84, 100, 134, 201)),
    "matlm-850m": _lm(1536, 850, (189, 227, 302, 453)),
    # published_params: of the ViT that XL is, with 1,000 classes; blocks: the paper's encoders.
    "matvit-ti16": _vit(192, 12, 3, 5_717_416),
    "matvit-s16": _vit(384, 12, 6, 22_050_664),
    "matvit-b16": _vit(768, 12, 12, 86_567_656, (36, 43, 57, 85)),
    "matvit-l16": _vit(1024, 24, 16, 304_326_632, (125, 150, 200, 300)),
}


def submodel_config(config: NestedConfig, submodel: Submodel = None) -> NestedConfig:
    """The configuration of a submodel as an ordinary transformer of its own."""
    widths = config.widths(submodel)
    return replace(
        config,
        hidden=max(widths),
        layer_widths=None if len(set(widths)) == 1 else widths,
        divisors=(1,),
        probabilities=None,
        published_params=None,
        published_blocks=None,
    )


def check(config: NestedConfig) -> None:
    """Raise ValueError if a configuration contradicts itself."""
    if config.objective not in OBJECTIVES:
        raise ValueError(f"unknown objective {config.objective!r}; accepted: {OBJECTIVES}")
    falling = all(a > b for a, b in zip(config.divisors, config.divisors[1:], strict=False))
    if not 1 <= len(config.divisors) <= len(NAMES) or config.divisors[-1] != 1 or not falling:
        raise ValueError(
            f"divisors must be 1 to {len(NAMES)} falling numbers that end in 1, "
            f"got {config.divisors}"
        )
    widths = config.layer_widths or (config.hidden,) * config.depth
    if len(widths) != config.depth or any(w % d for w in widths for d in config.divisors):
        raise ValueError(
            f"need {config.depth} widths that all divisors {config.divisors} divide, got {widths}"
        )
    if config.probabilities is not None and len(config.probabilities) != len(config.divisors):
        raise ValueError(
            f"probabilities must be {len(config.divisors)} numbers, got {config.probabilities}"
        )
