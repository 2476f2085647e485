"""MERT: published counts, parity with transformers' HuBERT, and the rules of its objective."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import HubertConfig, HubertModel

from gentok.measure import count_flops, count_parameters
from gentok.nn.spectrogram import ConstantQ
from gentok.signals.mert import model as mert
from gentok.signals.mert.masking import mix_in_batch, span_mask
from gentok.signals.mert.wave_encoder import (
    WaveEncoder,
    WaveEncoderConfig,
    relaxed_attention,
    scale_gradient,
)

TINY = replace(mert.PRESETS["tiny"], conv_channels=8, dim=16, depth=2, num_heads=2, clip=6000)
FRAMES = TINY.num_frames(TINY.clip)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return mert.build(TINY).eval()


def batch_of(n: int = 3, seed: int = 1) -> dict:
    torch.manual_seed(seed)
    return mert.example(TINY, n)


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mert-95m", "mert-330m"])
def test_published_parameter_counts(name):
    config = mert.PRESETS[name]
    with torch.device("meta"):
        network = mert.build(config)
    assert count_parameters(network.encoder) == config.published_params
    heads = {"mert-95m": (393_728, 526_336, 258_384), "mert-330m": (1_049_600, 1_052_672, 344_400)}
    found = (
        count_parameters(network.code_head.project),
        network.code_head.labels.numel(),
        count_parameters(network.cqt_head),
    )
    assert found == heads[name]
    assert config.dim // config.num_heads == 64 and config.rate / config.stride == 75


@pytest.mark.parametrize(
    ("samples", "frames"), [(120_000, 374), (122_880, 383), (399, 0), (400, 1)]
)
def test_published_frame_counts(samples, frames):
    assert WaveEncoderConfig().num_frames(samples) == frames


@pytest.mark.parametrize("name", ["tiny", "mert-95m"])
def test_loss_costs_nothing_on_the_meta_device(name):
    config = mert.PRESETS[name]
    with torch.device("meta"):
        network = mert.build(config)
        batch = mert.example(config, 2, "meta")
        flops = count_flops(network.loss, batch)
    # The linear layers of the blocks alone: 12 D^2 a frame and block.
    blocks = 2 * 2 * config.num_frames(config.clip) * config.depth * 12 * config.dim**2
    assert blocks < flops < 20 * blocks


# --- the encoder is HuBERT's ----------------------------------------------------------------------


def into_hubert(encoder: WaveEncoder) -> dict[str, torch.Tensor]:
    """Our weights under transformers' names."""
    names = {
        "extractor.norm": "feature_extractor.conv_layers.0.layer_norm",
        "norm_features": "feature_projection.layer_norm",
        "project": "feature_projection.projection",
        "position.conv": "encoder.pos_conv_embed.conv",
        "norm": "encoder.layer_norm",
    }
    inside = {
        "attention.proj": "attention.out_proj",
        "norm1": "layer_norm",
        "mlp.fc1": "feed_forward.intermediate_dense",
        "mlp.fc2": "feed_forward.output_dense",
        "norm2": "final_layer_norm",
    }
    out = {"masked_spec_embed": encoder.mask_vector}
    for key, value in encoder.state_dict().items():
        module, _, leaf = key.rpartition(".")
        if module.startswith("extractor.convs."):
            number = module.rsplit(".", 1)[1]
            out[f"feature_extractor.conv_layers.{number}.conv.weight"] = value
        elif module.startswith("blocks."):
            _, number, part = module.split(".", 2)
            place = f"encoder.layers.{number}"
            if part == "attention.qkv":
                for name, piece in zip("qkv", value.chunk(3), strict=True):
                    out[f"{place}.attention.{name}_proj.{leaf}"] = piece
            else:
                out[f"{place}.{inside[part]}.{leaf}"] = value
        elif key != "mask_vector":
            base, _, rest = module.partition(".parametrizations")
            out[f"{names[base]}{'.parametrizations' + rest if rest else ''}.{leaf}"] = value
    return out


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("relaxation", [None, 32.0])
def test_encoder_is_transformers_hubert(pre_norm, relaxation):
    torch.manual_seed(0)
    config = WaveEncoderConfig(
        conv_channels=16,
        dim=32,
        depth=3,
        num_heads=4,
        position_kernel=16,
        position_groups=4,
        pre_norm=pre_norm,
        attention_relaxation=relaxation,
    )
    encoder = WaveEncoder(config).eval()
    for name, parameter in encoder.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(parameter, 1.0 * name.endswith("weight"), 0.2)
    theirs = HubertModel(
        HubertConfig(
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=128,
            conv_dim=(16,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            do_stable_layer_norm=pre_norm,
        )
    ).eval()
    theirs.load_state_dict(into_hubert(encoder))
    wave = 0.3 * torch.randn(2, 8000)
    mask = span_mask(2, config.num_frames(8000))[0]
    with torch.no_grad():
        expected = theirs(wave, output_hidden_states=True)
        states = encoder(wave)
        torch.testing.assert_close(states[:, -1], expected.last_hidden_state, rtol=0, atol=1e-4)
        assert len(expected.hidden_states) == states.shape[1] == 4
        for layer in range(3):
            torch.testing.assert_close(
                states[:, layer], expected.hidden_states[layer], rtol=0, atol=1e-4
            )
        hidden = theirs(wave, mask_time_indices=mask).last_hidden_state
        ours = encoder.contextualise(encoder.convolve(wave), mask)[-1]
        if theirs.training or theirs.config.apply_spec_augment:
            torch.testing.assert_close(ours, hidden, rtol=0, atol=1e-4)
    assert not torch.allclose(ours, states[:, -1], atol=1e-2)


def test_linear_layers_start_as_wide_ones_do():
    """0.02 at width 768; a narrow layer's output is as large."""
    for config in (TINY, replace(TINY, dim=768, depth=1, num_heads=12)):
        torch.manual_seed(0)
        layer = WaveEncoder(config).blocks[0].mlp.fc1
        out = layer(torch.randn(50, config.dim)).std()
        assert float(out) == pytest.approx(0.02 * 768**0.5, rel=0.1)


def test_every_position_of_the_positional_convolution_matters():
    """An even kernel adds one frame at the end, not at the start: frame t is centred on t."""
    config = replace(TINY, position_kernel=8)
    torch.manual_seed(0)
    layer = WaveEncoder(config).position
    x = torch.zeros(1, 30, 16, requires_grad=True)
    out = layer(x)
    assert out.shape == x.shape
    out[0, 15].sum().backward()
    touched = x.grad[0].abs().sum(-1).nonzero().flatten().tolist()
    assert touched == list(range(11, 19)), "frames t - 4 to t + 3"


# --- attention relaxation -------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 8), st.floats(0.1, 100))
def test_relaxation_by_a_power_of_two_changes_no_bit(seed, power, size):
    rng = torch.Generator().manual_seed(seed)
    q, k, v = (size * torch.randn(2, 2, 7, 16, generator=rng) for _ in range(3))
    plain = ((q * 16**-0.5) @ k.mT).softmax(-1) @ v
    relaxed = relaxed_attention(q, k, v, 2.0**power)
    assert torch.equal(relaxed, plain)
    torch.testing.assert_close(
        relaxed, F.scaled_dot_product_attention(q, k, v), rtol=1e-3, atol=1e-3 * size
    )


def test_relaxation_keeps_half_precision_finite():
    """Logits of 200,000 do not exist in float16; a 32nd of them does."""
    torch.manual_seed(0)
    q = 400 * torch.randn(1, 1, 6, 64).half()
    k = 400 * torch.randn(1, 1, 6, 64).half()
    v = torch.randn(1, 1, 6, 64).half()
    logits = (q * 64**-0.5) @ k.mT
    assert bool(logits.isinf().any()) and bool((logits.softmax(-1) @ v).isnan().any())
    relaxed = relaxed_attention(q, k, v, 32.0)
    exact = ((q.double() * 64**-0.5) @ k.double().mT).softmax(-1) @ v.double()
    assert bool(relaxed.isfinite().all())
    torch.testing.assert_close(relaxed.double(), exact, rtol=0.01, atol=0.01)


# --- masking and mixing ---------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(12, 120), st.floats(0.1, 1.0), st.integers(1, 8))
def test_every_clip_hides_as_many_frames(clips, frames, share, length):
    mask, index = span_mask(clips, frames, share, length)
    assert mask.shape == (clips, frames) and set(mask.sum(1).tolist()) == {index.shape[1]}
    assert torch.equal(mask, torch.zeros_like(mask).scatter(1, index, True))
    assert bool((index.diff(dim=1) > 0).all())
    spans = max(2, math.floor(share * frames / length + 1))
    assert length <= index.shape[1] <= spans * length


def test_the_hidden_share_is_not_mask_prob():
    """A frame stays visible if none of the five starts that would cover it is drawn."""
    torch.manual_seed(0)
    alone = torch.tensor([span_mask(1, 374)[0].float().mean() for _ in range(200)])
    assert float(alone.mean()) == pytest.approx(1 - (1 - 0.8 / 5) ** 5, abs=0.01)  # 0.58
    assert float(span_mask(64, 374)[0].float().mean()) < float(alone.mean()), "the least decides"


def test_the_number_of_spans_is_shared_and_rounded_at_random():
    torch.manual_seed(0)
    # 0.8 * 18 / 5 = 2.88: two or three spans; one clip, nothing to equalise.
    sizes = [span_mask(1, 18)[1].shape[1] for _ in range(300)]
    assert min(sizes) <= 10 < max(sizes) <= 15


def test_pieces_come_from_other_clips_in_full_loudness():
    torch.manual_seed(0)
    # Clip i is constant 10^i, so the sums tell where each piece came from.
    wave = (10.0 ** torch.arange(3))[:, None].expand(3, 500).contiguous()
    lengths = []
    for _ in range(40):
        added = mix_in_batch(wave, 1.0, (40, 60), most_pieces=1) - wave
        for own, row in enumerate(added):
            values = set(row.unique().tolist()) - {0.0}
            assert values <= {10.0**i for i in range(3) if i != own} and values
            place = row.nonzero().flatten()
            assert int(place[-1] - place[0]) + 1 == len(place), "a piece is whole"
            lengths.append(len(place))
    assert min(lengths) >= 40 and max(lengths) <= 60 and len(set(lengths)) > 10


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1), st.integers(0, 1000))
def test_mixing_follows_its_probability(probability, seed):
    torch.manual_seed(seed)
    wave = torch.randn(400, 60)
    mixed = mix_in_batch(wave, probability, (5, 10))
    share = float((mixed != wave).any(1).float().mean())
    assert abs(share - probability) < 5 * (0.25 / 400) ** 0.5
    counts = (mixed != wave).sum(1)
    assert int(counts.max()) <= 30
    assert torch.equal(mix_in_batch(wave[:1], 1.0, (5, 10)), wave[:1])


