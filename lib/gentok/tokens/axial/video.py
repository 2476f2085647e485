"""Axial Transformer for video: the exterior encoder gets a third axis, time.

Ho, Kalchbrenner, Weissenborn and Salimans 2019 (arXiv:1912.12180) report BAIR's clips of a robot
that pushes things, 64 x 64 pixels; 16 frames of which the first is told are usual there. The
released code holds no video model, and the sizes of the paper's are not known to us. Here is the
picture model with one change: what conditions a plane is an encoder, without masks, over all planes
before it, those of earlier frames included. The planes go frame by frame, and in a frame colour by
colour; inside a plane `PlaneDecoder` goes pixel by pixel, as for pictures.

Shapes: B batch, T frames, C channels, H W pixels, D features, K values of a sub-pixel.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.attention import SelfAttention, merge_heads
from gentok.process.masked import gumbel
from gentok.tokens.axial.decoder import PlaneDecoder
from gentok.tokens.axial.layers import Block, GridPosition, init_embedding, init_fan_in
from gentok.tokens.axial.model import LOG_2

TIME, COLUMN, ROW = 1, 2, 3  # the axis of (B, T, H, W, D) along which a layer attends
PASS = (ROW, COLUMN, TIME)  # three layers by which every place reaches every other


@dataclass(frozen=True)
class AxialVideoConfig:
    """Sizes of an Axial Transformer for video.

    The defaults are BAIR's clips and the widths and depths of the released model for pictures of
    64 pixels, with one exterior layer more, so that whole passes over three axes come out.

    Args:
        frames: T; ``given_frames``: how many at the start are told and cost no bits.
        image_size: H = W; ``channels``: C; ``num_values``: K, 256 for bytes.
        dim: features D; ``num_heads`` must divide it.
        exterior_layers: blocks over the planes before, rows, columns and time in turn, a multiple
            of 3.
        outer_layers, inner_layers, mlp_ratio, dropout: as in `AxialConfig`.
        published_params: parameters of the published network, where known.
    """

    frames: int = 16
    given_frames: int = 1
    image_size: int = 64
    channels: int = 3
    num_values: int = 256
    dim: int = 2048
    num_heads: int = 16
    exterior_layers: int = 9
    outer_layers: int = 8
    inner_layers: int = 8
    mlp_ratio: int = 1
    dropout: float = 0.0
    published_params: int | None = None

    def __post_init__(self):
        if not 0 <= self.given_frames < self.frames:
            raise ValueError(f"given_frames must be in [0, {self.frames}), got {self.given_frames}")
        if self.exterior_layers % len(PASS):
            raise ValueError(
                f"exterior_layers come in threes, row, column and time; got {self.exterior_layers}"
            )


PRESETS: dict[str, AxialVideoConfig] = {
    "tiny": AxialVideoConfig(
        frames=4,
        image_size=8,
        num_values=8,
        dim=48,
        num_heads=3,
        exterior_layers=3,
        outer_layers=2,
        inner_layers=2,
    ),
    "bair-64": AxialVideoConfig(),
}


class LineAttention(SelfAttention):
    """Self-attention along one axis of (B, T, H, W, D), without a mask; the others are batch."""

    def __init__(self, dim: int, num_heads: int, axis: int):
        super().__init__(dim, num_heads)
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H, W, D) -> the same shape."""
        lines = x.movedim(self.axis, -2)  # (B, two axes, length, D)
        q, k, v = self.heads(lines.flatten(0, 2))
        out = merge_heads(F.scaled_dot_product_attention(q, k, v))
        return self.proj(out).view(lines.shape).movedim(-2, self.axis)


