"""What a tokenizer makes, described alike for every kind, and how it looks without learning."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

KINDS = ("continuous", "discrete")


@dataclass(frozen=True)
class LatentSpace:
    """What ``encode`` gives for one sample, and under which name a batch holds the data.

    A generator goes with a tokenizer if their kinds, shapes and, for codes, K agree.

    Args:
        kind: ``"continuous"`` (floats) or ``"discrete"`` (codes in [0, K), int64).
        shape: of one sample's latents, without the batch axis; None stands for an axis that grows
            with the data, such as time.
        batch_key: the data's name in a batch: ``"image"``, ``"video"``, ``"motion"``, ``"wave"``.
        codebook_size: K of discrete ones.

    Raises:
        ValueError: if the kind is unknown, or K is missing or does not belong.
    """

    kind: str
    shape: tuple[int | None, ...]
    batch_key: str
    codebook_size: int | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}; accepted: {', '.join(KINDS)}")
        if (self.kind == "discrete") != (self.codebook_size is not None):
            raise ValueError(
                f"codebook_size goes with discrete latents, got {self.codebook_size} for "
                f"{self.kind} ones"
            )

    @property
    def numbers(self) -> int:
        """Floats or codes a sample; of one place along each axis that grows with the data."""
        return math.prod(size for size in self.shape if size is not None)

    @property
    def bits(self) -> float:
        """Bits a sample: log2 K a code, 32 a float."""
        return self.numbers * (32 if self.codebook_size is None else math.log2(self.codebook_size))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode while the block runs, each layer's own mode after it.

    A tokenizer in training encodes under it, so that looking at data moves no codebook and no
    batch norm, and drops nothing out.
    """
    before = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for layer, training in before:
            layer.training = training
