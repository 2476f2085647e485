"""DiT^DH on RAE's latents: published sizes, the head's flow, direction of the shift, sampler."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from gentok.base.lightning_dit import LightningBlock, LightningDiT
from gentok.latents.rae.ddt import DDT
from gentok.latents.rae.dit import PRESETS, RAEDiT, build, example
from gentok.measure import count_flops
from gentok.nn.position import AxialRope2d
from gentok.process.flow import shift_times

TINY = PRESETS["tiny"]
SMALL = replace(
    TINY,
    backbone=replace(
        TINY.backbone, in_channels=8, input_size=4, dim=16, depth=2, num_heads=2, num_classes=3
    ),
    head_dim=32,
    head_heads=2,
    shift_base=8,  # alpha = sqrt(128 / 8) = 4
)
# Sheet: DiT^DH total and trainable; GMACs of DiT and DiT^DH.
SIZES = {
    "s": (196_455_764, 196_357_204, 33_649_792, 6.2, 48.5),
    "b": (294_295_892, 294_099_028, 131_884_288, 23.3, 65.7),
    "l": (621_744_436, 621_482_036, 459_923_424, 81.1, 123.6),
    "xl": (838_675_796, 838_380_628, 677_248_384, 119.1, 161.6),
}


def awake(config=SMALL, seed=0) -> RAEDiT:
    """A model whose zero-initialised layers are not zero, so that everything matters."""
    torch.manual_seed(seed)
    model = build(config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2)
    return model.eval()


def inputs(n=2, seed=1):
    torch.manual_seed(seed)
    return torch.randn(n, 8, 4, 4), torch.rand(n), torch.arange(n) % 3


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_published_counts_and_costs(size):
    total, trainable, plain, plain_macs, macs = SIZES[size]
    for name, count, cost in (
        (f"dit-dh-{size}", total, macs), (f"dit-{size}", plain, plain_macs)
    ):  # fmt: skip
        with torch.device("meta"):
            model = build(PRESETS[name]).eval()
            batch = example(PRESETS[name])
            flops = count_flops(model, batch["latent"], torch.zeros(1), batch["label"])
        counted = sum(p.numel() for p in model.parameters())
        counted += model.network.time.frequencies.numel()
        assert counted == count == PRESETS[name].published_params
        assert flops / 2e9 == pytest.approx(cost, abs=0.06)
        if "dh" in name:
            moving = sum(p.numel() for p in model.parameters() if p.requires_grad)
            assert moving == trainable


def test_head_depth_zero_is_the_plain_lightning_dit():
    assert isinstance(build(replace(SMALL, head_depth=0)).network, LightningDiT)
    assert isinstance(build(SMALL).network, DDT)


# --- network --------------------------------------------------------------------------------------


def test_a_condition_a_token_is_one_a_sample_where_all_tokens_say_the_same():
    torch.manual_seed(0)
    block = LightningBlock(16, 2, AxialRope2d(3, 3, 8))
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, c = torch.randn(2, 9, 16), torch.randn(2, 16)
    torch.testing.assert_close(block(x, c[:, None].expand(-1, 9, -1)), block(x, c))


def test_modulation_is_per_token():
    """Only token 4's condition changes: before attention mixes, only token 4 may change."""
    torch.manual_seed(0)
    block = LightningBlock(16, 2, AxialRope2d(3, 3, 8))
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    nn.init.zeros_(block.attention.proj.weight)
    x, s = torch.randn(1, 9, 16), torch.randn(1, 9, 16)
    moved = s.clone()
    moved[0, 4] += 1
    change = (block(x, moved) - block(x, s)).abs().sum(-1)[0]
    assert change[4] > 0 and change.sum() == change[4]


