"""MicroDiT: published sizes and costs, blocks, masking, objective, sampler, rivals."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from diffusers import EDMEulerScheduler
from diffusers.models.attention_processor import Attention, LuminaAttnProcessor2_0
from torch import nn

from gentok.diffusion import micro_diffusion as micro
from gentok.diffusion.micro_diffusion import cost, layers
from gentok.diffusion.micro_diffusion.model import build, continued, example
from gentok.diffusion.micro_diffusion.presets import PRESETS
from gentok.measure import count_flops, count_parameters
from gentok.nn.experts import ExpertChoice, Router, TokenChoice
from gentok.nn.token_masks import kept_mask, random_keep
from gentok.nn.transformer import SwiGLU

TINY = replace(
    PRESETS["tiny"],
    input_size=8,
    patch_size=2,
    dim=32,
    depth=3,
    head_dim=8,
    mixer_dim=16,
    mixer_depth=2,
    multiple_of=8,
    num_experts=4,
    caption_dim=12,
    caption_length=5,
)
XL, SMALL = PRESETS["MicroDiT_XL_2"], PRESETS["MicroDiT_Tiny_2"]


def made(config=TINY, seed=0):
    """A network with every weight drawn anew: gates of zero would hide faults."""
    torch.manual_seed(seed)
    network = build(config)
    for p in network.parameters():
        nn.init.normal_(p, std=0.15)
    return network.eval()


def batch_of(n=4, config=TINY, seed=1):
    torch.manual_seed(seed)
    z = torch.randn(n, *config.latent_shape)
    return z, torch.randn(n, config.caption_length, config.caption_dim)


def outline(config):
    with torch.device("meta"):
        return build(config)


# --- published sizes ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n, c in PRESETS.items() if c.published_params])
def test_published_counts_are_exact(name):
    assert count_parameters(outline(PRESETS[name])) == PRESETS[name].published_params


def test_published_size_part_by_part():
    network = outline(XL)
    parts = {
        "patchify": 17_408, "time": 1_574_912, "caption": 2_100_224, "pooled": 2_100_224,
        "caption_block": 12_847_104, "head": 2_116_624, "blocks": 958_238_720,
        "mixer": 184_084_992 + 2_362_112,
    }  # fmt: skip
    assert {name: count_parameters(getattr(network, name)) for name in parts} == parts
    assert count_parameters(network.mixer.blocks) == 184_084_992
    assert count_parameters(outline(SMALL).mixer) == 52_979_712  # no maps: its width is D
    assert cost.active_parameters(XL, XL.published_params) == 712_457_488
    assert cost.active_parameters(SMALL, SMALL.published_params) == 120_476_688
    dense = PRESETS["MicroDiT_XL_2-dense"]
    assert cost.active_parameters(dense, dense.published_params) == dense.published_params


def test_layer_wise_widths_are_the_published_ones():
    sizes = XL.backbone()
    widths = [512, *[640] * 6, *[768] * 7, *[896] * 7, *[1024] * 7]
    hidden = [
        512, 768, 768, 1024, 768, 1280, 1024, 1536, 1280, 1792, 1280, 2048, 1536, 2304, 1792, 2560,
        1792, 2816, 2048, 3072, 2304, 3328, 2304, 3584, 2560, 3840, 2816, 2816,
    ]  # fmt: skip
    assert [size.attention for size in sizes] == widths
    assert [size.hidden for size in sizes] == hidden
    assert [i for i, size in enumerate(sizes) if size.experts] == list(range(1, 26, 2))
    assert [(s.hidden, s.experts) for s in XL.mixer()] == [(2048, False), (3072, True)] * 3
    small = [256, 512, 512, 768, 512, 1024, 768, 1280, 1024, 1536, 1024, 1792, 1280, 2048, 1536]
    assert [size.hidden for size in SMALL.backbone()] == [*small, 1536]
    assert [s.attention for s in SMALL.backbone()] == [
        256, *[320] * 3, *[384] * 4, *[448] * 4, *[512] * 4
    ]  # fmt: skip
    assert [s.hidden for s in SMALL.mixer()] == [1536, 2048] * 2


def test_the_network_is_built_as_its_sizes_say():
    network = build(TINY)
    blocks = [
        *zip(network.blocks, TINY.backbone(), strict=True),
        *zip(network.mixer.blocks, TINY.mixer(), strict=True),
    ]
    for block, size in blocks:
        assert block.attention.num_heads * block.attention.head_dim == size.attention
        assert isinstance(block.mlp, ExpertChoice if size.experts else SwiGLU)
        assert block.caption.num_heads * 8 == block.norm1.normalized_shape[0]
    assert [size.experts for size in TINY.backbone()] == [False, True, False]


# --- costs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "billions"),
    [(XL, [246.3, 144.3, 95.7, 72.1]), (SMALL, [45.0, 28.4, 20.7, 17.1])],
    ids=["XL", "Tiny"],
)
def test_published_operations(config, billions):
    """With the products by one-hot matrices, which the counts of the public code include."""
    counts = [cost.total_flops(config, r, one_hot=True) / 1e9 for r in (0, 0.5, 0.75, 0.875)]
    assert counts == pytest.approx(billions, abs=0.06)


def test_masking_three_quarters_saves_less_than_four_times():
    assert cost.saving(XL, 0.75, one_hot=True) == pytest.approx(2.57, abs=0.005)
    assert cost.saving(SMALL, 0.75, one_hot=True) == pytest.approx(2.17, abs=0.006)
    naive = cost.saving(replace(XL, masking="naive"), 0.75)
    assert cost.saving(XL, 0.75) < naive < 4  # the caption's path still sees everything


@pytest.mark.parametrize("masking", ["deferred", "naive"])
@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_the_count_is_that_of_the_network(masking, ratio):
    for config in (TINY, replace(TINY, mixer_dim=32), replace(TINY, num_experts=0)):
        config = replace(config, masking=masking)
        network, batch = outline(config), example(config)
        keep = random_keep(1, config.num_tokens, ratio, "meta") if ratio else None
        level = torch.zeros(1, device="meta")
        counted = count_flops(network, batch["latent"], level, batch["caption"], keep)
        assert cost.total_flops(config, ratio) == counted


def test_the_backbone_costs_as_its_kept_tokens_and_their_pairs():
    """C2: linear in M but for the quadratic attention, once the caption's share is taken off."""
    config = replace(XL, num_experts=0)

    def backbone(ratio):
        return cost.forward_flops(config, ratio)["backbone"]

    tokens = [256, 128, 64, 32]
    values = [backbone(1 - n / 256) for n in tokens]
    # value = a + b n + c n^2, with c = 4 times the sum of the attention widths
    c = 4 * sum(size.attention for size in config.backbone())
    rest = [v - c * n**2 for v, n in zip(values, tokens, strict=True)]
    slopes = [(rest[i] - rest[i + 1]) / (tokens[i] - tokens[i + 1]) for i in range(3)]
    assert slopes == pytest.approx([slopes[0]] * 3, rel=1e-12)


