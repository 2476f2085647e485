"""Three-dimensional convolution for video that never looks ahead in time.

Causal convolution with zeros in front (as in CogVideoX, Wan and Step-Video), group normalisation
of single frames, and the shuffles between pixels and channels in space and time. Shuffles come
from Shi et al. 2016; in time, one frame stands alone in front, so that a picture is a video of
one frame and 8 k + 1 frames halve evenly: 17 -> 9 -> 5 -> 3.

Shapes: B batch, C channels, T frames, H W pixels, f factor of a shuffle.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalConv3d(nn.Module):
    """3-D convolution: an output frame sees its own and earlier input frames only.

    Time is padded by k_t - 1 zero frames in front and none behind; space by k // 2 on every side.
    Put a norm and an activation *before* this layer, never between padding and convolution: the
    zeros must stay zeros.

    Args:
        in_channels, out_channels: C before and after.
        kernel_size: one odd number, or (time, height, width); heights and widths must be odd.
        stride: one number, or (time, height, width).

    Raises:
        ValueError: if a height or width of the kernel is even.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
    ):
        super().__init__()
        kernel = (kernel_size,) * 3 if isinstance(kernel_size, int) else tuple(kernel_size)
        if kernel[1] % 2 == 0 or kernel[2] % 2 == 0:
            raise ValueError(f"kernel_size must be odd in space, got {kernel}")
        self.front = kernel[0] - 1
        padding = (0, kernel[1] // 2, kernel[2] // 2)
        conv = nn.Conv3d(in_channels, out_channels, kernel, stride=stride, padding=padding)
        # Channels last in memory: up to three times as fast on a CPU, the same numbers.
        self.conv = conv.to(memory_format=torch.channels_last_3d)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T, H, W) -> (B, C_out, T', H', W'), T' = ceil(T / stride)."""
        if self.front:
            # Half the cost of F.pad, which fills the whole clip with zeros before it copies.
            empty = torch.zeros_like(x[:, :, :1])
            x = torch.cat([empty] * self.front + [x], dim=2)
        return self.conv(x)


class VideoGroupNorm(nn.GroupNorm):
    """GroupNorm whose statistics are those of one frame, or of the whole clip.

    With ``per_frame`` a frame's output depends on nothing outside it, so that no information flows
    backwards in time and a clip's length does not matter. Without it, this is nn.GroupNorm.

    Args:
        channels: C.
        groups: must divide C.
        per_frame: take statistics over (C / groups, H, W) instead of (C / groups, T, H, W).
    """

    def __init__(self, channels: int, groups: int, per_frame: bool = True, eps: float = 1e-5):
        super().__init__(groups, channels, eps=eps)
        self.per_frame = per_frame

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> the same shape."""
        if not self.per_frame:
            return super().forward(x)
        frames = x.transpose(1, 2)  # (B, T, C, H, W)
        normed = super().forward(frames.flatten(0, 1))
        return normed.unflatten(0, frames.shape[:2]).transpose(1, 2)


def pixel_unshuffle_3d(x: Tensor, factor: int) -> Tensor:
    """Move blocks of f x f x f values into channels, after f - 1 zero frames were put in front.

    Args:
        x: (B, C, T, H, W), with T + f - 1, H and W multiples of f.
        factor: f; 1 changes nothing.

    Returns:
        (B, C f^3, (T + f - 1) / f, H / f, W / f). The f^3 phases of one source channel are
        neighbours: channel c f^3 + (a f + b) f + d holds frame a, row b, column d of the block.

    Raises:
        ValueError: if the sizes do not divide.
    """
    if factor == 1:
        return x
    t, h, w = x.shape[2:]
    if (t - 1) % factor or h % factor or w % factor:
        raise ValueError(
            f"factor {factor} needs T = 1 + a multiple of it, and H, W multiples; got {t, h, w}"
        )
    x = F.pad(x, (0, 0, 0, 0, factor - 1, 0))
    x = x.unflatten(4, (-1, factor)).unflatten(3, (-1, factor)).unflatten(2, (-1, factor))
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)  # (B, C, f, f, f, T', H', W')


def pixel_shuffle_3d(x: Tensor, factor: int) -> Tensor:
    """Undo :func:`pixel_unshuffle_3d`: channels to blocks, the first f - 1 frames dropped.

    Args:
        x: (B, C f^3, T, H, W).

    Returns:
        (B, C, f T - f + 1, f H, f W).

    Raises:
        ValueError: if the channels are no multiple of f^3.
    """
    if factor == 1:
        return x
    if x.shape[1] % factor**3:
        raise ValueError(f"channels must be a multiple of {factor**3}, got {x.shape[1]}")
    x = x.unflatten(1, (-1, factor, factor, factor))  # (B, C, f, f, f, T, H, W)
    x = x.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)
    return x[:, :, factor - 1 :]


def average_channels(x: Tensor, channels: int) -> Tensor:
    """Means of neighbouring channels: (B, C, ...) -> (B, channels, ...); ``channels`` divides C."""
    if x.shape[1] % channels:
        raise ValueError(f"channels must divide {x.shape[1]}, got {channels}")
    return x.unflatten(1, (channels, -1)).mean(2)


def repeat_channels(x: Tensor, channels: int) -> Tensor:
    """Each channel several times in a row: (B, C, ...) -> (B, channels, ...), a multiple of C."""
    if channels % x.shape[1]:
        raise ValueError(f"channels must be a multiple of {x.shape[1]}, got {channels}")
    return x.repeat_interleave(channels // x.shape[1], dim=1)