# --- objective ------------------------------------------------------------------------------------


def test_uniform_predictions_cost_the_logarithm_of_all_labels():
    """Eight codebooks of 1,028 labels that all look alike: 8 ln 1028 = 55.48 nats."""
    config = replace(mert.PRESETS["mert-95m"], dim=16)
    head = mert.CodeHead(config)
    torch.nn.init.ones_(head.labels)
    nats, _ = head.loss(torch.randn(2, 5, 16), torch.randint(1024, (2, 5, 8)))
    assert float(nats) == pytest.approx(8 * math.log(1028), rel=1e-5)
    assert 8 * math.log(1028) == pytest.approx(55.48, abs=0.005)


def test_logits_are_cosines_over_the_temperature(model):
    x = torch.randn(2, 5, 16)
    logits = model.code_head(x)
    assert logits.shape == (2, 5, 4, 68) and float(logits.abs().max()) <= 10.0001
    frames = model.code_head.project(x).view(2, 5, 4, 32)
    for q in range(4):
        slow = F.cosine_similarity(
            frames[:, :, q, None], model.code_head.labels[q][None, None], dim=-1
        )
        torch.testing.assert_close(logits[:, :, q], slow / 0.1, rtol=1e-4, atol=1e-4)
    scaled = mert.CodeHead.forward(model.code_head, x)
    model.code_head.labels.data.mul_(3.0)
    torch.testing.assert_close(model.code_head(x), scaled, rtol=1e-4, atol=1e-4)