def test_the_bill():
    bill = cost.PUBLISHED
    assert bill.gpu_hours == pytest.approx(499.2) and bill.dollars == 1890
    assert bill.dollars_per_gpu_hour == pytest.approx(3.79, abs=0.01)
    assert bill.at_price(2.0).dollars == pytest.approx(998.4)
    again = cost.bill_of(3.45e20, bill.rate(3.45e20), 8, bill.dollars_per_gpu_hour)
    assert (again.days, again.dollars) == pytest.approx((2.6, 1890))
    assert 1890 * cost.TIMES_CHEAPER["the cheapest before"] == pytest.approx(28_400, rel=0.07)
    with pytest.raises(ValueError, match="rate must be above 0"):
        cost.bill_of(1.0, 0.0, 8, 1.0)


def test_sampling_runs_the_mixer_and_drops_nothing():
    network, seen = made(), []
    for block in (*network.mixer.blocks, *network.blocks):
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    network.sample(2, batch_of(2)[1], num_steps=2)
    assert seen == [16] * (3 * (2 + 3))  # 2 N - 1 calls of two mixer blocks and three others


# --- blocks ---------------------------------------------------------------------------------------


def test_positions_are_those_of_numpy_and_squeezed_by_the_scale():
    table = layers.positions_2d(4, 8, scale=2.0)
    for row in range(4):
        for column in range(4):
            wanted = []
            for place in (column / 2, row / 2):
                angles = [place / 10000 ** (i / 2) for i in range(2)]
                wanted += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            assert table[4 * row + column].tolist() == pytest.approx(wanted, abs=1e-6)
    fine, coarse = layers.positions_2d(32, 8, 2.0), layers.positions_2d(16, 8)
    every_second = fine.view(32, 32, 8)[::2, ::2].reshape(-1, 8)
    torch.testing.assert_close(every_second, coarse)


