"""Sound from magnitudes alone: phases that overlapping frames agree on (Griffin and Lim 1984), with
the momentum of Perraudin, Balazs and Søndergaard 2013.

Shapes: B batch, F = window / 2 + 1 frequencies, T frames, L samples. Frame t is centred on sample
t * hop, so L = (T - 1) * hop.
"""

import torch
from torch import Tensor


def griffin_lim(
    magnitude: Tensor, hop: int, num_steps: int = 32, momentum: float = 0.99, seed: int = 0
) -> Tensor:
    """Find a waveform whose short-time Fourier transform has nearly these magnitudes.

    Frames overlap, so most sets of magnitudes and phases belong to no sound. Each step goes to the
    sound that comes closest and back, and keeps its phases. Without momentum the distance never
    grows; with it, it is several times smaller in the end. The first phases are random, and always
    the same.

    Args:
        magnitude: of a Hann window's transform, not normalised, (B, F, T), at least 0.
        hop: samples between frames, at most half the window.
        num_steps: how often to go there and back, at least 1.
        momentum: how much of a step's change is added once more, from 0 up to 1.
        seed: of the first phases.

    Returns:
        (B, L).

    Raises:
        ValueError: if ``magnitude`` has another shape, or the frames overlap by less than half.
    """
    if magnitude.ndim != 3 or magnitude.shape[2] < 2:
        raise ValueError(f"magnitude must be (B, F, T) with T > 1, got {tuple(magnitude.shape)}")
    size = 2 * (magnitude.shape[1] - 1)
    if not 1 <= hop <= size // 2 or num_steps < 1 or not 0 <= momentum <= 1:
        raise ValueError(
            f"need 1 <= hop <= {size // 2}, num_steps >= 1 and 0 <= momentum <= 1, got {hop}, "
            f"{num_steps} and {momentum}"
        )
    window = torch.hann_window(size, device=magnitude.device)
    rng = torch.Generator().manual_seed(seed)
    angle = 2 * torch.pi * torch.rand(magnitude.shape[1:], generator=rng)  # (F, T), for all clips
    spectrum = torch.polar(magnitude, angle.to(magnitude.device).expand_as(magnitude))
    before = None
    for _ in range(num_steps):
        wave = torch.istft(spectrum, size, hop, window=window)  # the closest sound
        found = torch.stft(wave, size, hop, window=window, return_complex=True)
        ahead = found if before is None else found + momentum * (found - before)
        spectrum, before = magnitude * ahead / ahead.abs().clamp_min(1e-8), found
    return torch.istft(spectrum, size, hop, window=window)