def test_code_loss_is_a_sum_over_codebooks_of_the_shifted_labels(model):
    x, codes = torch.randn(2, 5, 16), torch.randint(64, (2, 5, 4))
    logits = model.code_head(x)
    expected = sum(
        F.cross_entropy(logits[:, :, q].flatten(0, 1), codes[:, :, q].flatten() + 4)
        for q in range(4)
    )
    torch.testing.assert_close(model.code_head.loss(x, codes)[0], expected)


def total_of(model, batch, seed: int = 3):
    torch.manual_seed(seed)
    return model.loss(batch)


def test_loss_is_the_weighted_sum_of_its_parts(model):
    published = mert.PRESETS["mert-95m"]
    assert (published.rvq_weight, published.cqt_weight, published.feature_penalty) == (1, 1, 10)
    model.config = replace(TINY, rvq_weight=2.0, cqt_weight=3.0, feature_penalty=10.0)
    total, parts = total_of(model, batch_of())
    expected = 2 * parts["rvq"] + 3 * parts["cqt"] + 10 * parts["penalty"]
    torch.testing.assert_close(total.detach(), expected)
    assert 0 <= float(parts["accuracy"]) <= 1


def test_targets_are_those_of_the_clean_sound(model, monkeypatch):
    """Whatever is mixed in, the heads are asked for the same: the official code mixes in place."""
    asked = []
    monkeypatch.setattr(
        mert.F, "mse_loss", lambda guess, target: asked.append(target) or guess.sum() * 0
    )
    batch = batch_of()
    before = batch["wave"].clone()
    model.config = replace(TINY, mixture_probability=1.0)
    total_of(model, batch)
    assert torch.equal(batch["wave"], before), "the batch itself is left alone"
    _, index = remask()
    clean = ConstantQ(8000, 160, 65.41, 60, 12)(before)[..., :FRAMES].mT
    torch.testing.assert_close(asked[0], mert.take(clean, index))