def peer_of(dim, width, heads, ours, cross):
    """diffusers' attention with our weights and with its norm over the whole width."""
    peer = Attention(
        dim, dim if cross else None, heads=heads, dim_head=width // heads,
        kv_heads=heads, bias=False, out_bias=False, qk_norm="layer_norm_across_heads",
    ).eval()  # fmt: skip
    if cross:
        q, (k, v) = ours.query.weight, ours.key_value.weight.chunk(2)
    else:
        q, k, v = ours.qkv.weight.chunk(3)
    with torch.no_grad():
        for layer, weight in ((peer.to_q, q), (peer.to_k, k), (peer.to_v, v)):
            layer.weight.copy_(weight)
        peer.to_out[0].weight.copy_(ours.proj.weight)
    for norm in (peer.norm_q, peer.norm_k):  # theirs have weights, 1 and 0 at first
        norm.eps = layers.EPS
    return peer


def read_by(peer, x, context):
    """Lumina's processor norms the undivided width; it leaves the output's layer to its caller."""
    context = x if context is None else context
    seen = torch.ones(context.shape[:2])
    heads = LuminaAttnProcessor2_0()(peer, x, context, attention_mask=seen)
    return peer.to_out[0](heads.flatten(2))


@pytest.mark.parametrize("cross", [False, True])
def test_attention_is_diffusers_normed_over_the_whole_width(cross):
    torch.manual_seed(0)
    dim, width = 32, 32 if cross else 16
    ours = layers.CaptionAttention(dim, 8) if cross else layers.self_attention(dim, width, 8)
    for p in ours.parameters():
        nn.init.normal_(p, std=0.3)
    assert all(p.ndim == 2 for p in ours.parameters())  # no bias, and norms without weights
    peer = peer_of(dim, width, width // 8, ours, cross)
    assert tuple(peer.norm_q.normalized_shape) == (width,)
    x, context = torch.randn(2, 6, dim), torch.randn(2, 5, dim) if cross else None
    mine = ours(x, context) if cross else ours(x)
    torch.testing.assert_close(mine, read_by(peer, x, context), rtol=1e-4, atol=1e-5)


def layer_norm(x, weight=1.0):
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, False, True) + 1e-6).sqrt() * weight


def test_a_block_is_the_sheets_formula():
    network = made()
    block = network.mixer.blocks[0]  # its condition is wider than its tokens
    x, y, c = torch.randn(2, 6, 16), torch.randn(2, 5, 16), torch.randn(2, 32)
    turned = F.gelu(c, approximate="tanh") @ block.modulation.linear.weight.T
    b1, s1, g1, b2, s2, g2 = (
        part[:, None] for part in (turned + block.modulation.linear.bias).chunk(6, 1)
    )
    want = x + g1 * block.attention(layer_norm(x, block.norm1.weight) * (1 + s1) + b1)
    want = want + block.caption(layer_norm(want, block.norm2.weight), y)
    inner = layer_norm(want, block.norm3.weight) * (1 + s2) + b2
    w1, w2 = block.mlp.w12.weight.chunk(2)
    want = want + g2 * ((F.silu(inner @ w1.T) * (inner @ w2.T)) @ block.mlp.w3.weight.T)
    torch.testing.assert_close(block(x, y, c), want, rtol=1e-4, atol=1e-4)


def test_captions_pass_norm_after_activation_and_all_places_are_averaged():
    network = made()
    caption = torch.randn(2, 5, 12)
    mlp = network.caption
    hidden = F.gelu(caption @ mlp.fc1.weight.T + mlp.fc1.bias, approximate="tanh")
    want = layer_norm(hidden, mlp.norm.weight) @ mlp.fc2.weight.T + mlp.fc2.bias
    torch.testing.assert_close(mlp(caption), want, rtol=1e-4, atol=1e-4)
    seen = []
    network.pooled.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.randn(2, 4, 8, 8), torch.zeros(2), caption)
    torch.testing.assert_close(seen[0], network.caption_block(want).mean(1), rtol=1e-4, atol=1e-4)


