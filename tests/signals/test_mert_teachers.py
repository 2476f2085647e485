"""The book's own teachers: a spectral codec, and K-means on MFCCs; and what weighs how much."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.signal import stft
from sklearn.metrics import pairwise_distances_argmin

from gentok.nn.spectrogram import ConstantQ, MelSpectrogram
from gentok.signals.mert import kmeans_teacher, spectral_codec
from gentok.signals.mert.judging import spectral_errors
from gentok.signals.mert.model import CQT_BALANCE, PRESETS
from gentok.signals.mert.tunes import MELODY_AND_BASS, compose, tunes

SMALL = replace(
    spectral_codec.SpectralCodecConfig(), window=512, channels=16, dim=8, codebook_size=16, warmup=5
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return spectral_codec.build(SMALL).eval()


@pytest.fixture(scope="module")
def waves():
    return tunes(24, 3, 6000, 8000)[1]


# --- spectral codec -------------------------------------------------------------------------------


def test_picture_is_scipy_s_spectrum_in_amplitudes(model, waves):
    wave = waves[:2]
    _, _, theirs = stft(
        np.pad(wave.numpy(), ((0, 0), (256, 256)), mode="reflect"),
        window="hann",
        nperseg=512,
        noverlap=512 - 160,
        boundary=None,
        padded=False,
    )  # scaled so that a sine of amplitude a gives a / 2
    expected = np.log10(1 + 2 * np.abs(theirs) / SMALL.floor)
    torch.testing.assert_close(
        model.picture(wave), torch.from_numpy(expected).float(), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("length", [6000, 6080, 6079])
def test_frames_and_samples_are_counted_exactly(model, length):
    frames = 1 + length // 160
    codes = model.encode(torch.randn(2, length))
    assert codes.shape == (2, frames, 4) and codes.dtype == torch.int64
    assert model.decode(codes).shape == (2, 160 * (frames - 1))


def test_amplitudes_undo_the_picture(model):
    """Decoded pictures p mean amplitudes floor * (10^p - 1), and never less than none."""
    z = torch.randn(2, 9, 8)
    picture = model.decoder(z.mT).clamp_min(0)
    amplitude = model.amplitudes(z)
    torch.testing.assert_close(torch.log10(1 + amplitude / SMALL.floor), picture)
    assert float(amplitude.detach().min()) == 0


def test_decoding_sums_the_levels_and_leaves_out_what_is_marked(model, waves):
    codes = model.encode(waves[:2])
    tables = [level.codebook for level in model.quantizer.levels]
    for number in (1, 3):
        kept = spectral_codec.kept_levels(codes, number)
        assert bool((kept[..., number:] == -1).all()) and torch.equal(
            kept[..., :number], codes[..., :number]
        )
        z = sum(table[codes[..., q]] for q, table in enumerate(tables[:number]))
        torch.testing.assert_close(model.quantizer.lookup(kept), z)
    assert int(codes.min()) >= 0, "the codes themselves are left alone"


def test_encoding_moves_nothing_even_in_training(model, waves):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train().encode(waves)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_loss_trains_both_halves_and_moves_the_codebooks(model, waves):
    before = model.quantizer.levels[0].codebook.clone()
    _, parts = model.train().loss({"wave": waves}, step=4)
    assert torch.equal(model.quantizer.levels[0].codebook, before), "not in the first steps"
    assert float(parts["commitment"]) == 0
    total, parts = model.loss({"wave": waves}, step=5)
    total.backward()
    for name, parameter in model.named_parameters():
        if "quantizer" not in name:
            assert float(parameter.grad.abs().max()) > 0, name
    assert not torch.equal(model.quantizer.levels[0].codebook, before)
    torch.testing.assert_close(total.detach(), parts["error"] + parts["commitment"])


def test_error_of_the_best_constant_is_one(model, waves):
    picture = model.picture(waves)
    for layer in model.decoder:
        if isinstance(layer, torch.nn.Conv1d):
            torch.nn.init.zeros_(layer.weight)
    torch.nn.init.constant_(model.decoder[-1].bias, float(picture.mean()))
    error = model.loss({"wave": waves}, step=0)[1]["error"]
    assert float(error) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.slow
def test_more_codes_make_a_trained_codec_s_sound_clearer(waves):
    torch.manual_seed(0)
    network = spectral_codec.build(replace(SMALL, channels=32)).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for step in range(200):
        total, _ = network.loss({"wave": waves[:12]}, step)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    constant_q = ConstantQ(8000, 160, 130.8, 40, 12)
    errors = spectral_errors(network.eval(), waves, constant_q).sum(1)
    assert errors.shape == (4,) and errors[1] < errors[0] < 0.6, errors.tolist()
    assert float(errors[-1]) < 0.8 * float(errors[0]), errors.tolist()


def test_bad_input_is_refused(model):
    with pytest.raises(ValueError, match=r"float \(B, L\)"):
        model.encode(torch.zeros(4000))
    with pytest.raises(ValueError, match="more than 256 samples"):
        model.encode(torch.zeros(1, 100))


# --- K-means on MFCCs -----------------------------------------------------------------------------


def test_mfcc_is_the_cosine_sum_over_log_mel_bands(waves):
    """c_k = s_k sum_m log E_m cos(pi k (m + 1/2) / M), s_0 = sqrt(1/M), else sqrt(2/M)."""
    wave, bands = waves[:2], kmeans_teacher.BANDS
    energy = MelSpectrogram(8000, 512, 160, bands)(wave).clamp_min(kmeans_teacher.FLOOR)
    k, m = torch.arange(13)[:, None], torch.arange(bands)
    basis = torch.cos(math.pi * k * (m + 0.5) / bands) * (2 / bands) ** 0.5
    basis[0] = (1 / bands) ** 0.5
    expected = (basis @ energy.log()).mT
    found = kmeans_teacher.mfcc(wave, 8000, 160)
    assert found.shape == (2, 38, 39) and found.dtype == torch.float32
    torch.testing.assert_close(found[..., :13], expected, rtol=1e-4, atol=1e-3)


def test_differences_are_slopes():
    time = torch.arange(12.0)
    x = torch.stack([3 * time + 1, torch.full((12,), 5.0)], -1)[None]
    slope = kmeans_teacher.differences(x)
    torch.testing.assert_close(slope[0, 2:-2, 0], torch.full((8,), 3.0))
    torch.testing.assert_close(slope[0, :, 1], torch.zeros(12))
    # numpy's straight line through five points has the same slope
    y = torch.randn(1, 9, 1, generator=torch.Generator().manual_seed(0))
    line = np.polyfit(np.arange(5), y[0, 2:7, 0].numpy(), 1)
    assert float(kmeans_teacher.differences(y)[0, 4, 0]) == pytest.approx(line[0], abs=1e-5)


def test_clusters_are_the_nearest_centres(waves):
    teacher = kmeans_teacher.KMeansTeacher(waves, 8000, 160, num_clusters=20)
    codes = teacher.encode(waves[:3])
    assert codes.shape == (3, 38, 1) and codes.dtype == torch.int64
    frames = kmeans_teacher.mfcc(waves[:3], 8000, 160).flatten(0, 1)
    scaled = ((frames - teacher.mean) / teacher.scale).numpy()
    nearest = pairwise_distances_argmin(scaled, teacher.clusters.cluster_centers_)
    assert np.array_equal(codes.flatten().numpy(), nearest)
    again = kmeans_teacher.KMeansTeacher(waves, 8000, 160, num_clusters=20)
    assert torch.equal(again.encode(waves[:3]), codes)
    assert len(codes.unique()) > 5
    with pytest.raises(ValueError, match="at least 5000 frames"):
        kmeans_teacher.KMeansTeacher(waves, 8000, 160, num_clusters=5000)


# --- what they weigh ------------------------------------------------------------------------------


def mean_square(rate: int, hop: int, low: float, bins: int, octave: int) -> float:
    """Of the constant-Q teacher's magnitudes, of the same music at any rate."""
    waves = compose(16, 0, round(1.5 * rate), rate, MELODY_AND_BASS)[1]
    return float(ConstantQ(rate, hop, low, bins, octave)(waves).square().mean())


def test_the_constant_q_weight_restores_the_published_balance():
    """The one teacher's squares over the other's nats: what drawing and knowing nothing lose."""
    published, ours = PRESETS["mert-95m"], PRESETS["study"]
    theirs = mean_square(24_000, 320, 32.7, 336, 48) * published.cqt_weight
    theirs /= published.num_codebooks * math.log(published.num_classes)
    here = mean_square(8000, 160, 65.41, 60, 12)
    here /= ours.num_codebooks * math.log(ours.num_classes)
    assert pytest.approx(theirs / here, rel=0.05) == CQT_BALANCE
    assert {PRESETS[n].cqt_weight for n in ("tiny", "study", "deep", "world")} == {CQT_BALANCE}
