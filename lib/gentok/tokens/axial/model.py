"""Axial Transformer: exact likelihoods of pictures from attention along rows and columns.

Ho, Kalchbrenner, Weissenborn and Salimans 2019 (arXiv:1912.12180); details by the released code.
Pictures are drawn colour plane by colour plane, p(x) = prod_c p(plane c | planes before c). Inside
a plane a `PlaneDecoder` goes pixel by pixel. What earlier planes say enters through an *exterior*
encoder of row and column layers without masks. One decoder serves all planes.

Here are the published model of the code (its SlicedChannelModel), its variant that stacks the
planes as extra rows (MultiChannelTransformer2d), and the paper's variant with an LSTM along the
row. For clips see `gentok.tokens.axial.video`.

Shapes: B batch, C channels, H W pixels, D features, K values of a sub-pixel.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.process.masked import gumbel
from gentok.tokens.axial.decoder import DECODERS
from gentok.tokens.axial.layers import (
    COLUMN,
    ROW,
    AxialAttention,
    Block,
    GridPosition,
    init_fan_in,
)

LOG_2 = 0.6931471805599453  # nats in a bit


@dataclass(frozen=True)
class AxialConfig:
    """Sizes of an Axial Transformer; the defaults are those for ImageNet 32x32.

    Args:
        image_size: H = W; ``channels``: C; ``num_values``: K, 256 for bytes.
        dim: features D; ``num_heads`` must divide it.
        exterior_layers: blocks over earlier planes, rows and columns in turn, without masks.
        outer_layers: blocks over the rows above, an even number.
        inner_layers: blocks along the row.
        mlp_ratio: hidden width of the MLPs over D; 1, not the usual 4.
        dropout: on every residual branch.
        context: what a plane's decoder reads: ``"axial"`` (the paper), ``"lstm"`` (its variant: an
            LSTM along the row in place of the inner layers), or for comparison ``"rows"``,
            ``"columns"``, ``"full"`` with equally many parameters.
        planes: ``"sliced"`` (one plane at a time, the published model) or ``"stacked"`` (all planes
            as one tall picture, no exterior).
        published_params: parameters of the published network, where known.
    """

    image_size: int = 32
    channels: int = 3
    num_values: int = 256
    dim: int = 1536
    num_heads: int = 16
    exterior_layers: int = 8
    outer_layers: int = 8
    inner_layers: int = 8
    mlp_ratio: int = 1
    dropout: float = 0.0
    context: str = "axial"
    planes: str = "sliced"
    published_params: int | None = None


_TINY = AxialConfig(
    image_size=8,
    num_values=16,
    dim=64,
    num_heads=4,
    exterior_layers=2,
    outer_layers=2,
    inner_layers=2,
)
PRESETS: dict[str, AxialConfig] = {
    "tiny": _TINY,
    # The book's own: coloured digits of 16 pixels and 8 shades, in the profile `long`.
    "digits-16": replace(_TINY, image_size=16, num_values=8, outer_layers=4, inner_layers=4),
    "study-8": replace(_TINY, num_values=8, dim=48, num_heads=3),  # what the chapter compares
    "imagenet-32": AxialConfig(dropout=0.04, published_params=341_178_112),
    "imagenet-64": AxialConfig(image_size=64, dim=2048, published_params=606_161_152),
    # The variant whose inner layers are an LSTM; its sizes are not stated, so they stay the same.
    "imagenet-32-lstm": AxialConfig(dropout=0.04, context="lstm"),
    "imagenet-64-lstm": AxialConfig(image_size=64, dim=2048, context="lstm"),
}


class Exterior(nn.Module):
    """Planes drawn so far -> condition for the next one."""

    def __init__(self, config: AxialConfig):
        super().__init__()
        size, dim = config.image_size, config.dim
        self.channels = config.channels
        self.conv = nn.Conv2d(2 * config.channels, dim, 3, padding=1)
        init_fan_in(self.conv)
        self.position = GridPosition(size, size, dim)
        self.blocks = nn.ModuleList(
            Block(
                AxialAttention(dim, config.num_heads, (ROW, COLUMN)[i % 2]),
                dim,
                config.mlp_ratio,
                config.dropout,
            )
            for i in range(config.exterior_layers)
        )

    def forward(self, shades: Tensor, channel: Tensor) -> Tensor:
        """Encode what is known before a plane.

        Args:
            shades: all planes as floats in [0, 1], (B, C, H, W); those from ``channel`` on are
                hidden here.
            channel: the plane to come, (B,) int64 in [0, C).

        Returns:
            (B, H, W, D).
        """
        order = torch.arange(self.channels, device=shades.device)
        known = (order < channel[:, None])[..., None, None]  # (B, C, 1, 1)
        # Which plane is meant must be said: before the first, and in the dark, all maps are zero.
        is_next = (order == channel[:, None])[..., None, None].expand_as(shades)
        maps = torch.cat([shades * known, is_next.to(shades.dtype)], dim=1)  # (B, 2C, H, W)
        x = self.conv(maps).permute(0, 2, 3, 1) + self.position()  # (B, H, W, D)
        for block in self.blocks:
            x = block(x)
        return x


class PixelModel(nn.Module, ABC):
    """What both ways to treat channels share: configuration, checks, likelihood in bits."""

    def __init__(self, config: AxialConfig):
        super().__init__()
        if config.context not in DECODERS:
            raise ValueError(f"context must be one of {list(DECODERS)}, got {config.context!r}")
        self.config = config

    def make_decoder(self, height: int) -> nn.Module:
        """The decoder of the configuration, for planes of this height."""
        c = self.config
        return DECODERS[c.context](
            height,
            c.image_size,
            c.num_values,
            c.dim,
            c.num_heads,
            outer_layers=c.outer_layers,
            inner_layers=c.inner_layers,
            mlp_ratio=c.mlp_ratio,
            dropout=c.dropout,
        )

    @abstractmethod
    def bits(self, pixels: Tensor) -> Tensor:
        """-log2 p of every sub-pixel given those before it, exact: (B, C, H, W) -> same, float.

        The sum is the code length of a picture; the mean is its bits per dimension.

        Raises:
            ValueError: if the pixels do not fit the configuration.
        """

    def check(self, pixels: Tensor, least: int = 0) -> None:
        """Raise ValueError unless pixels are int64 (B, C, H, W) with values in [least, K)."""
        c = self.config
        shape = (c.channels, c.image_size, c.image_size)
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != shape or pixels.dtype != torch.int64:
            found = f"{pixels.dtype} {tuple(pixels.shape)}"
            raise ValueError(f"pixels must be int64 (B, {', '.join(map(str, shape))}), got {found}")
        if pixels.is_meta or not pixels.numel():
            return
        low, high = int(pixels.min()), int(pixels.max())
        if low < least or high >= c.num_values:
            wanted = f"[{least}, {c.num_values})"
            raise ValueError(f"pixels must lie in {wanted}, got [{low}, {high}]")

    def start(self, n: int, temperature: float, given: Tensor | None) -> Tensor:
        """The picture that sampling starts from, (n, C, H, W): -1 where a pixel is to be drawn."""
        if temperature < 0:
            raise ValueError(f"temperature must be at least 0, got {temperature}")
        size = self.config.image_size
        device = next(self.parameters()).device
        if given is None:
            shape = (n, self.config.channels, size, size)
            return torch.full(shape, -1, dtype=torch.int64, device=device)
        self.check(given, least=-1)
        if len(given) != n:
            raise ValueError(f"given must hold n={n} pictures, got {len(given)}")
        return given.to(device)


class AxialTransformer(PixelModel):
    """The published model: one plane after another, one decoder for all."""

    def __init__(self, config: AxialConfig):
        super().__init__(config)
        self.exterior = Exterior(config)
        self.decoder = self.make_decoder(config.image_size)

    def forward(self, pixels: Tensor, channel: Tensor) -> Tensor:
        """Logits of one plane of each picture.

        Args:
            pixels: (B, C, H, W) int64 in [0, K).
            channel: which plane, (B,) int64 in [0, C).

        Returns:
            (B, H, W, K).
        """
        plane = pixels[torch.arange(len(pixels), device=pixels.device), channel]  # (B, H, W)
        return self.decoder(plane, self.condition(pixels, channel))

    def condition(self, pixels: Tensor, channel: Tensor) -> Tensor:
        """What the planes before ``channel`` say about it, (B, H, W, D)."""
        shades = pixels.to(self.exterior.conv.weight.dtype) / (self.config.num_values - 1)
        return self.exterior(shades, channel)

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Bits per dimension on one random plane of each picture: an unbiased estimate.

        Args:
            batch: ``{"pixels": (B, C, H, W) int64}``.
            step: training step; this loss does not depend on it.
        """
        pixels = batch["pixels"]
        self.check(pixels)
        channel = torch.randint(self.config.channels, (len(pixels),), device=pixels.device)
        bits = self.plane_bits(pixels, channel).mean()
        return bits, {"bits": bits.detach()}

    def plane_bits(self, pixels: Tensor, channel: Tensor) -> Tensor:
        """-log2 p of the pixels of one plane of each picture, (B, H, W)."""
        plane = pixels[torch.arange(len(pixels), device=pixels.device), channel]
        logits = self.decoder(plane, self.condition(pixels, channel))  # (B, H, W, K)
        return F.cross_entropy(logits.movedim(-1, 1), plane, reduction="none") / LOG_2

    def bits(self, pixels: Tensor) -> Tensor:
        """-log2 p of every sub-pixel given those before it: (B, C, H, W) -> same, float."""
        self.check(pixels)
        planes = range(self.config.channels)
        index = torch.zeros(len(pixels), dtype=torch.int64, device=pixels.device)
        return torch.stack([self.plane_bits(pixels, index + c) for c in planes], dim=1)

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0, given: Tensor | None = None) -> Tensor:
        """Draw pictures: exterior once a plane, outer layers once a row, inner once a pixel.

        Args:
            n: number of pictures.
            temperature: factor of the Gumbel noise; 0 takes the most likely value everywhere.
            given: sub-pixels to keep, (n, C, H, W) int64, -1 where to draw. If they are a prefix of
                the order (whole first planes, or first rows of a single plane) this samples the
                exact conditional; else later given pixels do not act on earlier drawn ones.

        Returns:
            (n, C, H, W) int64 in [0, K).

        Raises:
            ValueError: if ``temperature`` is negative or ``given`` does not fit.
        """
        given = self.start(n, temperature, given)
        pixels = given.clamp_min(0)
        for c in range(self.config.channels):
            condition = self.condition(pixels, torch.full((n,), c, device=pixels.device))
            shape = (*pixels[:, c].shape, self.config.num_values)
            noise = temperature * gumbel(shape, pixels.device)  # (n, H, W, K)
            pixels[:, c] = self.decoder.draw(noise, condition, given[:, c])
        return pixels


