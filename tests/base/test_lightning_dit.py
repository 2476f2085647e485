"""LightningDiT: published sizes, blocks against independent code, start, loss and sampler."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gentok.base.lightning_dit import (
    PRESETS,
    LightningBlock,
    LightningDiT,
    build,
    example,
)
from gentok.nn.position import AxialRope2d

TINY = replace(PRESETS["tiny"], dim=32, depth=2, num_heads=2, in_channels=4, num_classes=3)


def awake(config=TINY, seed=0) -> LightningDiT:
    """A model whose zero-initialised layers are not zero, so that everything matters."""
    torch.manual_seed(seed)
    model = build(config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize("name", [n for n, c in PRESETS.items() if c.published_params])
def test_counts_in_raes_setting(name):
    with torch.device("meta"):
        model = build(PRESETS[name])
    count = sum(p.numel() for p in model.parameters()) + model.time.frequencies.numel()
    assert count == PRESETS[name].published_params


@pytest.mark.parametrize(
    ("name", "d", "depth"), [("s", 384, 12), ("b", 768, 12), ("l", 1024, 24), ("xl", 1152, 28)]
)
def test_counts_on_va_vae_latents(name, d, depth):
    """32 channels and sine-cosine time: the count by the formula of the parts, term by term."""
    with torch.device("meta"):
        model = build(PRESETS[f"{name}/1"])
    c = 32
    hidden = int(2 / 3 * 4 * d)
    attention = d * 3 * d + 3 * d + d * d + d
    swiglu = d * 2 * hidden + 2 * hidden + hidden * d + d
    block = 2 * d + attention + swiglu + d * 6 * d + 6 * d
    ends = (c * d + d) + (d + d * c + c + d * 2 * d + 2 * d)
    conditions = (256 * d + d + d * d + d) + 1001 * d
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == depth * block + ends + conditions
    assert name != "xl" or trainable == 674_961_824


def test_block_matches_a_plain_restatement():
    """RMSNorm, interleaved axial RoPE, attention and SwiGLU written out with complex numbers."""
    torch.manual_seed(1)
    dim, heads, side = 32, 2, 3
    block = LightningBlock(dim, heads, AxialRope2d(side, side, dim // heads))
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, c = torch.randn(2, side * side, dim), torch.randn(2, dim)

    def rms(v, norm):
        return v / (v.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight

    def turn(v):  # (B, heads, N, d): channel pair i is a complex number, turned by its axis' angle
        d = v.shape[-1]
        pairs = torch.view_as_complex(v.unflatten(-1, (d // 2, 2)).contiguous())
        rates = torch.tensor([10000 ** (-2 * i / (d / 2)) for i in range(d // 4)])
        angles = torch.tensor([[row, col] for row in range(side) for col in range(side)]).float()
        angles = torch.cat([angles[:, :1] * rates, angles[:, 1:] * rates], dim=1)  # (N, d/2)
        return torch.view_as_real(pairs * torch.exp(1j * angles)).flatten(-2)

    a1, s1, g1, a2, s2, g2 = block.modulation.linear(nn.functional.silu(c))[:, None].chunk(6, -1)
    h = rms(x, block.norm1) * (1 + s1) + a1
    q, k, v = block.attention.qkv(h).view(2, -1, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
    scores = turn(q) @ turn(k).transpose(-1, -2) / (dim // heads) ** 0.5
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(2, -1, dim)
    y = x + g1 * block.attention.proj(mixed)
    h = rms(y, block.norm2) * (1 + s2) + a2
    left, right = block.mlp.w12(h).chunk(2, -1)
    y = y + g2 * block.mlp.w3(left * torch.sigmoid(left) * right)
    torch.testing.assert_close(block(x, c), y, rtol=1e-5, atol=1e-5)


def test_swiglu_matches_transformers():
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    block = LightningBlock(24, 2, AxialRope2d(2, 2, 12)).mlp
    hidden = block.w3.in_features
    peer = LlamaMLP(
        LlamaConfig(hidden_size=24, intermediate_size=hidden, num_attention_heads=2, mlp_bias=True)
    )
    gate, up = block.w12.weight.chunk(2), block.w12.bias.chunk(2)
    state = {
        "gate_proj.weight": gate[0], "gate_proj.bias": up[0],
        "up_proj.weight": gate[1], "up_proj.bias": up[1],
        "down_proj.weight": block.w3.weight, "down_proj.bias": block.w3.bias,
    }  # fmt: skip
    peer.load_state_dict(state)
    x = torch.randn(3, 5, 24)
    torch.testing.assert_close(block(x), peer(x), rtol=1e-5, atol=1e-6)


def test_position_table_and_time_match_diffusers():
    from diffusers.models.embeddings import get_2d_sincos_pos_embed, get_timestep_embedding

    model = build(TINY)
    theirs = get_2d_sincos_pos_embed(32, 4, base_size=4, output_type="pt").float()
    torch.testing.assert_close(model.position[0], theirs, rtol=1e-5, atol=1e-6)
    t = torch.tensor([0.0, 0.25, 1.0])
    features = get_timestep_embedding(t, 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(model.time(t), model.time.mlp(features), rtol=1e-5, atol=1e-6)


def test_output_is_exactly_zero_at_the_start_and_learns():
    torch.manual_seed(0)
    model = build(TINY)
    batch = {"latent": torch.randn(8, 4, 4, 4), "label": torch.arange(8) % 3}
    assert torch.equal(
        model(batch["latent"], torch.rand(8), batch["label"]), torch.zeros(8, 4, 4, 4)
    )
    total, parts = model.loss(batch)
    # Predicting 0 for v = x - eps of unit-variance x leaves an error near 2, and no direction.
    assert 1.5 < float(parts["velocity"]) < 2.5
    assert float(parts["direction"]) == 1.0
    total.backward()
    assert model.final.linear.weight.grad.abs().sum() > 0


def test_patches_come_back_where_they_were():
    model = build(replace(TINY, input_size=8, patch_size=2))
    tokens = torch.zeros(1, 16, 2 * 2 * 4)
    tokens[0, 6, (1 * 2 + 0) * 4 + 3] = (
        1.0  # grid row 1, column 2; inside: row 1, column 0; channel 3
    )
    assert model._unpatchify(tokens).nonzero().tolist() == [[0, 3, 3, 4]]


def test_every_input_matters():
    model, x = awake(), torch.randn(1, 4, 4, 4)
    label, t = torch.tensor([0]), torch.tensor([0.3])
    out = model(x, t, label)
    assert not torch.allclose(out, model(x, t, label + 1))
    assert not torch.allclose(out, model(x, t + 0.3, label))
    moved = model(x.flip(-1), t, label).flip(-1)
    assert not torch.allclose(out, moved), "without positions the model would commute with a flip"


def test_labels_are_dropped_only_in_training():
    model = awake(replace(TINY, label_drop=1.0))
    x, t = torch.randn(2, 4, 4, 4), torch.rand(2)
    label, null = torch.tensor([0, 1]), torch.tensor([3, 3])
    assert not torch.allclose(model(x, t, label), model(x, t, null))
    model.train()
    assert torch.equal(model(x, t, label), model(x, t, null))


def test_statistics_round_trip_and_scale_of_samples():
    model = build(TINY)
    z = torch.randn(64, 4, 4, 4) * torch.tensor([1.0, 2.0, 5.0, 0.1])[:, None, None] + 3
    model.set_statistics(z)
    flat = model.normalize(z).transpose(0, 1).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(flat.std(1), torch.ones(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(model.denormalize(model.normalize(z)), z, rtol=1e-5, atol=1e-5)
    # Untrained, the velocity is 0: samples are noise with the latents' own mean and spread.
    torch.manual_seed(0)
    samples = model.sample(400, num_steps=2).transpose(0, 1).flatten(1)
    torch.testing.assert_close(samples.mean(1), model.latent_mean, atol=0.3, rtol=0)
    torch.testing.assert_close(samples.std(1), model.latent_std, rtol=0.05, atol=0)


def test_guidance_extrapolates_after_its_start_only(monkeypatch):
    model, seen = awake(), []
    label = torch.tensor([0, 2])

    def fake(x, t, label):  # velocity = class number, so guidance is arithmetic
        seen.append((len(x), round(float(t[0]), 4)))
        return label.view(-1, 1, 1, 1).float().expand(x.shape)

    monkeypatch.setattr(model, "forward", fake)
    torch.manual_seed(0)
    noise = torch.randn(2, 4, 4, 4)
    torch.manual_seed(0)
    z = model.sample(2, label, num_steps=4, guidance_scale=2.0, guidance_start=0.5, shift=1.0)
    assert seen == [(2, 0.0), (2, 0.25), (4, 0.5), (4, 0.75)]
    # Half the way at v = c, half at v = 3 + 2 (c - 3), the null class being number 3.
    expected = noise + 0.5 * label.view(-1, 1, 1, 1) + 0.5 * (2 * label.view(-1, 1, 1, 1) - 3)
    torch.testing.assert_close(z, expected)


def test_published_guidance_acts_on_three_channels(monkeypatch):
    """The public code's forward_with_cfg, on the published number of steps."""
    assert PRESETS["xl/1"].guided_channels == 3 and PRESETS["xl/1-rae"].guided_channels is None
    model, times = awake(replace(TINY, guided_channels=3)), []
    label = torch.tensor([0, 2])

    def fake(x, t, label):  # the class number in every channel; the null class is 3
        times.append(float(t[0]))
        return label.view(-1, 1, 1, 1).float().expand(x.shape)

    monkeypatch.setattr(model, "forward", fake)
    torch.manual_seed(0)
    noise = torch.randn(2, 4, 4, 4)
    torch.manual_seed(0)
    z = model.sample(2, label, guidance_scale=10.0, guidance_start=0.0)
    c = label.view(-1, 1, 1, 1).float()
    guided, plain = noise[:, :3] + 3 + 10 * (c - 3), noise[:, 3:] + c
    torch.testing.assert_close(z, torch.cat([guided, plain], 1), rtol=1e-4, atol=1e-4)
    # 250 points from 0 to 1, bent by 0.3, and a step from each to the next.
    grid = torch.linspace(0, 1, 250)
    grid = 0.3 * grid / (1 - 0.7 * grid)
    assert len(times) == 249
    torch.testing.assert_close(torch.tensor(times), grid[:-1], rtol=1e-5, atol=1e-6)


