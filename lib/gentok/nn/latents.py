"""What a tokenizer makes, described alike for every kind, and what a generator does to it first."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gentok.nn.precision import at_least_single

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


class NormalizedChannels(nn.Module):
    """A generator of latents that normalises each channel by the statistics of sample latents.

    A small tokenizer's latents need not have unit variance, as the noise has. Until
    `set_statistics` is called the mean is 0 and the standard deviation 1. The channel axis is the
    third from the end: latents of pictures are (B, C, h, w), of videos (B, T, C, h, w).

    Args:
        channels: C.
        axes: the axes of latents by name, for messages: ``"(B, C, h, w)"``.
    """

    def __init__(self, channels: int, axes: str):
        super().__init__()
        self._axes = axes
        self.register_buffer("latent_mean", torch.zeros(channels))
        self.register_buffer("latent_std", torch.ones(channels))

    @torch.no_grad()
    def set_statistics(self, z: Tensor) -> None:
        """Take each channel's mean and standard deviation from sample latents.

        Raises:
            ValueError: if the shape is not a latent's, a channel has fewer than two values, or one
                of them is not finite.
        """
        self._check_latents(z)
        if z.numel() < 2 * len(self.latent_mean) or not z.isfinite().all():
            raise ValueError(
                "latents must have two finite values a channel or more, "
                f"got {tuple(z.shape)}, finite: {bool(z.isfinite().all())}"
            )
        z = at_least_single(z)
        others = [axis for axis in range(z.ndim) if axis != z.ndim - 3]
        self.latent_mean.copy_(z.mean(others))
        self.latent_std.copy_(z.std(others).clamp_min(1e-6))

    def normalize(self, z: Tensor) -> Tensor:
        """Latents of the tokenizer -> latents of mean 0 and standard deviation 1 a channel.

        Raises:
            ValueError: if the shape is not a latent's.
        """
        self._check_latents(z)
        return (z - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def denormalize(self, z: Tensor) -> Tensor:
        """The inverse of `normalize`."""
        return z * self.latent_std[:, None, None] + self.latent_mean[:, None, None]

    def _check_latents(self, z: Tensor) -> None:
        axes, channels = self._axes, len(self.latent_mean)
        if z.ndim != axes.count(",") + 1 or z.shape[-3] != channels:
            wanted = axes.replace("C", str(channels))
            raise ValueError(f"latent must be {wanted}, got {tuple(z.shape)}")


@torch.no_grad()
def encode_all(tokenizer: nn.Module, items: Tensor, rows: int = 256) -> Tensor:
    """What a tokenizer makes of all items: encoded where it stands, kept on the CPU.

    A generator's training encodes its data once and looks the codes up at every step.

    Args:
        tokenizer: has ``encode(x)``.
        items: (N, ...); ``rows``: items at a time.

    Returns:
        latents or codes, (N, ...).
    """
    device = next(tokenizer.parameters()).device
    return torch.cat([tokenizer.encode(part.to(device)).cpu() for part in items.split(rows)])