class VideoExterior(nn.Module):
    """Planes drawn so far, of this frame and of those before -> condition for the next one."""

    def __init__(self, config: AxialVideoConfig):
        super().__init__()
        size, dim, c = config.image_size, config.dim, config.channels
        self.conv = nn.Conv2d(2 * c, dim, 3, padding=1)
        init_fan_in(self.conv)
        self.position = GridPosition(size, size, dim)
        self.time = nn.Parameter(torch.empty(config.frames, dim))
        init_embedding(self.time)
        self.blocks = nn.ModuleList(
            Block(
                LineAttention(dim, config.num_heads, PASS[i % len(PASS)]),
                dim,
                config.mlp_ratio,
                config.dropout,
            )
            for i in range(config.exterior_layers)
        )

    def forward(self, shades: Tensor, plane: Tensor) -> Tensor:
        """Encode what is known before a plane.

        Args:
            shades: all planes as floats in [0, 1], (B, T, C, H, W); those from ``plane`` on are
                hidden here.
            plane: the one to come, (B,) int64, counted frame by frame: t C + c.

        Returns:
            (B, H, W, D), of the frame that the plane is in.
        """
        frames, channels = shades.shape[1:3]
        order = torch.arange(frames * channels, device=shades.device)
        known = (order < plane[:, None]).view(-1, frames, channels, 1, 1)
        is_next = (order == plane[:, None]).view(-1, frames, channels, 1, 1).expand_as(shades)
        maps = torch.cat([shades * known, is_next.to(shades.dtype)], dim=2)  # (B, T, 2C, H, W)
        x = self.conv(maps.flatten(0, 1)).unflatten(0, maps.shape[:2]).movedim(2, -1)
        x = x + self.position() + self.time[:, None, None]  # (B, T, H, W, D)
        for block in self.blocks:
            x = block(x)
        return x[torch.arange(len(x), device=x.device), plane // channels]


class AxialVideoTransformer(nn.Module):
    """p(frames | given ones), one plane after another, one decoder for all."""

    def __init__(self, config: AxialVideoConfig):
        super().__init__()
        self.config = config
        self.exterior = VideoExterior(config)
        self.decoder = PlaneDecoder(
            config.image_size,
            config.image_size,
            config.num_values,
            config.dim,
            config.num_heads,
            outer_layers=config.outer_layers,
            inner_layers=config.inner_layers,
            mlp_ratio=config.mlp_ratio,
            dropout=config.dropout,
        )

    @property
    def planes(self) -> range:
        """The planes that cost bits: all but those of given frames."""
        c = self.config
        return range(c.given_frames * c.channels, c.frames * c.channels)

    def condition(self, pixels: Tensor, plane: Tensor) -> Tensor:
        """What the planes before ``plane``, (B,), say about it, (B, H, W, D)."""
        shades = pixels.to(self.exterior.conv.weight.dtype) / (self.config.num_values - 1)
        return self.exterior(shades, plane)

    def loss(self, batch: dict, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """Bits per dimension on one random plane of each clip: an unbiased estimate.

        Args:
            batch: ``{"pixels": (B, T, C, H, W) int64}``.
            step: training step; this loss does not depend on it.
        """
        pixels = batch["pixels"]
        self.check(pixels)
        low, high = self.planes.start, self.planes.stop
        plane = torch.randint(low, high, (len(pixels),), device=pixels.device)
        bits = self.plane_bits(pixels, plane).mean()
        return bits, {"bits": bits.detach()}

    def plane_bits(self, pixels: Tensor, plane: Tensor) -> Tensor:
        """-log2 p of the pixels of one plane of each clip, (B, H, W)."""
        flat = pixels.flatten(1, 2)  # (B, T C, H, W)
        drawn = flat[torch.arange(len(flat), device=flat.device), plane]
        logits = self.decoder(drawn, self.condition(pixels, plane))  # (B, H, W, K)
        return F.cross_entropy(logits.movedim(-1, 1), drawn, reduction="none") / LOG_2

    def bits(self, pixels: Tensor) -> Tensor:
        """-log2 p of every sub-pixel given those before it, exact.

        Args:
            pixels: (B, T, C, H, W) int64 in [0, K).

        Returns:
            (B, T - given, C, H, W) float; its mean is the bits per dimension.
        """
        self.check(pixels)
        index = torch.zeros(len(pixels), dtype=torch.int64, device=pixels.device)
        found = torch.stack([self.plane_bits(pixels, index + p) for p in self.planes], dim=1)
        return found.unflatten(1, (-1, self.config.channels))

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0, given: Tensor | None = None) -> Tensor:
        """Draw clips: exterior once a plane, outer layers once a row, inner once a pixel.

        Args:
            n: number of clips.
            temperature: factor of the Gumbel noise; 0 takes the most likely value everywhere.
            given: the first frames, (n, given_frames, C, H, W) int64; None where none are told.

        Returns:
            (n, T, C, H, W) int64 in [0, K), the given frames first.

        Raises:
            ValueError: if ``temperature`` is negative or ``given`` does not fit.
        """
        c, device = self.config, next(self.parameters()).device
        if temperature < 0:
            raise ValueError(f"temperature must be at least 0, got {temperature}")
        shape = (n, c.frames, c.channels, c.image_size, c.image_size)
        pixels = torch.zeros(shape, dtype=torch.int64, device=device)
        if c.given_frames:
            wanted = (n, c.given_frames, *shape[2:])
            if given is None or tuple(given.shape) != wanted:
                found = None if given is None else tuple(given.shape)
                raise ValueError(f"given must be the first frames, {wanted}, got {found}")
            pixels[:, : c.given_frames] = given
            self.check(pixels)
        flat = pixels.flatten(1, 2)  # a view: what is drawn stands in pixels
        unknown = torch.full_like(flat[:, 0], -1)
        for plane in self.planes:
            condition = self.condition(pixels, torch.full((n,), plane, device=device))
            noise = temperature * gumbel((*unknown.shape, c.num_values), device)  # (n, H, W, K)
            flat[:, plane] = self.decoder.draw(noise, condition, unknown)
        return pixels

    def check(self, pixels: Tensor) -> None:
        """Raise ValueError unless pixels are int64 (B, T, C, H, W) with values in [0, K)."""
        c = self.config
        shape = (c.frames, c.channels, c.image_size, c.image_size)
        if pixels.ndim != 5 or tuple(pixels.shape[1:]) != shape or pixels.dtype != torch.int64:
            found = f"{pixels.dtype} {tuple(pixels.shape)}"
            raise ValueError(f"pixels must be int64 (B, {', '.join(map(str, shape))}), got {found}")
        if pixels.is_meta or not pixels.numel():
            return
        low, high = int(pixels.min()), int(pixels.max())
        if low < 0 or high >= c.num_values:
            raise ValueError(f"pixels must lie in [0, {c.num_values}), got [{low}, {high}]")


def build(config: AxialVideoConfig) -> AxialVideoTransformer:
    """The model of a configuration, untrained."""
    return AxialVideoTransformer(config)


def example(
    config: AxialVideoConfig, batch_size: int = 1, device: str = "cpu"
) -> dict[str, Tensor]:
    """A batch that `loss` takes, so that cost can be counted on the meta device."""
    shape = (batch_size, config.frames, config.channels, config.image_size, config.image_size)
    return {"pixels": torch.randint(config.num_values, shape, device=device)}
