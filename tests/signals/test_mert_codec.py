"""The acoustic teachers: our small codec, and EnCodec through transformers."""

from dataclasses import replace

import pytest
import torch
from transformers import EncodecConfig, EncodecModel

from gentok.signals.mert import codec

SMALL = replace(codec.PRESETS["tiny"], channels=4, dim=8, codebook_size=16, warmup=10)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return codec.build(SMALL).eval()


def tones(n: int = 4, length: int = 4000) -> torch.Tensor:
    torch.manual_seed(1)
    time = torch.arange(length) / 8000
    return 0.5 * torch.sin(2 * torch.pi * (100 + 600 * torch.rand(n, 1)) * time)


@pytest.mark.parametrize("length", [4000, 4001, 3999, 160])
def test_frames_and_samples_are_counted_exactly(model, length):
    frames = -(-length // 160)
    codes = model.encode(tones(2, length))
    assert codes.shape == (2, frames, 4) and codes.dtype == torch.int64
    assert model.decode(codes).shape == (2, 160 * frames)


def test_a_frame_sees_its_own_place(model):
    """No drift between codes and sound: a change of 160 samples moves nearby latents only."""
    wave = tones(1, 8000)
    changed = wave.clone()
    changed[:, 25 * 160 : 26 * 160] += 0.3
    difference = (model.latents(changed) - model.latents(wave)).abs().sum(-1)[0]
    touched = (difference > 1e-5).nonzero().flatten()
    codes = model.encode(wave)
    other = codes.clone()
    other[:, 25] = (codes[:, 25] + 1) % 16
    heard = (model.decode(other) - model.decode(codes)).abs()[0].view(-1, 160).sum(-1)
    for near in (touched, (heard > 1e-5).nonzero().flatten()):
        first, last = int(near.min()), int(near.max())
        assert last - first <= 12 and abs((first + last) / 2 - 25) <= 1


def test_decoding_sums_the_levels(model):
    codes = model.encode(tones())
    tables = [level.codebook for level in model.quantizer.levels]
    z = sum(table[codes[..., q]] for q, table in enumerate(tables))
    torch.testing.assert_close(model.decode(codes), model.synthesise(z))
    first = codes.clone()
    first[..., 1:] = -1
    torch.testing.assert_close(model.decode(first), model.synthesise(tables[0][codes[..., 0]]))


def test_encoding_moves_no_codebook_even_in_training(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    codes = model.train().encode(tones())
    assert model.training and int(codes.min()) >= 0
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_loss_trains_both_halves_and_moves_the_codebooks(model):
    before = model.quantizer.levels[0].codebook.clone()
    _, parts = model.train().loss({"wave": tones()}, step=9)
    assert torch.equal(model.quantizer.levels[0].codebook, before), "not in the first steps"
    assert float(parts["commitment"]) == 0
    total, parts = model.loss({"wave": tones()}, step=10)
    total.backward()
    for name, parameter in model.named_parameters():
        if "quantizer" not in name:
            assert float(parameter.grad.abs().max()) > 0, name
    assert not torch.equal(model.quantizer.levels[0].codebook, before)
    expected = 0.1 * parts["wave"] + parts["mel"] + parts["commitment"]
    torch.testing.assert_close(total.detach(), expected)
    perfect = model._mel_error(model.mels[0], tones(), tones())
    assert float(perfect) == 0


@pytest.mark.slow
def test_one_batch_is_learned():
    torch.manual_seed(0)
    network = codec.build(SMALL)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    mels = []
    for step in range(120):
        total, parts = network.loss({"wave": tones()}, step)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        mels.append(float(parts["mel"]))
    assert sum(mels[-10:]) < 0.5 * sum(mels[:10])


def test_bad_input_is_refused(model):
    with pytest.raises(ValueError, match=r"float \(B, L\)"):
        model.encode(torch.zeros(4000))


def tiny_encodec(folder) -> EncodecModel:
    torch.manual_seed(0)
    config = EncodecConfig(
        sampling_rate=24_000,
        target_bandwidths=[1.5, 6.0],
        num_filters=4,
        hidden_size=16,
        codebook_dim=16,
        num_lstm_layers=1,
        codebook_size=1024,
    )
    model = EncodecModel(config)
    for layer in model.quantizer.layers:  # a fresh codebook is all zero: every code alike
        layer.codebook.embed.normal_()
    model.save_pretrained(folder)
    return model.eval()


def test_published_teacher_is_read_from_a_folder(tmp_path):
    """EnCodec at 6 kbit/s: 75 frames a second, 8 codes of 1,024; codes as its own code gives."""
    theirs = tiny_encodec(tmp_path)
    teacher = codec.EnCodecTeacher(tmp_path)
    wave = 0.3 * torch.randn(2, 12_000)
    codes = teacher.encode(wave)
    assert codes.shape == (2, 38, 8) and int(codes.max()) < 1024
    with torch.no_grad():
        z = theirs.encoder(wave[:, None])
        expected = theirs.quantizer.encode(z, bandwidth=6.0)  # (Q, B, T)
    assert torch.equal(codes, expected.permute(1, 2, 0))
    with pytest.raises(ValueError, match="bandwidth must be one of"):
        codec.EnCodecTeacher(tmp_path, bandwidth=7.0)


def test_a_missing_teacher_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no EnCodec at"):
        codec.EnCodecTeacher(tmp_path / "absent")
