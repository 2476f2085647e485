"""Power spectra and Haar bands: energy is accounted for, and shows up where it belongs."""

import math

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.measure import (
    band_energy,
    band_errors,
    octave_power,
    power_spectrum,
    radial_power_spectrum,
    spectrum_distance,
)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(2, 9), st.integers(2, 9))
def test_parseval(batch, channels, height, width):
    x = noise(batch, channels, height, width)
    torch.testing.assert_close(power_spectrum(x).mean(), x.square().mean())


def test_rings_hold_every_bin_once():
    x = noise(2, 3, 16, 24)
    _, power = radial_power_spectrum(x)
    fy, fx = np.meshgrid(np.fft.fftfreq(16), np.fft.fftfreq(24), indexing="ij")
    ring = np.rint(np.hypot(fy, fx) * 16).astype(int)
    counts = torch.from_numpy(np.bincount(ring.ravel()))
    assert len(power) == len(counts)
    torch.testing.assert_close((power * counts).sum() / (16 * 24), x.square().mean())


def test_white_noise_is_flat_at_its_variance():
    x = 0.5 * noise(512, 3, 32, 32)
    frequencies, power = radial_power_spectrum(x)
    assert frequencies[0] == 0 and frequencies[-1].item() == pytest.approx(math.sqrt(0.5), abs=0.02)
    # Ring 0 is one bin: 1536 samples of a chi-square, relative sd 3.6 %; the others have more.
    torch.testing.assert_close(power, torch.full_like(power, 0.25), rtol=0.15, atol=0)


@pytest.mark.parametrize("cycles", [(0, 3), (5, 0), (3, 4), (0, 16)])
def test_a_sinusoid_peaks_at_its_frequency(cycles):
    size = 32
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    wave = torch.cos(2 * math.pi * (cycles[0] * row + cycles[1] * column) / size)
    frequencies, power = radial_power_spectrum(wave[None, None])
    peak = power.argmax()
    assert frequencies[peak].item() == pytest.approx(math.hypot(*cycles) / size, abs=1e-6)
    assert power.sum() - power[peak] < 1e-6 * power[peak], "energy leaked into other rings"


def test_octaves_part_the_mean_square_and_know_a_colour_cast():
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(2, 3, 16, 24, generator=rng)
    found = octave_power(x)
    assert found.shape == (5,)
    assert float(found.sum()) == pytest.approx(float(x.square().mean()), rel=1e-5)
    cast = x.mean((2, 3)).square().mean()
    assert float(found[0]) == pytest.approx(float(cast), rel=1e-4)
    # A wave belongs to one band: 1/8 is the upper end of the third, its harmonic 1/4 of the fourth.
    columns = torch.arange(32)
    for cycles, band in ((1 / 16, 1), (1 / 8, 2), (1 / 4, 3), (1 / 2, 4)):
        wave = torch.cos(2 * math.pi * cycles * columns).expand(1, 3, 32, 32)
        power = octave_power(wave)
        assert float(power[band]) == pytest.approx(float(wave.square().mean()), rel=1e-4)


def test_spectrum_distance_counts_decades():
    x = noise(8, 3, 32, 32)
    assert spectrum_distance(x, x) == 0
    assert spectrum_distance(x, x * math.sqrt(10) + 0.7) == pytest.approx(1, abs=1e-5)


def test_spectrum_distance_of_the_upper_half_sees_only_that():
    x = noise(8, 1, 32, 32)
    spectrum = torch.fft.fft2(x)
    frequency = torch.hypot(torch.fft.fftfreq(32)[:, None], torch.fft.fftfreq(32)[None])
    bent = torch.fft.ifft2(torch.where(frequency < 0.2, 3 * spectrum, spectrum)).real
    assert spectrum_distance(x, bent, above=0.25) < 1e-5
    assert spectrum_distance(x, bent) > 0.1


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_bands_equal_pywavelets(levels):
    x = noise(2, 3, 16, 24)
    low, *details = pywt.wavedec2(x.numpy(), "haar", level=levels)
    expected = {"LL": np.square(low).mean()}
    for level, bands in zip(range(levels, 0, -1), details, strict=True):
        suffix = "" if level == 1 else str(level)
        for name, band in zip(("LH", "HL", "HH"), bands, strict=True):
            expected[name + suffix] = np.square(band).mean()
    found = band_energy(x, levels)
    assert found.pop("high") == pytest.approx(np.square(details[-1]).mean(), rel=1e-5)
    assert found == pytest.approx(expected, rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
def test_band_errors_sum_to_the_mse(channels, h, w):
    x, x_hat = noise(2, channels, 2 * h, 2 * w), noise(2, channels, 2 * h, 2 * w, seed=1)
    errors = band_errors(x, x_hat)
    mse = (x - x_hat).square().mean().item()
    assert (errors["LL"] + 3 * errors["high"]) / 4 == pytest.approx(mse, rel=1e-5)
    assert sum(errors[band] for band in ("LL", "LH", "HL", "HH")) / 4 == pytest.approx(
        mse, rel=1e-5
    )


def test_a_lost_mean_is_an_error_of_the_low_band_alone():
    x = noise(1, 3, 8, 8)
    errors = band_errors(x, x + 0.5)
    assert errors["LL"] == pytest.approx(1.0, rel=1e-5)  # the low band is twice the mean
    assert errors["high"] == pytest.approx(0, abs=1e-12)


def test_bad_input_is_refused():
    x = noise(1, 3, 12, 12)
    with pytest.raises(ValueError, match="levels must be 1 or more"):
        band_energy(x, levels=0)
    with pytest.raises(ValueError, match="even H and W"):
        band_energy(x, levels=3)
    with pytest.raises(ValueError, match="one shape"):
        band_errors(x, x[:, :1])
    with pytest.raises(ValueError, match="agree in channels and size"):
        spectrum_distance(x, x[..., :8])
    with pytest.raises(ValueError, match="above must be in"):
        spectrum_distance(x, x, above=0.8)
    with pytest.raises(ValueError, match="B, C, H, W"):
        power_spectrum(x[0])