class StackedAxialTransformer(PixelModel):
    """The variant: the planes, one under the other, are one tall picture of C H rows."""

    def __init__(self, config: AxialConfig):
        super().__init__(config)
        self.decoder = self.make_decoder(config.channels * config.image_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of all planes: (B, C, H, W) int64 -> (B, C, H, W, K)."""
        logits = self.decoder(pixels.flatten(1, 2))  # (B, C H, W, K)
        return logits.unflatten(1, pixels.shape[1:3])

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Bits per dimension on all planes; ``batch`` as in `AxialTransformer.loss`."""
        bits = self.bits(batch["pixels"]).mean()
        return bits, {"bits": bits.detach()}

    def bits(self, pixels: Tensor) -> Tensor:
        """-log2 p of every sub-pixel given those before it: (B, C, H, W) -> same, float."""
        self.check(pixels)
        logits = self(pixels).movedim(-1, 1)  # (B, K, C, H, W)
        return F.cross_entropy(logits, pixels, reduction="none") / LOG_2

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0, given: Tensor | None = None) -> Tensor:
        """Draw pictures; as `AxialTransformer.sample`, with the outer layers once for C H rows."""
        given = self.start(n, temperature, given)
        tall = given.flatten(1, 2)  # (n, C H, W)
        noise = temperature * gumbel((*tall.shape, self.config.num_values), given.device)
        return self.decoder.draw(noise, 0.0, tall).view_as(given)


