"""The convolutional encoder and decoder of latent diffusion (Rombach et al. 2022).

Stages of residual blocks with stride-2 convolutions between them, a middle with one attention
layer, and a mirrored decoder with nearest-neighbour upsampling. KL-VAE, VQGAN and VA-VAE use it.

Shapes: B batch, C channels, H W space; a stage's channels are ``channels * multiplier``.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """GroupNorm with the epsilon (1e-6) that published weights need."""
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResBlock(nn.Module):
    """Norm, SiLU, 3x3 convolution, twice, around a skip (1x1 where the width changes)."""

    def __init__(self, in_channels: int, out_channels: int, groups: int = 32):
        super().__init__()
        self.norm1 = group_norm(in_channels, groups)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels, groups)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.skip(x) + h


class AttentionBlock2d(nn.Module):
    """Single-head self-attention over all H*W positions, with a residual connection."""

    def __init__(self, channels: int, groups: int = 32):
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        q, k, v = self.qkv(tokens).chunk(3, dim=-1)
        # The fused kernel wants a head axis; this block has one head of all C channels.
        out = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.proj(out).transpose(1, 2).unflatten(2, x.shape[2:])


class Downsample(nn.Module):
    """3x3 convolution of stride 2, padded on the right and bottom only, as the LDM code does."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H/2, W/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a 3x3 convolution: no checkerboards."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def _middle(channels: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        ResBlock(channels, channels, groups),
        AttentionBlock2d(channels, groups),
        ResBlock(channels, channels, groups),
    )


class ConvEncoder(nn.Module):
    """Image -> grid of features, 2^(stages-1) times smaller.

    Args:
        in_channels: image channels.
        out_channels: channels of the result (2z for a Gaussian posterior, the code width for VQ).
        channels: base width.
        multipliers: width of each stage in units of ``channels``; one halving between two stages.
        num_res_blocks: residual blocks of a stage.
        attention_stages: indices of stages in which attention follows each residual block.
        groups: groups of every GroupNorm; must divide every width.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        attention_stages: Sequence[int] = (),
        groups: int = 32,
    ):
        super().__init__()
        self.factor = 2 ** (len(multipliers) - 1)
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        layers: list[nn.Module] = []
        width = channels
        for stage, multiplier in enumerate(multipliers):
            if stage > 0:
                layers.append(Downsample(width))
            for _ in range(num_res_blocks):
                layers.append(ResBlock(width, multiplier * channels, groups))
                width = multiplier * channels
                if stage in attention_stages:
                    layers.append(AttentionBlock2d(width, groups))
        self.stages = nn.Sequential(*layers)
        self.middle = _middle(width, groups)
        self.norm_out = group_norm(width, groups)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W), H and W multiples of ``factor`` -> (B, out, H/factor, W/factor)."""
        h = self.middle(self.stages(self.conv_in(x)))
        return self.conv_out(F.silu(self.norm_out(h)))


class ConvDecoder(nn.Module):
    """Grid of latents -> image: the encoder's mirror, with one more residual block a stage.

    Args: as for :class:`ConvEncoder`; ``multipliers`` in the encoder's order, ``attention_stages``
        counted as there.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        attention_stages: Sequence[int] = (),
        groups: int = 32,
    ):
        super().__init__()
        width = channels * multipliers[-1]
        self.conv_in = nn.Conv2d(in_channels, width, 3, padding=1)
        self.middle = _middle(width, groups)
        layers: list[nn.Module] = []
        for stage in reversed(range(len(multipliers))):
            for _ in range(num_res_blocks + 1):
                layers.append(ResBlock(width, multipliers[stage] * channels, groups))
                width = multipliers[stage] * channels
                if stage in attention_stages:
                    layers.append(AttentionBlock2d(width, groups))
            if stage > 0:
                layers.append(Upsample(width))
        self.stages = nn.Sequential(*layers)
        self.norm_out = group_norm(width, groups)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Latents (B, z, h, w) -> images (B, C, h * factor, w * factor), no output activation."""
        h = self.stages(self.middle(self.conv_in(z)))
        return self.conv_out(F.silu(self.norm_out(h)))