def test_modulation_matches_diffusers_dit():
    """Order and use of shift, scale and gate, against the adaLN-Zero of diffusers' DiT."""
    from diffusers.models.attention import BasicTransformerBlock

    torch.manual_seed(0)
    peer = BasicTransformerBlock(
        16, 2, 8, attention_bias=True, norm_type="ada_norm_zero", num_embeds_ada_norm=3,
        norm_elementwise_affine=False, norm_eps=1e-6, activation_fn="gelu-approximate",
    ).eval()  # fmt: skip
    block = LightningBlock(16, 2, rope=None)
    # The rest of a plain DiT block in place of LightningDiT's: LayerNorm and GELU.
    block.norm1 = block.norm2 = nn.LayerNorm(16, eps=1e-6, elementwise_affine=False)
    block.mlp = peer.ff
    block.modulation.linear = peer.norm1.linear
    q, k, v = peer.attn1.to_q, peer.attn1.to_k, peer.attn1.to_v
    block.attention.load_state_dict({
        "qkv.weight": torch.cat([q.weight, k.weight, v.weight]),
        "qkv.bias": torch.cat([q.bias, k.bias, v.bias]),
        "proj.weight": peer.attn1.to_out[0].weight, "proj.bias": peer.attn1.to_out[0].bias,
    })  # fmt: skip
    x, t, label = torch.randn(2, 9, 16), torch.tensor([3, 700]), torch.tensor([0, 2])
    with torch.no_grad():
        c = peer.norm1.emb(t, label, hidden_dtype=torch.float32)
        theirs = peer(x, timestep=t, class_labels=label)
        ours = block(x, c[:, None].expand(-1, 9, -1))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_flow_of_the_head():
    """Read from the sheet: c once through SiLU, s once more with t, x_t again without position."""
    net = awake().network
    x, t, label = inputs()
    time = net.time(t)
    c = F.silu(time + net.label(label))
    cells = x.permute(0, 2, 3, 1).reshape(2, 16, 8)  # raster order
    s = net.s_embed(cells) + net.position
    for block in net.backbone:
        s = block(s, c)
    s = net.s_project(F.silu(s + time[:, None]))
    h = net.x_embed(cells)
    for block in net.head:
        h = block(h, s)
    shift, scale = net.final.modulation.linear(F.silu(s)).chunk(2, dim=-1)
    h = net.final.linear(net.final.norm(h) * (1 + scale) + shift)
    expected = h.reshape(2, 4, 4, 8).permute(0, 3, 1, 2)
    torch.testing.assert_close(net(x, t, label), expected, rtol=1e-5, atol=1e-5)


def test_equal_widths_need_no_projection():
    net = build(replace(SMALL, head_dim=16)).network
    assert isinstance(net.s_project, nn.Identity)
    with pytest.raises(ValueError, match="needs patch_size 1, got 2"):
        build(replace(SMALL, backbone=replace(SMALL.backbone, patch_size=2)))


def test_start_is_zero_and_both_streams_learn():
    model = build(SMALL)
    x, t, label = inputs()
    assert torch.equal(model(x, t, label), torch.zeros_like(x))
    nn.init.normal_(model.network.final.linear.weight)
    for block in (*model.network.head, *model.network.backbone):
        nn.init.normal_(block.modulation.linear.weight)
    model.loss({"latent": x, "label": label})[0].backward()
    for part in (model.network.s_embed, model.network.x_embed, model.network.label.table):
        assert part.weight.grad.abs().sum() > 0


def test_every_input_matters():
    model = awake()
    x, t, label = inputs()
    out = model(x, t, label)
    assert not torch.allclose(out, model(x, t, (label + 1) % 3))
    assert not torch.allclose(out, model(x, t / 2, label))
    assert not torch.allclose(out, model(x.flip(-1), t, label).flip(-1))


# --- time -----------------------------------------------------------------------------------------


def test_alpha_of_the_paper():
    assert PRESETS["dit-dh-xl"].alpha == pytest.approx(6.928, abs=1e-3)
    assert PRESETS["dit-dh-xl-512"].alpha == pytest.approx(13.856, abs=1e-3)
    assert SMALL.alpha == TINY.alpha == 4