def remask(seed: int = 3):
    """The mask that `total_of` drew, after the draws of the mixture."""
    torch.manual_seed(seed)
    mix_in_batch(torch.zeros(3, TINY.clip), 1.0, TINY.mixture_lengths)
    return span_mask(3, FRAMES)


def test_only_hidden_frames_are_asked_for(model):
    model.config = replace(TINY, mixture_probability=1.0)
    batch, (mask, _) = batch_of(), remask()
    before = total_of(model, batch)[1]["rvq"]
    visible = batch["codes"].clone()
    visible[:, :FRAMES][~mask] = 0
    assert torch.equal(total_of(model, batch | {"codes": visible})[1]["rvq"], before)
    hidden = batch["codes"].clone()
    hidden[:, :FRAMES][mask] = 0
    assert not torch.equal(total_of(model, batch | {"codes": hidden})[1]["rvq"], before)


def test_surplus_target_frames_are_cut_and_not_stretched(model):
    batch = batch_of()
    longer = torch.cat([batch["codes"], torch.zeros_like(batch["codes"][:, :1])], dim=1)
    assert torch.equal(total_of(model, batch | {"codes": longer})[0], total_of(model, batch)[0])
    for wrong in (batch["codes"][:, ::2], batch["codes"].repeat(1, 2, 1), batch["codes"][..., :2]):
        with pytest.raises(ValueError, match="codes must be"):
            model.loss(batch | {"codes": wrong})


