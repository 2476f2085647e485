"""A tokenizer without training: principal components of space-time blocks.

Questions about sampling (how to bend the grid of times, how straight the paths are) need latents
with many cells, more than a Video-VAE gives that was trained in minutes. This one divides as the
published one does in time, 17 frames to 3, the first frame by itself and eight to each other, and
by 8 in space; what it keeps of a block is its first principal components, scaled to unit variance.

Shapes: n clips, C components, h w cells; clips are (n, 17, 3, 8h, 8w), latents (n, 3, C, h, w).
"""

import torch
from torch import Tensor

SIDE = 8  # pixels of a block
FRAMES = (1, 8, 8)  # that the three latent frames stand for


class PatchComponents:
    """Principal components of the blocks of some clips; the first frame has its own.

    Args:
        video: the clips to take them from, in [-1, 1].
        channels: C.

    Raises:
        ValueError: if a clip has another length, sides do not divide, or C is too large.
    """

    def __init__(self, video: Tensor, channels: int):
        first, *rest = _blocks(video)
        self.bases = [_components(first, channels), _components(torch.cat(rest), channels)]
        self.channels = channels

    def encode(self, x: Tensor) -> Tensor:
        """Clips -> latents, each channel about of unit variance."""
        grid = x.shape[-2] // SIDE, x.shape[-1] // SIDE
        frames = []
        for blocks, (mean, basis, scale) in zip(_blocks(x), self._each(), strict=True):
            z = (blocks - mean) @ basis / scale  # (n h w, C)
            frames.append(z.unflatten(0, (len(x), *grid)).permute(0, 3, 1, 2))
        return torch.stack(frames, 1)

    def decode(self, z: Tensor) -> Tensor:
        """Latents -> clips."""
        n, _, _, h, w = z.shape
        parts = []
        for frame, count, (mean, basis, scale) in zip(
            z.unbind(1), FRAMES, self._each(), strict=True
        ):
            blocks = (frame.permute(0, 2, 3, 1) * scale) @ basis.T + mean  # (n, h, w, 3 count 64)
            blocks = blocks.unflatten(-1, (count, 3, SIDE, SIDE))
            parts.append(blocks.permute(0, 3, 4, 1, 5, 2, 6).reshape(n, count, 3, h * SIDE, -1))
        return torch.cat(parts, 1)

    def _each(self) -> tuple:
        return (self.bases[0], self.bases[1], self.bases[1])


def _blocks(video: Tensor) -> list[Tensor]:
    """Blocks of each latent frame, (n h w, 3 count SIDE SIDE) for its count of frames."""
    frames, channels, height, width = video.shape[1:]
    if frames != sum(FRAMES) or channels != 3 or height % SIDE or width % SIDE:
        raise ValueError(
            f"video must be (n, {sum(FRAMES)}, 3, H, W) with H and W multiples of {SIDE}, "
            f"got {tuple(video.shape)}"
        )
    out = []
    for part in video.split(FRAMES, dim=1):
        cells = part.unflatten(4, (-1, SIDE)).unflatten(3, (-1, SIDE))  # (n, T, 3, h, 8, w, 8)
        out.append(cells.permute(0, 3, 5, 1, 2, 4, 6).flatten(3).flatten(0, 2))
    return out


def _components(blocks: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), basis (D, C) and standard deviations (C,), the largest first."""
    if not 1 <= channels <= blocks.shape[1]:
        raise ValueError(f"channels must lie in [1, {blocks.shape[1]}], got {channels}")
    mean = blocks.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((blocks - mean).double().T))
    scale = values.flip(0)[:channels].clamp_min(1e-8).sqrt()
    return mean, vectors.flip(1)[:, :channels].float(), scale.float()