def build(config: AxialConfig) -> PixelModel:
    """The model of a configuration.

    Raises:
        ValueError: if ``planes`` or ``context`` is unknown.
    """
    models = {"sliced": AxialTransformer, "stacked": StackedAxialTransformer}
    if config.planes not in models:
        raise ValueError(f"planes must be one of {list(models)}, got {config.planes!r}")
    return models[config.planes](config)


def example(config: AxialConfig, batch_size: int, device: str = "cpu") -> dict[str, Tensor]:
    """A batch that `loss` takes, so that cost can be counted on the meta device."""
    shape = (batch_size, config.channels, config.image_size, config.image_size)
    return {"pixels": torch.randint(config.num_values, shape, device=device)}


def to_values(images: Tensor, num_values: int) -> Tensor:
    """Bytes 0..255 or floats in [-1, 1] to K equal steps: any shape -> int64 in [0, K).

    For K = 256 bytes stay what they are.
    """
    if images.is_floating_point():
        images = images.add(1).mul(127.5).round().clamp(0, 255)
    return images.to(torch.int64) * num_values // 256


def to_images(pixels: Tensor, num_values: int) -> Tensor:
    """K values to floats in [-1, 1], any shape: 0 is -1 and K - 1 is 1."""
    return pixels.float() * (2 / (num_values - 1)) - 1
