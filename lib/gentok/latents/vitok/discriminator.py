"""The discriminator of ViTok's second stage: the residual network of StyleGAN, without its extras.

Karras et al. 2020 (StyleGAN2), as in ViTok's public code: no norm layer, no statistic over the
batch. It sees whole pictures and answers once for each.

Shapes: B batch, H = W pixels, a power of two from 8 on.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # of all LeakyReLUs
LAST = 4  # side of the last grid, pixels


def blur_half(x: Tensor) -> Tensor:
    """Half the side, after a blur by the outer product of (1, 3, 3, 1): (B, C, H, W) -> H/2, W/2.

    The blur takes away what the smaller grid cannot hold.
    """
    row = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device)
    kernel = torch.outer(row, row) / row.sum() ** 2  # sums to 1
    channels = x.shape[1]
    return F.conv2d(x, kernel.expand(channels, 1, 4, 4), stride=2, padding=1, groups=channels)


class HalvingBlock(nn.Module):
    """Convolution, blur to half the side, convolution; and a way around; over sqrt 2."""

    def __init__(self, channels: int, wider: int):
        super().__init__()
        self.first = nn.Conv2d(channels, wider, 3, padding=1)
        self.second = nn.Conv2d(wider, wider, 3, padding=1)
        self.around = nn.Conv2d(channels, wider, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H/2, W/2)."""
        y = blur_half(F.leaky_relu(self.first(x), SLOPE))
        y = F.leaky_relu(self.second(y), SLOPE)
        return (y + self.around(blur_half(x))) / math.sqrt(2)  # keeps the variance


class StyleDiscriminator(nn.Module):
    """Pictures -> one logit each; positive means real.

    Args:
        size: H = W.
        largest: channels of the coarse grids; those of a grid of side s are
            min(largest, largest * 32 / s), as published with 512.

    Raises:
        ValueError: if ``size`` is no power of two from 8 on, or ``largest`` too small for it.
    """

    def __init__(self, size: int, largest: int = 512):
        super().__init__()
        if size < 2 * LAST or size & (size - 1):
            raise ValueError(f"size must be a power of two from {2 * LAST} on, got {size}")
        if largest * 32 // size < 1:
            raise ValueError(f"largest must be at least {size // 32} at {size} pixels")
        sides = [size >> i for i in range(int(math.log2(size // LAST)) + 1)]  # size, ..., 4
        widths = [min(largest, largest * 32 // side) for side in sides]
        self.size = size
        self.first = nn.Conv2d(3, widths[0], 3, padding=1)
        pairs = zip(widths, widths[1:], strict=False)
        self.blocks = nn.Sequential(*(HalvingBlock(*pair) for pair in pairs))
        self.last = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.hidden = nn.Linear(widths[-1] * LAST**2, widths[-1])
        self.judge = nn.Linear(widths[-1], 1)
        self.apply(_init)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B,).

        Raises:
            ValueError: if the pictures have another size.
        """
        if x.shape[1:] != (3, self.size, self.size):
            raise ValueError(f"x must be (B, 3, {self.size}, {self.size}), got {tuple(x.shape)}")
        x = self.blocks(F.leaky_relu(self.first(x), SLOPE))  # (B, C, 4, 4)
        x = F.leaky_relu(self.last(x), SLOPE)
        return self.judge(F.leaky_relu(self.hidden(x.flatten(1)), SLOPE))[:, 0]


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