def test_gradient_multiplier_scales_the_convolutions_alone():
    x = torch.randn(4, requires_grad=True)
    y = scale_gradient(x, 0.1)
    assert torch.equal(y, x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.full((4,), 0.1))
    gradients = {}
    for factor in (1.0, 0.1):
        torch.manual_seed(0)
        network = mert.build(replace(TINY, feature_gradient=factor))
        total_of(network, batch_of())[0].backward()
        gradients[factor] = {n: p.grad for n, p in network.named_parameters()}
    for name, gradient in gradients[1.0].items():
        factor = 0.1 if name.startswith("encoder.extractor") else 1.0
        torch.testing.assert_close(gradients[0.1][name], factor * gradient, rtol=1e-3, atol=1e-6)


def test_every_parameter_learns(model):
    total_of(model.train(), batch_of())[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0, name


def test_layer_drop_skips_whole_blocks_in_training_only():
    torch.manual_seed(0)
    encoder = WaveEncoder(replace(TINY, layer_drop=0.5, depth=8))
    wave = batch_of()["wave"]
    states = encoder.train()(wave)
    skipped = [torch.equal(a, b) for a, b in zip(states[0], states[0][1:], strict=False)]
    assert 0 < sum(skipped) < 8
    states = encoder.eval()(wave)
    assert not any(torch.equal(a, b) for a, b in zip(states[0], states[0][1:], strict=False))


@pytest.mark.slow
def test_one_batch_is_learned_by_heart():
    torch.manual_seed(0)
    config = replace(TINY, dim=32, num_codebooks=2, codebook_size=16, mixture_probability=0.0)
    network = mert.build(config)
    rate = config.rate / config.stride
    time = torch.arange(TINY.clip) / config.rate
    # Six notes in a row, and codes that name them.
    notes = torch.stack([torch.randperm(6), torch.randperm(6)])
    note = notes[:, (time * 8).long().clamp_max(5)]
    batch = {"wave": 0.5 * torch.sin(2 * math.pi * 200 * 2 ** (note / 6) * time)}
    at = (torch.arange(FRAMES) / rate * 8).long().clamp_max(5)
    batch["codes"] = torch.stack([notes[:, at], 5 - notes[:, at]], dim=-1)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    first = None
    for _ in range(150):
        total, parts = network.loss(batch)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        first = first or {name: float(value) for name, value in parts.items()}
    assert float(parts["rvq"]) < 0.4 * first["rvq"]
    assert float(parts["cqt"]) < 0.4 * first["cqt"]
    assert float(parts["accuracy"]) > 0.6


def test_same_seed_same_numbers():
    runs = []
    for _ in range(2):
        torch.manual_seed(7)
        network = mert.build(TINY)
        runs.append(total_of(network, batch_of())[0])
    assert torch.equal(*runs)


def test_encode_gives_every_layer_and_adds_no_noise(model):
    wave = batch_of()["wave"]
    states = model.encode(wave)
    assert states.shape == (3, TINY.depth + 1, FRAMES, TINY.dim)
    assert torch.equal(states, model.encode(wave))
    torch.testing.assert_close(model.encode(wave[:1]), states[:1], rtol=1e-4, atol=1e-5)


def test_bad_input_is_refused(model):
    with pytest.raises(ValueError, match="too few for one frame"):
        model.encode(torch.zeros(1, 100))
    with pytest.raises(ValueError, match=r"float \(B, L\)"):
        model.encode(torch.zeros(6000))
    with pytest.raises(ValueError, match="num_heads must divide"):
        mert.build(replace(TINY, num_heads=3))
    with pytest.raises(ValueError, match="equally long"):
        mert.build(replace(TINY, conv_strides=(5, 4)))
    with pytest.raises(ValueError, match="0 < share"):
        span_mask(2, 20, share=1.5)
    with pytest.raises(ValueError, match="0 <= probability"):
        mix_in_batch(torch.zeros(2, 50), 0.5, (10, 60))
