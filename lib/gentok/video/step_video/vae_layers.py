"""Layers of the Video-VAE of Step-Video: residual blocks, attention, resampling, the two paths.

Ma et al. 2025 (arXiv:2502.10248); orders and paddings follow the released inference code.

Shapes: B batch, C channels, T frames, H W pixels; channels come before time. ``per_frame`` says
whose statistics the group norms take, see `gentok.nn.conv3d.VideoGroupNorm`.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from gentok.nn.conv3d import (
    CausalConv3d,
    VideoGroupNorm,
    average_channels,
    pixel_shuffle_3d,
    pixel_unshuffle_3d,
    repeat_channels,
)


class ResBlock3d(nn.Module):
    """Norm, SiLU, causal 3x3x3 convolution, twice, around a skip (1x1x1 if the width changes)."""

    def __init__(self, in_channels: int, out_channels: int, groups: int, per_frame: bool):
        super().__init__()
        self.norm1 = VideoGroupNorm(in_channels, groups, per_frame)
        self.conv1 = CausalConv3d(in_channels, out_channels)
        self.norm2 = VideoGroupNorm(out_channels, groups, per_frame)
        self.conv2 = CausalConv3d(out_channels, out_channels)
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else CausalConv3d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T, H, W) -> (B, C_out, T, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class CausalAttention3d(nn.Module):
    """One head over all T*H*W positions, each seeing those before it in raster order.

    The order is frame, row, column, so that nothing flows backwards in time; inside a frame later
    pixels do not reach earlier ones either, as the released code has it.
    """

    def __init__(self, channels: int, groups: int, per_frame: bool):
        super().__init__()
        self.norm = VideoGroupNorm(channels, groups, per_frame)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> the same shape."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, T*H*W, C)
        q, k, v = (part[:, None] for part in self.qkv(tokens).chunk(3, dim=-1))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)[:, 0]
        return x + self.proj(out).transpose(1, 2).unflatten(2, x.shape[2:])


class FrameDownsample(nn.Module):
    """Halve each frame: 3x3 convolution of stride 2, padded at the bottom and right only."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H/2, W/2)."""
        frames = F.pad(x, (0, 1, 0, 1)).transpose(1, 2)
        return self.conv(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).transpose(1, 2)


class FrameUpsample(nn.Module):
    """Double each frame: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, 2H, 2W)."""
        frames = x.transpose(1, 2)
        big = F.interpolate(frames.flatten(0, 1), scale_factor=2.0)
        return self.conv(big).unflatten(0, frames.shape[:2]).transpose(1, 2)


class VideoUpsample(nn.Module):
    """Double time and space by nearest neighbour, then a residual block with norms *after*."""

    def __init__(self, channels: int, groups: int, per_frame: bool):
        super().__init__()
        self.conv1 = CausalConv3d(channels, channels)
        self.norm1 = VideoGroupNorm(channels, groups, per_frame)
        self.conv2 = CausalConv3d(channels, channels)
        self.norm2 = VideoGroupNorm(channels, groups, per_frame)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, 2T, 2H, 2W)."""
        x = F.interpolate(x, scale_factor=2.0)
        h = F.silu(self.norm1(self.conv1(x)))
        h = self.norm2(self.conv2(h))
        return F.silu(h + x) + x  # the input is added inside and outside of the activation


class Patchify(nn.Module):
    """Two paths from (C, t, h, w) to (C', (t+1)/2, h/2, w/2): convolution, and averaging.

    h_conv = unshuffle(conv(x)),  h_avg[c] = mean of g neighbouring channels of unshuffle(x); their
    sum. The eight phases of one source channel are neighbours, so that h_avg keeps a blurred copy
    of every channel from the first step of training on.
    """

    def __init__(self, in_channels: int, out_channels: int, shortcut: bool):
        super().__init__()
        self.conv = CausalConv3d(in_channels, out_channels // 8)
        self.out_channels, self.shortcut = out_channels, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, t, h, w), t odd -> (B, C', (t+1)/2, h/2, w/2)."""
        out = pixel_unshuffle_3d(self.conv(x), 2)
        if self.shortcut:
            out = out + average_channels(pixel_unshuffle_3d(x, 2), self.out_channels)
        return out


class Unpatchify(nn.Module):
    """Two paths back: convolution, and repeated channels, both shuffled into space and time."""

    def __init__(self, in_channels: int, out_channels: int, shortcut: bool):
        super().__init__()
        self.conv = CausalConv3d(in_channels, 8 * out_channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C', t, h, w) -> (B, C, 2t - 1, 2h, 2w)."""
        out = self.conv(x)  # (B, 8C, t, h, w)
        if self.shortcut:
            out = out + repeat_channels(x, out.shape[1])
        return pixel_shuffle_3d(out, 2)


def middle(channels: int, groups: int, per_frame: bool) -> nn.Sequential:
    """Residual block, attention, residual block."""
    return nn.Sequential(
        ResBlock3d(channels, channels, groups, per_frame),
        CausalAttention3d(channels, groups, per_frame),
        ResBlock3d(channels, channels, groups, per_frame),
    )
