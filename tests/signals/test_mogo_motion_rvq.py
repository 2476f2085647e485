"""The motion tokenizer: published sizes, scale of features, loss, and decoding as a stream."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from gentok.data.motion_features import feature_scale, feature_slices
from gentok.measure import count_flops, count_parameters
from gentok.signals.mogo import motion_rvq
from gentok.signals.mogo.motion_rvq import PRESETS, build, example

TINY = replace(PRESETS["tiny"], feature_dim=35, width=16, code_dim=8, codebook_size=16)


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = build(TINY)
    network.mean.normal_()
    network.spread.uniform_(0.5, 1.5)
    network.quantizer(torch.randn(4, 40, 8))  # starts the codebooks
    return network.eval()


ENCODERS = {
    "momask": (9_587_200, 9_849_607),
    "mogo-512": (5_127_168, 5_913_863),
    "mogo-1024": (19_691_520, 22_837_511),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_published_parameter_counts(name):
    with torch.device("meta"):
        network = build(PRESETS[name])
    halves = count_parameters(network.encoder), count_parameters(network.decoder)
    assert halves == ENCODERS[name]
    assert count_parameters(network, trainable=True) == sum(halves)
    assert sum(halves) == PRESETS[name].published_params


@pytest.mark.parametrize(("stages", "stride"), [(1, 1), (2, 2), (1, 2)])
def test_shapes(stages, stride):
    network = build(replace(TINY, stages=stages, stride=stride)).eval()
    codes = network.encode(torch.randn(2, 24, 35))
    assert codes.shape == (2, 24 // stride**stages, 4) and codes.dtype == torch.int64
    assert network.decode(codes).shape == (2, 24, 35)


def test_statistics_are_those_of_the_features():
    network, x = build(PRESETS["tiny"]), 3 + 2 * torch.randn(50, 20, 215)
    network.set_statistics(x)
    mean, spread = feature_scale(x)
    assert torch.equal(network.mean, mean) and torch.equal(network.spread, spread)
    torch.testing.assert_close(network.denormalize(network.normalize(x)), x)
    columns = feature_slices()["positions"]
    assert network.normalize(x)[..., columns].std().item() == pytest.approx(1, abs=0.05)


def test_features_are_normalised_inside(model):
    """The network sees (x - mean) / spread and gives back x's own units."""
    x = torch.randn(2, 10, 35)
    seen = {}
    model.encoder.register_forward_hook(lambda _, inputs, __: seen.update(x=inputs[0]))
    codes = model.encode(x * model.spread + model.mean)
    torch.testing.assert_close(seen["x"].mT, x, rtol=1e-4, atol=1e-5)
    z_q = model.quantizer.lookup(codes)
    out = model.from_latents(z_q) * model.spread + model.mean
    torch.testing.assert_close(model.decode(codes), out)


def test_loss_is_the_published_sum(model):
    x = torch.randn(3, 12, 35)
    total, parts = model.loss({"motion": x})
    z = model.latents(x)
    z_q, _, commitment = model.quantizer(z)
    target, out = (x - model.mean) / model.spread, model.from_latents(z_q)
    joints = slice(4, 10)  # 3 joints: 2 of them around the root
    expected = F.smooth_l1_loss(out, target) + 0.02 * commitment
    expected = expected + 0.5 * F.smooth_l1_loss(out[..., joints], target[..., joints])
    torch.testing.assert_close(total, expected)
    assert set(parts) == {"reconstruction", "position", "commitment"}
    assert not any(value.requires_grad for value in parts.values())


def test_published_slice_of_local_positions():
    with torch.device("meta"):
        network = build(replace(PRESETS["mogo-512"], width=8, code_dim=8))
    assert network.positions == slice(4, 67)


def test_every_parameter_learns(model):
    model.train()
    model.loss({"motion": torch.randn(4, 20, 35)})[0].backward()
    still = [n for n, p in model.named_parameters() if p.requires_grad and not p.grad.any()]
    assert still == []


@pytest.mark.parametrize(("stages", "stride"), [(1, 1), (2, 2)])
def test_reach_is_how_far_a_code_can_act(stages, stride):
    torch.manual_seed(0)
    network = build(replace(TINY, stages=stages, stride=stride)).eval()
    factor, middle = stride**stages, 40
    z = torch.randn(1, 81, 8, requires_grad=True)
    frames = network.from_latents(z)[0, middle * factor : (middle + 1) * factor]
    frames.square().sum().backward()
    acts = z.grad[0].abs().sum(-1).nonzero().flatten()
    reach = max(middle - int(acts[0]), int(acts[-1]) - middle)
    assert reach <= network.reach <= reach + 1, (reach, network.reach)
    if stride == 1:
        assert network.reach == reach == 17


@pytest.mark.parametrize(("stages", "stride"), [(1, 1), (1, 2)])
@pytest.mark.parametrize("length", [3, 17, 70])
def test_streaming_gives_the_frames_of_decoding_at_once(stages, stride, length):
    torch.manual_seed(0)
    network = build(replace(TINY, stages=stages, stride=stride)).eval()
    codes = torch.randint(0, 16, (2, length, 4))
    frames = list(network.decode_stream(codes.unbind(1)))
    assert len(frames) == length
    torch.testing.assert_close(torch.cat(frames, 1), network.decode(codes), rtol=1e-4, atol=1e-5)


def test_streaming_lags_by_the_reach_and_no_more(model):
    asked = []

    def columns():
        while True:
            asked.append(len(asked))
            yield torch.zeros(1, 4, dtype=torch.int64)

    next(model.decode_stream(columns()))
    assert len(asked) == model.reach + 1


def test_cost_is_counted_on_meta():
    with torch.device("meta"):
        network = build(TINY)
    total, _ = network.loss(example(TINY, 2))
    assert total.is_meta and total.shape == ()
    assert count_flops(network.loss, example(TINY, 2)) > 0


def test_same_seed_same_numbers():
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        losses.append(build(TINY).loss({"motion": torch.randn(2, 16, 35)})[0].item())
    assert losses[0] == losses[1]


def test_overfits_one_batch():
    torch.manual_seed(0)
    network = build(replace(TINY, dropout=0.0, level_dropout=0.0)).train()
    batch = {"motion": torch.randn(2, 16, 35)}
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    first = network.eval().loss(batch)[1]["reconstruction"].item()
    for _ in range(150):
        optimizer.zero_grad()
        network.train().loss(batch)[0].backward()
        optimizer.step()
    assert network.eval().loss(batch)[1]["reconstruction"].item() < 0.5 * first


def test_bad_input(model):
    with pytest.raises(ValueError, match="stride must be 1 or 2"):
        motion_rvq.build(replace(TINY, stride=3))
    with pytest.raises(ValueError, match=r"motion must be \(B, T, 35\)"):
        model.encode(torch.zeros(1, 10, 36))
    with pytest.raises(ValueError, match="multiple of 4"):
        build(replace(TINY, stages=2, stride=2)).encode(torch.zeros(1, 10, 35))
