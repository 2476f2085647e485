"""Phases from magnitudes: the distance never grows, and a tone comes back as a tone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.data import render_music, sample_music
from gentok.nn.griffin_lim import griffin_lim

SIZE, HOP = 256, 64


def magnitude(wave: torch.Tensor) -> torch.Tensor:
    window = torch.hann_window(SIZE, device=wave.device, dtype=wave.dtype)
    return torch.stft(wave, SIZE, HOP, window=window, return_complex=True).abs()


def distance(target: torch.Tensor, num_steps: int, momentum: float) -> float:
    """|STFT of the answer - target| in the norm that the method makes smaller."""
    return float((magnitude(griffin_lim(target, HOP, num_steps, momentum)) - target).norm())


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_more_steps_come_no_further_away(seed):
    """Griffin and Lim 1984, III: each step lowers the distance or leaves it."""
    rng = torch.Generator().manual_seed(seed)
    target = torch.rand(1, SIZE // 2 + 1, 20, generator=rng)  # of no sound at all
    found = [distance(target, n, 0.0) for n in (1, 3, 10, 30)]
    assert all(later <= earlier * 1.001 for earlier, later in zip(found, found[1:], strict=False))
    assert found[-1] < found[0]


def test_momentum_comes_closer_to_real_sounds():
    """Perraudin et al. 2013, IV: the same number of steps, a smaller distance."""
    waves = render_music(sample_music(3, seed=0), 1.2, 8000)
    window = torch.hann_window(1024)
    target = torch.stft(waves, 1024, 160, window=window, return_complex=True).abs()
    found = []
    for momentum in (0.0, 0.99):
        heard = griffin_lim(target, 160, 40, momentum)
        again = torch.stft(heard, 1024, 160, window=window, return_complex=True).abs()
        found.append(float((again - target).norm()))
    assert found[1] < 0.7 * found[0]


def test_a_tone_comes_back_at_its_pitch_and_loudness():
    time = torch.arange(40 * HOP) / 8000
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 * time)[None]
    heard = griffin_lim(magnitude(tone), HOP, 100)
    assert heard.shape == tone.shape
    inner = slice(SIZE, -SIZE)
    spectrum = torch.fft.rfft(heard[0, inner] * torch.hann_window(heard[0, inner].numel())).abs()
    hertz = torch.fft.rfftfreq(heard[0, inner].numel(), 1 / 8000)
    assert float(hertz[spectrum.argmax()]) == pytest.approx(1000, abs=5)
    error = (magnitude(heard) - magnitude(tone))[..., 4:-4].norm() / magnitude(tone).norm()
    assert float(error) < 0.1
    assert float(heard[0, inner].square().mean()) == pytest.approx(0.125, rel=0.1)


def test_silence_stays_silent_and_the_same_call_gives_the_same_sound():
    assert float(griffin_lim(torch.zeros(2, SIZE // 2 + 1, 8), HOP).abs().max()) == 0
    target = torch.rand(1, SIZE // 2 + 1, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(griffin_lim(target, HOP, 3), griffin_lim(target, HOP, 3))
    assert not torch.equal(griffin_lim(target, HOP, 3), griffin_lim(target, HOP, 3, seed=1))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"must be \(B, F, T\)"):
        griffin_lim(torch.ones(129, 8), HOP)
    with pytest.raises(ValueError, match="1 <= hop <= 128"):
        griffin_lim(torch.ones(1, 129, 8), 200)