def test_scale_one_is_the_conditional_model_and_sampling_is_reproducible():
    model = awake()
    draws = []
    for start in (0.0, 2.0):
        torch.manual_seed(3)
        draws.append(model.sample(2, 1, num_steps=3, guidance_scale=1.0, guidance_start=start))
    assert torch.equal(*draws)
    assert not model.training


@pytest.mark.slow
def test_it_learns_two_constant_latents():
    torch.manual_seed(0)
    model = build(replace(TINY, num_classes=2, label_drop=0.0, dim=48))
    data = torch.stack([torch.full((4, 4, 4), -1.0), torch.full((4, 4, 4), 1.0)])
    label = torch.arange(64) % 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        loss, _ = model.loss({"latent": data[label], "label": label})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    samples = model.sample(20, torch.arange(20) % 2, num_steps=20)
    assert (samples - data[torch.arange(20) % 2]).abs().mean() < 0.15


def test_bad_input():
    model = build(TINY)
    x, t, label = torch.randn(2, 4, 4, 4), torch.rand(2), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"x must be \(B, 4, 4, 4\), got \(2, 3, 4, 4\)"):
        model(x[:, :3], t, label)
    with pytest.raises(ValueError, match=r"label must lie in \[0, 3\], got \[0, 4\]"):
        model(x, t, torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="label must be int64, got torch.float32"):
        model(x, t, label.float())
    with pytest.raises(ValueError, match=r"label must be an int or \(3,\) classes"):
        model.sample(3, label)
    with pytest.raises(ValueError, match="patch_size must divide input_size, got 3 and 16"):
        replace(PRESETS["xl/1"], patch_size=3)
    with pytest.raises(ValueError, match=r"guided_channels must lie in \[1, 4\], got 5"):
        replace(TINY, guided_channels=5)
    with pytest.raises(ValueError, match="unknown time_features 'ramp'"):
        replace(TINY, time_features="ramp")


def test_example_is_what_loss_takes():
    model = build(TINY)
    total, _ = model.loss(example(TINY, batch_size=2, device="cpu"))
    assert total.isfinite()