def test_noise_levels_are_cosines_then_sines():
    t = torch.tensor([0.3, -1.2])
    rates = [10000 ** (-i / 256) for i in range(256)]
    want = [[f(v * r) for f in (math.cos, math.sin) for r in rates] for v in t.tolist()]
    seen = []
    time = layers.TimeMlp(8)
    time.fc1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    time(t)
    torch.testing.assert_close(seen[0], torch.tensor(want), rtol=1e-4, atol=1e-5)


def test_the_start():
    """The answer is zero, blocks are shut, and each layer has the spread of its kind."""
    torch.manual_seed(0)
    config = replace(TINY, dim=128, mixer_dim=64, head_dim=16, depth=4, multiple_of=64)
    network = build(config)
    z, caption = batch_of(2, config)
    assert network(z, torch.zeros(2), caption).abs().max() == 0
    y = torch.randn(2, 5, 128)
    assert torch.equal(network.caption_block(y), y)
    for i, block in enumerate(network.blocks):
        assert block.modulation.linear.weight.abs().max() == 0
        assert block.attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.1)
        last = 0.02 / math.sqrt(2 * (i + 1))
        assert block.attention.proj.weight.std().item() == pytest.approx(last, rel=0.1)
        assert block.caption.proj.weight.std().item() == pytest.approx(last, rel=0.1)
    gate, value = network.blocks[2].mlp.w12.weight.chunk(2)
    assert gate.std().item() == pytest.approx(0.02, rel=0.1)
    assert value.std().item() == pytest.approx(0.02 / math.sqrt(6), rel=0.1)
    experts = network.blocks[1].mlp.experts
    assert experts.w1.std().item() == pytest.approx(0.02, rel=0.1)
    assert experts.w2.std().item() == pytest.approx(0.02 / 2, rel=0.1)
    for block in network.mixer.blocks:  # by the backbone's depth
        spread = block.attention.proj.weight.std().item()
        assert spread == pytest.approx(0.02 / math.sqrt(8), rel=0.1)
    bias = network.patchify.bias.abs().max().item()
    assert 0 < bias <= 1 / math.sqrt(4 * 4)  # PyTorch's own