@given(t=st.floats(0.0, 1.0), alpha=st.floats(1.0, 15.0))
def test_shift_is_the_papers_seen_from_the_other_end(t, alpha):
    """Paper: t_p' = a t_p / (1 + (a - 1) t_p) with t_p = 1 at noise; here t = 1 - t_p."""
    paper = 1 - t
    theirs = alpha * paper / (1 + (alpha - 1) * paper)
    ours = float(shift_times(torch.tensor(t, dtype=torch.float64), 1 / alpha))
    assert ours == pytest.approx(1 - theirs, abs=1e-9)
    assert ours <= t + 1e-9, "a larger latent needs more of its time near noise, t = 0"


@pytest.mark.parametrize("times", ["logit-normal", "uniform"])
def test_training_times_lie_nearer_to_noise(times):
    torch.manual_seed(0)
    plain = build(replace(SMALL, times=times, shift_base=128)).training_times(4000)
    shifted = build(replace(SMALL, times=times)).training_times(4000)
    assert float(plain.median()) == pytest.approx(0.5, abs=0.03)
    assert float(shifted.median()) == pytest.approx(1 / (1 + 4), abs=0.02)  # 0.5 at alpha = 4
    assert shifted.min() > 0 and shifted.max() < 1


def test_sampling_grid_is_the_papers_reversed():
    """t_p = shift(1 - linspace(0, 0.999, 50)): from noise to just before data, no last jump."""
    config = PRESETS["dit-dh-xl"]
    with torch.device("meta"):
        model = build(replace(config, backbone=replace(config.backbone, depth=0)))
    grid = model.sampling_grid(49)
    paper = 1 - torch.linspace(0, 0.999, 50).double()
    alpha = config.alpha
    theirs = alpha * paper / (1 + (alpha - 1) * paper)
    torch.testing.assert_close(grid.double(), 1 - theirs, rtol=1e-4, atol=1e-6)
    assert grid[0] == 0 and 0.99 < grid[-1] < 1 and (grid.diff() > 0).all()
    assert grid[25] < 0.2, "half of the points lie in the first fifth, near noise"


# --- statistics -----------------------------------------------------------------------------------


def test_statistics_are_of_each_channel_at_each_position():
    model = build(SMALL)
    torch.manual_seed(0)
    scale = torch.rand(8, 4, 4) * 3 + 0.1
    z = torch.randn(2000, 8, 4, 4) * scale + torch.randn(8, 4, 4)
    model.set_statistics(z)
    x = model.normalize(z)
    torch.testing.assert_close(x.mean(0), torch.zeros(8, 4, 4), rtol=0, atol=1e-3)
    torch.testing.assert_close(x.std(0), torch.ones(8, 4, 4), rtol=0, atol=1e-2)
    torch.testing.assert_close(model.denormalize(x), z, rtol=1e-4, atol=1e-4)


def test_running_statistics_move_by_a_tenth():
    model, z = build(SMALL), torch.randn(50, 8, 4, 4) + 2
    model.set_statistics(z, momentum=0.1)
    torch.testing.assert_close(model.latent_mean, 0.1 * z.mean(0))
    torch.testing.assert_close(model.latent_var, 0.9 + 0.1 * z.var(0))
    for _ in range(100):
        model.set_statistics(z, momentum=0.1)
    torch.testing.assert_close(model.latent_mean, z.mean(0), rtol=1e-3, atol=1e-3)


# --- objective and sampler ------------------------------------------------------------------------


def test_loss_is_the_mean_squared_velocity_error():
    model = awake()
    z, _, label = inputs(4)
    model.set_statistics(z)
    torch.manual_seed(5)
    total, parts = model.loss({"latent": z, "label": label})
    torch.manual_seed(5)
    x = model.normalize(z)
    noise = torch.randn_like(x)
    t = model.training_times(4)
    weight = t[:, None, None, None]
    x_t = weight * x + (1 - weight) * noise
    expected = (model(x_t, t, label) - (x - noise)).square().mean()
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(parts["velocity"], total.detach())


