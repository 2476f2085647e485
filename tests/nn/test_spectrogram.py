"""Mel bands against transformers' filter bank; constant-Q against a sum written out bin by bin."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank, spectrogram

from gentok.nn.spectrogram import (
    ConstantQ,
    MelSpectrogram,
    constant_q_frequencies,
    hertz_to_mel,
    log_mel,
    mel_filters,
    mel_to_hertz,
)

RATE = 8000
NOTES = ConstantQ(RATE, hop=160, low=65.41, num_bins=60, bins_per_octave=12)


def music(length: int = 4000, seed: int = 0) -> torch.Tensor:
    """Two clips of a few tones and a little noise, (2, L)."""
    rng = torch.Generator().manual_seed(seed)
    time = torch.arange(length) / RATE
    hertz = 60 + 3000 * torch.rand(2, 5, 1, generator=rng)
    tones = torch.sin(2 * math.pi * hertz * time).mean(1)
    return 0.5 * tones + 0.01 * torch.randn(2, length, generator=rng)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 20_000))
def test_mel_scale_is_inverted(hertz):
    x = torch.tensor([hertz], dtype=torch.float64)
    torch.testing.assert_close(mel_to_hertz(hertz_to_mel(x)), x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("rate", "n_fft", "mels"), [(16000, 400, 80), (8000, 512, 40)])
def test_filters_are_those_of_transformers(rate, n_fft, mels):
    theirs = mel_filter_bank(
        num_frequency_bins=n_fft // 2 + 1,
        num_mel_filters=mels,
        min_frequency=20.0,
        max_frequency=rate / 2,
        sampling_rate=rate,
        norm="slaney",
        mel_scale="slaney",
    )
    ours = mel_filters(rate, n_fft, mels, 20.0, rate / 2)
    np.testing.assert_allclose(ours.numpy(), theirs.T, atol=1e-7)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_mel_spectrogram_is_that_of_transformers(power):
    wave = music()
    ours = MelSpectrogram(RATE, n_fft=256, hop=64, num_mels=20, low=50.0, power=power)
    window = torch.hann_window(256).numpy()
    for clip, bands in zip(wave, ours(wave), strict=True):
        theirs = spectrogram(
            clip.numpy(),
            window,
            frame_length=256,
            hop_length=64,
            power=power,
            pad_mode="constant",
            mel_filters=ours.filters.numpy().T,
            mel_floor=0.0,
        )
        np.testing.assert_allclose(bands.numpy(), theirs, rtol=1e-3, atol=1e-6)


def test_log_mel_is_whispers_up_to_its_padding_and_scale():
    """Whisper: log10, a floor 8 decades below the top, (x + 4) / 4; edges there are reflected."""
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=1)
    time = torch.arange(16000) / 16000
    wave = torch.sin(2 * math.pi * 440 * time)[None]
    theirs = extractor(wave[0].numpy(), sampling_rate=16000, return_tensors="pt").input_features
    mel = MelSpectrogram(16000, n_fft=400, hop=160, num_mels=80)
    ours = log_mel(mel(wave)[..., :-1], floor=1e-10) / math.log(10)
    inner = slice(5, 95)  # the padding reaches two frames
    top = ours[..., inner].amax()
    ours = (torch.maximum(ours, top - 8) + 4) / 4
    torch.testing.assert_close(ours[..., inner], theirs[..., inner], rtol=0, atol=1e-3)


def direct_constant_q(wave, rate, hop, low, num_bins, bins_per_octave):
    """The definition, in time: for each bin and frame a sum over the samples of its tone."""
    quality = 1 / (2 ** (1 / bins_per_octave) - 1)
    frames = 1 + len(wave) // hop
    out = np.zeros((num_bins, frames))
    for k in range(num_bins):
        frequency = low * 2 ** (k / bins_per_octave)
        length = math.ceil(quality * rate / frequency)
        offset = np.arange(length) - length // 2
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        tone = window / window.sum() * np.exp(-2j * np.pi * frequency / rate * offset)
        padded = np.pad(wave, (length // 2, length))
        for t in range(frames):
            out[k, t] = abs(padded[t * hop : t * hop + length] @ tone) * math.sqrt(length)
    return out


@pytest.mark.parametrize(
    "sizes", [(RATE, 160, 65.41, 60, 12), (RATE, 100, 130.8, 50, 24), (24000, 320, 261.6, 30, 48)]
)
def test_constant_q_is_the_direct_sum(sizes):
    wave = music(3000)
    ours = ConstantQ(*sizes)(wave)
    for clip, magnitude in zip(wave, ours, strict=True):
        direct = direct_constant_q(clip.double().numpy(), *sizes)
        assert magnitude.shape == direct.shape
        np.testing.assert_allclose(magnitude.numpy(), direct, atol=1e-4 * direct.max())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 59), st.floats(0.05, 1.0))
def test_a_steady_tone_stands_in_its_own_bin(k, amplitude):
    """Amplitude a at the centre of bin k gives a sqrt(l_k) / 2 there and less elsewhere."""
    frequency = float(constant_q_frequencies(65.41, 60, 12)[k])
    wave = amplitude * torch.sin(2 * math.pi * frequency * torch.arange(8000) / RATE)[None]
    middle = NOTES(wave)[0, :, 25]  # (K,)
    length = math.ceil(RATE / frequency / (2 ** (1 / 12) - 1))
    assert float(middle[k]) == pytest.approx(amplitude * length**0.5 / 2, rel=0.03)
    relative = (
        middle / torch.tensor([RATE / f for f in constant_q_frequencies(65.41, 60, 12)]).sqrt()
    )
    assert int(relative.argmax()) == k


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12))
def test_a_transposed_tone_moves_by_as_many_bins(semitones):
    """The point of the transform: an interval is the same shift anywhere."""
    time = torch.arange(8000) / RATE

    def spectrum(hertz):
        partials = sum(torch.sin(2 * math.pi * h * hertz * time) / h for h in (1, 2, 3))
        bins = NOTES(partials[None])[0, :, 25]
        lengths = torch.tensor([RATE / f for f in constant_q_frequencies(65.41, 60, 12)])
        return bins / lengths.sqrt()  # amplitude of each tone

    low = spectrum(130.82)
    high = spectrum(130.82 * 2 ** (semitones / 12))
    torch.testing.assert_close(high[semitones:], low[:-semitones], rtol=0.1, atol=0.02)


def test_frames_are_centred_and_counted_from_sample_zero():
    wave = torch.zeros(1, 8000)
    wave[0, 1600] = 1.0  # a click at frame 10
    for transform in (NOTES, MelSpectrogram(RATE, 512, 160, 30)):
        picture = transform(wave)
        assert picture.shape[-1] == 1 + 8000 // 160
        assert int(picture.sum(1).argmax()) == 10


def test_it_is_differentiable_and_runs_without_data():
    wave = music().requires_grad_()
    (NOTES(wave).mean() + MelSpectrogram(RATE, 256, 64, 20)(wave).mean()).backward()
    assert bool(wave.grad.isfinite().all()) and float(wave.grad.abs().sum()) > 0
    with torch.device("meta"):
        transform = ConstantQ(24000, 320, 32.7, 336, 48).to("meta")
        assert transform(torch.zeros(2, 120_000)).shape == (2, 336, 376)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="bins must lie between 0 and 4000"):
        ConstantQ(RATE, 160, 65.41, 84, 12)
    with pytest.raises(ValueError, match="low < high"):
        MelSpectrogram(RATE, 256, 64, 20, low=500.0, high=100.0)
    with pytest.raises(ValueError, match=r"float \(B, L\)"):
        NOTES(torch.zeros(8000))