def test_gradients_reach_every_part():
    network = made().train()
    z, caption = batch_of(8)
    network.loss({"latent": z, "caption": caption})[0].backward()
    silent = [
        name
        for name, p in network.named_parameters()
        if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert silent == []


# --- masking --------------------------------------------------------------------------------------


def change_of(network, keep, seed=3):
    """How far the kept outputs move when one dropped patch of each sample holds something else."""
    z, caption = batch_of(len(keep))
    torch.manual_seed(seed)
    dropped = (~kept_mask(keep, 16)).float().argmax(1)  # the first dropped place
    other = z.clone()
    for b, place in enumerate(dropped.tolist()):
        row, column = 2 * (place // 4), 2 * (place % 4)
        other[b, :, row : row + 2, column : column + 2] = torch.randn(4, 2, 2)
    level = torch.full((len(keep),), -0.2)
    return (network(z, level, caption, keep) - network(other, level, caption, keep)).abs().amax()


def test_a_dropped_patch_speaks_through_the_mixer_and_not_without_it():
    keep = random_keep(4, 16, 0.75)
    network = made()
    assert change_of(network, keep) > 1e-3
    naive = continued(network, replace(TINY, masking="naive")).eval()
    assert change_of(naive, keep) == 0
    deaf = made()  # a mixer whose tokens do not read each other
    for block in deaf.mixer.blocks:
        nn.init.zeros_(block.attention.proj.weight)
        if isinstance(block.mlp, Router):  # experts rank the tokens of a sample against each other
            nn.init.zeros_(block.mlp.experts.w2)
    assert change_of(deaf, keep) == 0


def test_both_maskings_are_one_network_where_nothing_is_dropped():
    z, caption = batch_of()
    network, level = made(), torch.tensor([-1.0, 0.0, 0.3, 0.7])
    naive = continued(network, replace(TINY, masking="naive")).eval()
    assert torch.equal(network(z, level, caption), naive(z, level, caption))
    every = torch.arange(16).expand(4, -1)
    same = network(z, level, caption, every)
    torch.testing.assert_close(same, network(z, level, caption), rtol=1e-4, atol=1e-5)


def test_dropped_patches_come_out_as_zeros():
    z, caption = batch_of()
    keep = random_keep(4, 16, 0.75)
    out = made()(z, torch.zeros(4), caption, keep)
    patches = out.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).reshape(4, 16, -1)
    mask = kept_mask(keep, 16)
    assert patches[~mask].abs().max() == 0 and patches[mask].abs().amin(1).min() > 0


def test_the_order_of_kept_tokens_does_not_matter():
    z, caption = batch_of()
    keep, network = random_keep(4, 16, 0.5), made()
    first = network(z, torch.zeros(4), caption, keep)
    torch.testing.assert_close(
        first, network(z, torch.zeros(4), caption, keep.flip(1)), rtol=1e-4, atol=1e-5
    )


def test_capacity_counts_the_tokens_that_are_left():
    network = made()
    z, caption = batch_of()
    sigma = torch.ones(4)
    for keep, deep in ((None, 8), (random_keep(4, 16, 0.75), 2)):
        loads = micro.expert_loads(network, network.scaled(z), sigma, caption, keep)
        assert set(loads) == {"mixer.blocks.1.mlp", "blocks.1.mlp"}
        assert (loads["mixer.blocks.1.mlp"] == 8).all()  # 2 x 16 / 4: the mixer sees them all
        assert (loads["blocks.1.mlp"] == deep).all()
    assert micro.unevenness(loads) == 1.0


# --- objective ------------------------------------------------------------------------------------


def test_the_loss_is_that_of_kept_patches_alone(monkeypatch):
    """Restated: the weighted error, averaged over channels and each kept patch of 2 x 2."""
    network = made().train()
    network.config = replace(TINY, caption_drop=0.0)
    z, caption = batch_of()
    keep = random_keep(4, 16, 0.75)
    monkeypatch.setattr("gentok.diffusion.micro_diffusion.model.random_keep", lambda *_: keep)
    torch.manual_seed(5)
    total = network.loss({"latent": z, "caption": caption})[0]
    torch.manual_seed(5)
    sigma = (-0.6 + 1.2 * torch.randn(4)).exp().view(-1, 1, 1, 1)
    noise, x, s = torch.randn_like(z), 0.9 * z, 0.9
    noisy = x + sigma * noise
    root = (sigma**2 + s**2).sqrt()
    out = network(noisy / root, sigma.log().flatten() / 4, caption, keep)
    denoised = s**2 / root**2 * noisy + sigma * s / root * out
    error = (root / (sigma * s)) ** 2 * (denoised - x) ** 2
    rows = []
    for b in range(4):
        for place in keep[b].tolist():
            row, column = 2 * (place // 4), 2 * (place % 4)
            rows.append(error[b, :, row : row + 2, column : column + 2].mean())
    assert total.item() == pytest.approx(torch.stack(rows).mean().item(), rel=1e-4)


def test_the_answer_for_a_dropped_patch_carries_no_loss():
    network = made()
    z, caption = batch_of()
    keep, noise, sigma = random_keep(4, 16, 0.75), torch.randn_like(z), torch.ones(4)
    spoiled = z.clone()
    shown = kept_mask(keep, 16).view(4, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    naive = continued(network, replace(TINY, masking="naive")).eval()
    before = naive.errors(z, noise, sigma, caption, keep)
    spoiled = torch.where(shown, z, 100.0)
    assert torch.equal(naive.errors(spoiled, noise, sigma, caption, keep), before)


def test_the_schedule_of_the_mask():
    network = build(replace(TINY, unmasked_from=10)).train()
    assert [network.ratio_at(step) for step in (0, 9, 10, 50)] == [0.75, 0.75, 0.0, 0.0]
    assert network.eval().ratio_at(0) == 0.0
    assert build(TINY).train().ratio_at(10**6) == 0.75


def test_a_training_step_drops_what_its_stage_says():
    network, seen = build(replace(TINY, unmasked_from=3)).train(), []
    network.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    z, caption = batch_of()
    for step in (0, 2, 3):
        network.loss({"latent": z, "caption": caption}, step)
    assert seen == [4, 4, 16]


def test_captions_are_dropped_whole_in_training_only():
    network = build(replace(TINY, caption_drop=0.3)).train()
    caption = torch.ones(2000, 5, 12)
    kept = network._dropped(caption)
    whole = kept.flatten(1)
    assert ((whole == 0).all(1) | (whole == 1).all(1)).all()
    assert (whole == 0).all(1).float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert torch.equal(network.eval()._dropped(caption), caption)


def test_an_exact_denoiser_has_no_loss(monkeypatch):
    network = made()
    z, caption = batch_of()
    x, noise, sigma = network.scaled(z), torch.randn_like(z), torch.tensor([0.05, 0.4, 1.0, 9.0])
    c_skip, c_out, _, _ = (scale.view(-1, 1, 1, 1) for scale in network.edm.scales(sigma))
    noisy = x + sigma.view(-1, 1, 1, 1) * noise
    monkeypatch.setattr(network, "forward", lambda *_: (x - c_skip * noisy) / c_out)
    assert network.errors(x, noise, sigma, caption).max() < 1e-6


def test_a_published_autoencoders_factor_is_used_as_it_is():
    network = build(replace(TINY, latent_scale=0.13025))
    z = torch.randn(2, 4, 8, 8) * 7
    torch.testing.assert_close(network.scaled(z), z * 0.13025)
    own = build(TINY)
    own.set_statistics(z)
    assert own.scaled(z).std().item() == pytest.approx(0.9, rel=0.01)


def test_one_batch_is_learned():
    torch.manual_seed(0)
    network = build(replace(TINY, caption_drop=0.0, unmasked_from=0)).train()
    z, caption = batch_of()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        torch.manual_seed(1)  # the same noise again and again
        loss = network.loss({"latent": z, "caption": caption})[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


# --- sampler --------------------------------------------------------------------------------------


def test_the_sampler_is_heuns_on_diffusers_scales(monkeypatch):
    """30 levels, rho 7; preconditioning by diffusers' EDM; a second slope in all steps but one."""
    network, count = made(), 6
    for p in network.parameters():
        p.data.mul_(0.4)
    _, caption = batch_of(2)
    noise = torch.randn(2, 4, 8, 8)
    mine = network.sample(2, caption, num_steps=count, guidance_scale=3.0, noise=noise)
    scheduler = EDMEulerScheduler(sigma_data=0.9)
    scheduler.set_timesteps(count)
    sigmas = scheduler.sigmas.double()

    def denoised(x, sigma):
        x = x.float()
        level = sigma.float().expand(2)
        scaled = scheduler.precondition_inputs(x, level[0])
        with torch.no_grad():
            c = network(scaled, scheduler.precondition_noise(level), caption)
            u = network(scaled, scheduler.precondition_noise(level), torch.zeros_like(caption))
        return scheduler.precondition_outputs(x, u + 3.0 * (c - u), level[0]).double()

    x = noise.double() * sigmas[0]
    for now, then in zip(sigmas, sigmas[1:], strict=False):
        slope = (x - denoised(x, now)) / now
        guess = x + (then - now) * slope
        if then > 0:
            slope = (slope + (guess - denoised(guess, then)) / then) / 2
        x = x + (then - now) * slope
    torch.testing.assert_close(mine, (x / 0.9).float(), rtol=1e-3, atol=1e-3)


def test_guidance_of_one_or_less_asks_once():
    network, rows = made(), []
    network.patchify.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    for scale, wanted in ((0.5, 2), (1.0, 2), (1.5, 4)):
        rows.clear()
        network.sample(2, batch_of(2)[1], num_steps=3, guidance_scale=scale)
        assert rows == [wanted] * 5


def test_sampling_changes_no_weight_and_no_mode():
    network = made().train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    noise, caption = torch.randn(2, 4, 8, 8), batch_of(2)[1]
    first = network.sample(2, caption, num_steps=2, noise=noise)
    assert torch.equal(network.sample(2, caption, num_steps=2, noise=noise), first)
    assert network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


# --- resolutions and rivals -----------------------------------------------------------------------


def test_a_larger_resolution_takes_every_weight():
    network = made()
    larger = replace(TINY, input_size=16, position_scale=2.0, sigma_mean=0.0, sigma_std=0.6)
    grown = continued(network, larger).eval()
    for (name, mine), theirs in zip(
        network.state_dict().items(), grown.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs), name
    assert grown.position.shape == (64, 32) and "position" not in grown.state_dict()
    out = grown(torch.randn(1, 4, 16, 16), torch.zeros(1), torch.randn(1, 5, 12))
    assert out.shape == (1, 4, 16, 16)
    with pytest.raises(ValueError, match="the weights do not fit"):
        continued(network, replace(TINY, dim=64))


def test_the_rivals_start_alike_and_meet_the_same_noise():
    ways = micro.arms(replace(TINY, unmasked_from=5), 0.5)
    assert [way.mask_ratio for way in ways.values()] == [0.0, 0.5, 0.5]
    assert [way.masking for way in ways.values()] == ["deferred", "naive", "deferred"]
    assert all(way.unmasked_from is None for way in ways.values())
    z, caption = batch_of()
    weights, sigmas = [], []
    for way in ways.values():
        torch.manual_seed(0)
        network = build(way).train()
        weights.append(network.state_dict())
        network.time.register_forward_pre_hook(lambda _, inputs: sigmas.append(inputs[0]))
        torch.manual_seed(1)
        network.loss({"latent": z, "caption": caption})
    for other, levels in zip(weights[1:], sigmas[1:], strict=True):
        assert torch.equal(levels, sigmas[0])
        assert all(torch.equal(v, weights[0][k]) for k, v in other.items())
    steps = micro.equal_steps(ways, 100)
    assert steps["deferred"] == 100 and steps["unmasked"] < 100 < steps["naive"]
    assert steps["unmasked"] == int(100 / cost.saving(TINY, 0.5))


def test_tokens_may_choose_instead_at_the_same_cost_in_parameters():
    rival = micro.token_choice(TINY)
    network = build(rival)
    assert isinstance(network.blocks[1].mlp, TokenChoice)
    assert count_parameters(network) == count_parameters(build(TINY))
    assert network.loss(dict(zip(("latent", "caption"), batch_of(), strict=True)))[0].isfinite()


def test_readouts_are_fixed():
    network = made()
    z, caption = batch_of()
    sigmas, noise = micro.fixed_sigmas(3), torch.randn_like(z)
    assert sigmas[1].item() == pytest.approx(math.exp(-0.6), rel=1e-5)
    found = micro.errors_at(network, z, caption, sigmas, noise)
    assert found.shape == (3, 4) and torch.equal(
        found, micro.errors_at(network.train(), z, caption, sigmas, noise)
    )
    want = network.eval().errors(network.scaled(z), noise, sigmas[:1].expand(4), caption)
    assert torch.equal(found[0], want)
    keep = random_keep(4, 16, 0.75)
    moved = micro.influence(network, network.scaled(z), torch.ones(4), caption, keep)
    assert moved.shape == (4,) and moved.min() > 1e-4
    naive = continued(network, replace(TINY, masking="naive")).eval()
    assert micro.influence(naive, network.scaled(z), torch.ones(4), caption, keep).max() == 0
    with pytest.raises(ValueError, match="of the latents' shape"):
        micro.errors_at(network, z, caption, sigmas, noise[:2])


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"masking": "none"}, "unknown masking 'none'"),
        ({"router": "dice"}, "unknown router 'dice'"),
        ({"patch_size": 3}, "patch_size must divide input_size"),
        ({"head_dim": 12}, "head_dim must divide"),
        ({"mixer_depth": 0}, "at least 1"),
        ({"mask_ratio": 1.0}, "mask_ratio must lie"),
    ],
)
def test_bad_sizes(change, words):
    with pytest.raises(ValueError, match=words):
        replace(TINY, **change)


def test_bad_input():
    network, (z, caption) = made(), batch_of(2)
    with pytest.raises(ValueError, match=r"x must be \(B, 4, 8, 8\), got \(2, 4, 4, 4\)"):
        network(z[..., :4, :4], torch.zeros(2), caption)
    with pytest.raises(ValueError, match=r"caption must be \(2, L, 12\), got \(1, 5, 12\)"):
        network(z, torch.zeros(2), caption[:1])
    with pytest.raises(ValueError, match="need n=3 captions, got 2"):
        network.sample(3, caption)
    with pytest.raises(ValueError, match=r"noise must be \(2, 4, 8, 8\)"):
        network.sample(2, caption, noise=torch.zeros(2, 4, 4, 4))
    with pytest.raises(ValueError, match="num_steps"):
        network.sample(2, caption, num_steps=0)
    with pytest.raises(ValueError, match="leave none for each of 8 experts"):
        crowded = build(replace(TINY, num_experts=8, mask_ratio=0.875)).train()
        crowded.loss({"latent": z, "caption": caption})