def test_exact_velocity_leads_to_the_data():
    """With v = (x - x_t) / (1 - t) of one data point, all but the last bit of the way is walked."""
    model = build(SMALL)
    point = torch.randn(8, 4, 4)
    model.forward = lambda x, t, label: (point - x) / (1 - t.view(-1, 1, 1, 1))
    torch.manual_seed(0)
    z = model.sample(3, 0)
    left = 1 - float(model.sampling_grid(49)[-1])
    assert (z - point).abs().max() < 5 * left


def test_guidance_and_who_is_left_behind():
    good, weak = awake(), awake(seed=9)

    def constant(value):
        return lambda x, t, label: torch.full_like(x, value) + label.view(-1, 1, 1, 1)

    good.forward, weak.forward = constant(2.0), constant(1.0)
    end = float(good.sampling_grid(4)[-1])

    def walked(**options):
        torch.manual_seed(0)
        z = good.sample(2, 0, num_steps=4, **options)
        torch.manual_seed(0)
        return (z - torch.randn(2, 8, 4, 4)) / end / math.sqrt(1 + 1e-5)

    def close(walk, value):
        torch.testing.assert_close(walk, torch.full_like(walk, value), rtol=1e-3, atol=1e-3)

    close(walked(), 2.0)
    close(walked(guidance_scale=1.0, weak=weak), 2.0)  # scale 1 is off
    close(walked(guidance_scale=1.5, weak=weak), 1.0 + 1.5 * (2.0 - 1.0))
    close(walked(guidance_scale=1.5), 5.0 + 1.5 * (2.0 - 5.0))  # the null class of this model is 3
    close(walked(guidance_scale=1.5, weak=weak, interval=(0.9, 1.0)), 2.0)


def test_sampling_repeats_and_restores_the_latents_scale():
    model = awake()
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(model.sample(2, 1, num_steps=3, guidance_scale=1.4, weak=awake(seed=4)))
    assert torch.equal(*draws) and not model.training
    still = build(SMALL)  # velocity 0: the noise stays noise
    still.set_statistics(torch.randn(500, 8, 4, 4) * 7 + 30)
    z = still.sample(400, num_steps=2)
    assert float(z.mean()) == pytest.approx(30, abs=0.5)
    assert float(z.std()) == pytest.approx(7, rel=0.05)


@pytest.mark.slow
def test_it_learns_two_constant_latents():
    torch.manual_seed(0)
    model = build(replace(SMALL, backbone=replace(SMALL.backbone, label_drop=0.0)))
    data = torch.stack([torch.full((8, 4, 4), -1.0), torch.full((8, 4, 4), 1.0)])
    label = torch.arange(32) % 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(100):
        loss, _ = model.loss({"latent": data[label], "label": label})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    z = model.sample(20, torch.arange(20) % 2)
    assert (z - data[torch.arange(20) % 2]).abs().mean() < 0.25


def test_bad_input():
    model = build(SMALL)
    x, t, label = inputs()
    with pytest.raises(ValueError, match=r"x must be \(B, 8, 4, 4\), got \(2, 3, 4, 4\)"):
        model(x[:, :3], t, label)
    with pytest.raises(ValueError, match=r"label must lie in \[0, 3\], got \[0, 4\]"):
        model(x, t, torch.tensor([0, 4]))
    with pytest.raises(ValueError, match=r"label must be an int or \(3,\) classes"):
        model.sample(3, label)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        model.sample(3, num_steps=0)
    with pytest.raises(ValueError, match="unknown times 'ramp'"):
        replace(SMALL, times="ramp")
    with pytest.raises(ValueError, match="shift_base must be at least 1, got 0"):
        replace(SMALL, shift_base=0)


def test_example_is_what_loss_takes():
    with torch.device("meta"):
        model = build(TINY)
    assert model.loss(example(TINY, 2))[0].is_meta
