"""The best linear tokenizer of patches: what a cell of the sweep over E has to beat.

Each p x p patch is written as c coordinates in the directions along which patches vary most. It has
the same L, c and E as a ViTok of that patch and code, needs no training beyond one decomposition,
and no token knows of any other.

Shapes: N images, P = 3 p^2 values of a patch, L patches an image, c components.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchPCA(nn.Module):
    """Principal components of patches.

    Args:
        images: to learn from, (N, 3, H, W) in [-1, 1].
        patch_size: p; ``channels``: c, at most P.

    Raises:
        ValueError: if there are more components than values.
    """

    def __init__(self, images: Tensor, patch_size: int, channels: int):
        super().__init__()
        if not 1 <= channels <= 3 * patch_size**2:
            raise ValueError(f"channels must lie in [1, {3 * patch_size**2}], got {channels}")
        self.patch_size = patch_size
        rows = self._patches(images).flatten(0, 1).double()  # (N L, P)
        mean = rows.mean(0)
        values = torch.linalg.eigh(torch.cov(rows.T))  # rising
        self.register_buffer("mean", mean.float())
        self.register_buffer("axes", values.eigenvectors[:, -channels:].float())  # (P, c)

    def _patches(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, L, P)."""
        return F.unfold(x, self.patch_size, stride=self.patch_size).transpose(1, 2)

    def encode(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> codes (N, c, h, w)."""
        grid = (x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size)
        z = (self._patches(x) - self.mean) @ self.axes  # (N, L, c)
        return z.transpose(1, 2).unflatten(2, grid)

    def decode(self, z: Tensor) -> Tensor:
        """Codes (N, c, h, w) -> images (N, 3, H, W)."""
        rows = z.flatten(2).transpose(1, 2) @ self.axes.T + self.mean  # (N, L, P)
        size = (z.shape[-2] * self.patch_size, z.shape[-1] * self.patch_size)
        return F.fold(rows.transpose(1, 2), size, self.patch_size, stride=self.patch_size)
