"""ViTok: published sizes, the count of floats, positions, the loss, and stage 2."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaConfig,
    LlamaMLP,
    LlamaRotaryEmbedding,
)

from gentok.base.foundation import FrozenNetwork
from gentok.data import photographs
from gentok.latents.vitok import model as vitok
from gentok.latents.vitok.discriminator import StyleDiscriminator, blur_half
from gentok.latents.vitok.model import PRESETS, SIZES, ViTokConfig, build, cell, example
from gentok.latents.vitok.patch_pca import PatchPCA
from gentok.latents.vitok.readout import change, explained, quality, reconstruct, slope
from gentok.latents.vitok.stack import GridRope, Stack, StackConfig, video_positions
from gentok.latents.vitok.tuning import TuningConfig, build_tuning
from gentok.measure import SmallClassifier, count_parameters
from gentok.measure.cost import count_flops

TINY = StackConfig(24, 2, 2)
SMALL = ViTokConfig(
    TINY, StackConfig(48, 1, 4), image_size=16, patch_size=4, latent_channels=3,
    perceptual_weight=0.0,
)  # fmt: skip
VIDEO = replace(
    SMALL, encoder=StackConfig(24, 1, 2), decoder=StackConfig(24, 1, 2), frames=4, tubelet=2
)
# Both halves and the stacks alone, from the layers of the public code.
HALVES = {"s": (43_163_960, 43_151_643), "b": (85_711_184, 85_698_867),
          "l": (383_693_360, 383_674_899)}  # fmt: skip
STACKS = {"s": 42_548_760, "b": 85_095_984, "l": 382_770_576}


def made(config=SMALL, seed=0):
    """A model whose every weight is random: no zero hides a mistake."""
    torch.manual_seed(seed)
    network = build(config)
    for p in network.parameters():
        nn.init.normal_(p, std=0.2)
    return network


def images(n=3, side=16, frames=None):
    shape = (n, 3, side, side) if frames is None else (n, frames, 3, side, side)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


# --- published sizes ------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", "sbl")
def test_published_halves(letter):
    with torch.device("meta"):
        network = build(ViTokConfig(SIZES[letter], SIZES[letter]))
    counts = [
        sum(count_parameters(part) for part in parts)
        for parts in (network.encoder_parts(), network.decoder_parts())
    ]
    assert tuple(counts) == HALVES[letter]
    assert count_parameters(network.encoder) == STACKS[letter]


@pytest.mark.parametrize(("letter", "gmacs"), [("s", 11.63), ("b", 23.12), ("l", 101.76)])
def test_published_cost(letter, gmacs):
    with torch.device("meta"):
        network = build(ViTokConfig(SIZES[letter], SIZES[letter]))
        x = torch.zeros(1, 3, 256, 256)
        macs = count_flops(network.encode, x) / 2e9
    assert macs == pytest.approx(gmacs, abs=0.01)


@pytest.mark.parametrize("name", [n for n, c in PRESETS.items() if c.published_params])
def test_published_totals(name):
    with torch.device("meta"):
        network = build(PRESETS[name])
    assert count_parameters(network) == PRESETS[name].published_params


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_shapes(name):
    config = PRESETS[name]
    with torch.device("meta"):
        network, batch = build(config), example(config, 2)
        z = network.encode(batch[network.latent_space.batch_key])
        assert z.shape == (2, *config.latent_shape)
        assert network.decode(z).shape == batch[network.latent_space.batch_key].shape
    assert math.prod(config.latent_shape) == config.floats == network.latent_space.numbers


def test_published_settings():
    for name, config in PRESETS.items():
        if name.startswith(("tiny", "study", "world")):
            continue
        assert (config.gate, config.rope, config.reconstruction) == ("gelu", "1d", "l2")
        assert config.perceptual_network == "vgg-lpips" and config.image_size in (128, 256, 512)
        beta = 3e-4 * 4096 / config.floats if config.frames > 1 else 1e-3
        assert config.kl_weight == pytest.approx(beta)
    assert {PRESETS[f"s-b-1x{p}x{c}"].floats for p, c in ((8, 4), (16, 64), (32, 64))} == {
        4096, 16_384,
    }  # fmt: skip
    assert PRESETS["s-b-4x8"].tokens == 1024 and PRESETS["s-b-4x16"].tokens == 256
    assert PRESETS["s-l-1x16"].encoder.dim == 768 and PRESETS["s-l-1x16"].decoder.dim == 1152
    assert [SIZES[k].hidden for k in "sbl"] == [2050, 2050, 3075]


# --- E --------------------------------------------------------------------------------------------


def test_floats_are_those_of_the_mean_alone():
    """E = L c; a code holds no log-variance, and decoding reads none."""
    network = made().eval()
    z = network.encode(images())
    assert z[0].numel() == SMALL.floats == 16 * 3
    assert network.to_code.out_features == 2 * SMALL.latent_channels
    with torch.no_grad():
        network.to_code.weight[3:] += 1.0  # the log-variances
        network.to_code.bias[3:] += 1.0
    assert torch.equal(network.encode(images()), z)
    assert cell(4, 8).floats == cell(8, 32).floats == 512


# --- layers ---------------------------------------------------------------------------------------


def test_patches_are_the_strided_convolutions():
    """A video's tubelets are cut and put together in raster order, time slowest."""
    network, x = made(VIDEO), images(2, 16, 4)
    rows = F.unfold(
        x.unflatten(1, (2, 2)).flatten(0, 1).transpose(1, 2).reshape(4, 6, 16, 16), 4, stride=4
    )  # (B t, 6 p p, h w), channels before frames
    weight = network.to_tokens.weight.flatten(1)  # (D, 3 q p p)
    tokens = (rows.transpose(1, 2) @ weight.T + network.to_tokens.bias).reshape(2, 32, 24)
    mine = network.to_tokens(x.transpose(1, 2)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(mine, tokens, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [2, 4])
def test_a_block_is_llamas_but_for_its_norms(heads):
    """Same weights; `transformers` turns channels half a head apart, we neighbours."""
    dim, tokens = 32, 10
    size = StackConfig(dim, 1, heads)
    torch.manual_seed(0)
    stack = Stack(size, "silu", "1d")
    for p in stack.parameters():
        nn.init.normal_(p, std=0.3)
    block, d = stack.blocks[0], dim // heads
    config = LlamaConfig(
        hidden_size=dim, intermediate_size=size.hidden, num_attention_heads=heads,
        num_key_value_heads=heads, attention_bias=True, mlp_bias=True, rope_theta=10000.0,
        attn_implementation="eager",
    )  # fmt: skip
    theirs, mlp = LlamaAttention(config, 0).eval(), LlamaMLP(config).eval()
    order = torch.cat([torch.arange(0, d, 2), torch.arange(1, d, 2)])
    order = torch.cat([order + d * h for h in range(heads)])
    q, k, v = block.attention.qkv.weight.chunk(3)
    values = {
        "q_proj": (q[order], None), "k_proj": (k[order], None), "v_proj": (v, None),
        "o_proj": (block.attention.proj.weight, block.attention.proj.bias),
    }  # fmt: skip
    with torch.no_grad():
        for name, (weight, bias) in values.items():
            layer = getattr(theirs, name)
            layer.weight.copy_(weight)
            layer.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)
        pairs = (("gate_proj", "fc1"), ("up_proj", "fc2"), ("down_proj", "fc3"))
        for there, here in pairs:
            getattr(mlp, there).load_state_dict(getattr(block.mlp, here).state_dict())
        x = torch.randn(2, tokens, dim)
        turns = LlamaRotaryEmbedding(config)(x, torch.arange(tokens)[None])
        y = x + theirs(block.norm1(x), turns, None)[0]
        y = stack.norm(y + mlp(block.norm2(y)))
        mine = stack(x, (1, 2, 5))
    torch.testing.assert_close(mine, y, rtol=1e-4, atol=1e-4)


def test_the_stack_is_the_public_codes():
    stack = Stack(SIZES["s"], "gelu", "1d")
    assert isinstance(stack.blocks[0].mlp.gate, nn.GELU)
    assert stack.blocks[0].mlp.gate.approximate == "none"
    norms = [layer for layer in stack.modules() if isinstance(layer, nn.LayerNorm)]
    assert len(norms) == 13 and {layer.eps for layer in norms} == {1e-5}
    attention = stack.blocks[0].attention
    assert attention.qkv.bias is None and attention.proj.bias is not None


def test_axial_turns():
    """Channels of the first half turn with the column, of the second with the row."""
    turns = GridRope(16, "axial")((1, 3, 4))  # (12, 8, 2)
    table = torch.view_as_complex(turns).view(3, 4, 8)
    angles = table.angle()
    assert torch.allclose(angles[:, :, :4], angles[:1, :, :4].expand(3, -1, -1))
    assert torch.allclose(angles[:, :, 4:], angles[:, :1, 4:].expand(-1, 4, -1))
    frequencies = 10000.0 ** (-4 * torch.arange(4) / 16)
    torch.testing.assert_close(angles[0, 1, :4], frequencies, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(angles[1, 0, 4:], frequencies, rtol=1e-5, atol=1e-6)


def test_axial_turns_of_video():
    turns = GridRope(16, "axial", axes=3)
    assert turns.rope.axis_dims == (6, 6, 4)
    table = torch.view_as_complex(turns((2, 3, 4))).view(2, 3, 4, 8).angle()
    assert torch.allclose(table[0, ..., :6], table[1, ..., :6]), "frames turn the last pairs alone"
    assert not torch.allclose(table[0, ..., 6:], table[1, ..., 6:])


def test_positions_of_video():
    table = video_positions((2, 3, 4), 24).view(2, 3, 4, 6, 4)
    t, y, x = 1, 2, 3
    row = table[t, y, x]
    frequencies = torch.tensor([10000.0 ** (-i / 3) for i in range(4)])
    for k, place in enumerate((t, x, y)):
        torch.testing.assert_close(row[2 * k], (place * frequencies).sin())
        torch.testing.assert_close(row[2 * k + 1], (place * frequencies).cos())
    with pytest.raises(ValueError, match="multiple of 6 above 6"):
        video_positions((1, 1, 1), 8)


@pytest.mark.parametrize("rope", [None, "1d", "axial"])
def test_without_rope_the_halves_are_blind_to_order(rope):
    """Permuted tokens come out permuted; patches of the picture move with their codes."""
    network = made(replace(SMALL, rope=rope)).eval()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    x = images()
    z = network.encode(x)
    shuffled = z.flatten(2)[:, :, order].view_as(z)

    def patches(picture):
        return F.unfold(picture, 4, stride=4)

    moved = F.fold(patches(x)[:, :, order], 16, 4, stride=4)
    same = torch.allclose(patches(network.decode(z))[:, :, order],
                          patches(network.decode(shuffled)), atol=1e-4)  # fmt: skip
    assert same == (rope is None)
    assert torch.allclose(network.encode(moved), shuffled, atol=1e-4) == (rope is None)


def test_every_code_reaches_every_pixel():
    network = made().eval()
    z = network.encode(images(1)).detach().requires_grad_()
    network.decode(z)[0, :, 0, 0].sum().backward()
    assert (z.grad.abs() > 0).all(), "attention is full"


def test_start():
    torch.manual_seed(0)
    network = build(replace(SMALL, encoder=StackConfig(96, 1, 4)))
    qkv = network.encoder.blocks[0].attention.qkv.weight
    assert qkv.abs().max() <= math.sqrt(6 / (4 * 96)) and network.to_code.bias.abs().max() == 0
    patch = network.to_tokens.weight.flatten(1)
    bound = math.sqrt(6 / (48 + 96))
    assert 0.9 * bound < patch.abs().max() <= bound
    assert network.to_tokens.bias.abs().max() > 0, "PyTorch's own start"


# --- loss -----------------------------------------------------------------------------------------


def test_the_loss_is_the_sheets(monkeypatch):
    torch.manual_seed(0)
    classifier = SmallClassifier(10).eval()
    monkeypatch.setattr(vitok, "perceptual_network", lambda _: FrozenNetwork(lambda: classifier))
    network = made(replace(SMALL, perceptual_weight=0.3, kl_weight=0.7))
    x = images()
    torch.manual_seed(2)
    total, parts = network.loss({"image": x})
    torch.manual_seed(2)
    posterior = network.posterior(x)
    z = posterior.mean + (posterior.logvar / 2).exp() * torch.randn_like(posterior.mean)
    y = network.decode(z.squeeze(2))
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(
        normal(posterior.mean, posterior.std), normal(torch.zeros(()), torch.ones(()))
    ).mean()
    assert parts["reconstruction"].item() == pytest.approx(F.mse_loss(y, x).item(), rel=1e-5)
    assert parts["kl"].item() == pytest.approx(kl.item(), rel=1e-4)
    want = parts["reconstruction"] + 0.7 * parts["kl"] + 0.3 * parts["perceptual"]
    assert total.item() == pytest.approx(want.item(), rel=1e-5)
    assert parts["perceptual"] > 0


def test_absolute_errors():
    network, x = made(replace(SMALL, reconstruction="l1", kl_weight=0.0)), images()
    torch.manual_seed(2)
    total, _ = network.loss({"image": x})
    torch.manual_seed(2)
    y = network.decode(network.encode(x, sample=True))
    assert total.item() == pytest.approx(F.l1_loss(y, x).item(), rel=1e-5)


@pytest.mark.parametrize("config", [SMALL, VIDEO])
def test_gradients_reach_every_weight(config):
    network = made(config)
    key = network.latent_space.batch_key
    network.loss({key: images(2, 16, None if key == "image" else 4)})[0].backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


def test_means_are_what_evaluation_decodes():
    network, x = made().eval(), images()
    assert torch.equal(network.encode(x), network.posterior(x).mean.squeeze(2))
    torch.manual_seed(0)
    assert not torch.equal(network.encode(x, sample=True), network.encode(x))
    assert network.encode(images(1, 24)).shape == (1, 3, 6, 6), "other sizes are read, too"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"patch_size": 5}, "patch_size must divide"),
        ({"frames": 3, "tubelet": 2}, "tubelet frames"),
        ({"reconstruction": "l3"}, "unknown reconstruction 'l3'"),
    ],
)
def test_bad_sizes(change, says):
    with pytest.raises(ValueError, match=says):
        replace(SMALL, **change)


def test_bad_input():
    network = made()
    for wrong in (images(1, 18), images(1)[:, :1], images(1)[0], (images(1) * 100).long()):
        with pytest.raises(ValueError, match="x must be float"):
            network.encode(wrong)
    with pytest.raises(ValueError, match=r"z must be \(B, 3, h, w\)"):
        network.decode(torch.zeros(1, 4, 4, 4))
    with pytest.raises(ValueError, match="T a multiple of 2"):
        made(VIDEO).encode(images(1, 16, 3))
    with pytest.raises(ValueError, match="unknown rope"):
        build(replace(SMALL, rope="2d"))
    with pytest.raises(ValueError, match="unknown gate"):
        build(replace(SMALL, gate="relu"))


# --- stage 2 --------------------------------------------------------------------------------------


def test_published_discriminator():
    with torch.device("meta"):
        network = StyleDiscriminator(256)
        assert network(torch.zeros(2, 3, 256, 256)).shape == (2,)
    assert count_parameters(network) == 26_320_897
    widths = [block.first.in_channels for block in network.blocks]
    assert widths == [64, 128, 256, 512, 512, 512]


def test_the_blur_is_stylegans():
    x = torch.rand(2, 3, 8, 8)
    kernel = torch.tensor([1.0, 3, 3, 1])
    kernel = kernel[:, None] * kernel / 64
    padded = F.pad(x, (1, 1, 1, 1))
    want = torch.stack([
        torch.stack([(padded[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] * kernel).sum((2, 3))
                     for j in range(4)], -1)
        for i in range(4)
    ], -2)  # fmt: skip
    torch.testing.assert_close(blur_half(x), want)


@pytest.mark.parametrize(("size", "largest", "says"), [
    (24, 8, "power of two"), (4, 8, "power of two"), (256, 4, "at least 8"),
])  # fmt: skip
def test_bad_discriminators(size, largest, says):
    with pytest.raises(ValueError, match=says):
        StyleDiscriminator(size, largest)
    with pytest.raises(ValueError, match=r"x must be \(B, 3, 16, 16\)"):
        StyleDiscriminator(16, 4)(torch.zeros(1, 3, 32, 32))


GAME = TuningConfig(SMALL, gan_weight=0.5, gan_start=2, gan_ramp=4, largest=8)


def test_stage_2_leaves_the_encoder_side_as_it_was():
    """Bit for bit, after steps of both players with momentum and weight decay."""
    torch.manual_seed(0)
    tokenizer = made()
    game = build_tuning(GAME).begin(tokenizer)
    before = {k: v.clone() for k, v in game.tokenizer.state_dict().items()}
    players = game.players()
    optimizers = [torch.optim.AdamW(p.parameters, 1e-2, weight_decay=0.1) for p in players]
    judged = {k: v.clone() for k, v in game.discriminator.state_dict().items()}
    for step in range(4):
        for player, optimizer in zip(players, optimizers, strict=True):
            player.loss({"image": images()}, step)[0].backward()
            optimizer.step()
            optimizer.zero_grad()
    after = game.tokenizer.state_dict()
    frozen = [k for k in before if k.split(".")[0] in ("to_tokens", "encoder", "to_code")]
    assert frozen and all(torch.equal(before[k], after[k]) for k in frozen)
    assert not any(torch.equal(before[k], after[k]) for k in before if k not in frozen)
    still = [k for k, v in game.discriminator.state_dict().items() if torch.equal(judged[k], v)]
    # Inside both hinges a common level of all answers makes no difference.
    assert set(still) <= {"judge.bias"}
    assert torch.equal(tokenizer.encode(images()), game.tokenizer.encode(images()))


def test_the_schedule_of_the_adversary():
    assert [GAME.weight(step) for step in range(8)] == [0, 0, 0, 0.125, 0.25, 0.375, 0.5, 0.5]
    assert TuningConfig(SMALL, gan_start=1250, gan_ramp=12_500).weight(7500) == pytest.approx(0.5)
    game = build_tuning(GAME)
    for p in game.parameters():
        nn.init.normal_(p, std=0.1)
    for step in (0, 4):
        torch.manual_seed(1)
        total, parts = game.loss({"image": images()}, step)
        torch.manual_seed(1)
        plain, _ = game.tokenizer.loss({"image": images()})
        want = plain + GAME.weight(step) * parts["gan"]
        assert total.item() == pytest.approx(want.item(), rel=1e-5)


def test_the_discriminator_judges_what_was_made_before_the_step():
    game = build_tuning(GAME)
    batch = {"image": images()}
    torch.manual_seed(1)
    game.loss(batch, 0)
    torch.manual_seed(1)
    x_hat = game.tokenizer.objective(batch["image"])[2]
    loss, parts = game.discriminator_loss(batch, 0)
    real, fake = game.discriminator(batch["image"]), game.discriminator(x_hat)
    want = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
    assert loss.item() == pytest.approx(want.item(), rel=1e-5)
    assert parts["fake"].item() == pytest.approx(fake.mean().item(), rel=1e-4)
    loss.backward()
    assert all(p.grad is None for p in game.tokenizer.parameters())
    assert game._made == [], "nothing is judged twice"


def test_without_an_adversary_stage_2_is_stage_1():
    game = build_tuning(replace(GAME, gan_weight=0.0))
    assert game.discriminator is None and [p.name for p in game.players()] == ["decoder"]
    video = build_tuning(replace(GAME, tokenizer=VIDEO))
    batch = {"video": images(2, 16, 4)}
    assert video.loss(batch, 3)[0].isfinite() and video.discriminator_loss(batch, 3)[0].isfinite()


# --- readout --------------------------------------------------------------------------------------


def test_patch_pca_is_scikit_learns():
    from sklearn.decomposition import PCA

    x = photographs(16, "train", 0, 60).floats()
    mine = PatchPCA(x, 4, 5)
    rows = F.unfold(x, 4, stride=4).transpose(1, 2).reshape(-1, 48)
    theirs = PCA(5, svd_solver="full").fit(rows.double().numpy())
    again = theirs.inverse_transform(theirs.transform(rows.double().numpy()))
    torch.testing.assert_close(
        F.unfold(mine.decode(mine.encode(x)), 4, stride=4).transpose(1, 2).reshape(-1, 48),
        torch.tensor(again).float(), rtol=1e-3, atol=1e-4,
    )  # fmt: skip
    assert mine.encode(x).shape == (60, 5, 4, 4)
    whole = PatchPCA(x, 2, 12)
    torch.testing.assert_close(whole.decode(whole.encode(x)), x, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"\[1, 12\]"):
        PatchPCA(x, 2, 13)


def test_what_explains():
    assert explained([1, 2, 3.0], [5, 3, 1]) == pytest.approx(1)
    assert explained([1, 0, 1, 0.0], [1, 1, 2, 2]) == pytest.approx(0, abs=1e-12)
    assert explained([1, 2, 3.0], [4, 4, 4]) == 0
    assert slope([1, 3, 5.0], [0, 1, 2]) == pytest.approx(2)
    with pytest.raises(ValueError, match="three points"):
        explained([1, 2], [1, 2])


def test_quality():
    x = photographs(16, "test", 0, 20).floats()
    same = quality(x, x)
    assert same["mse"] == 0 and same["detail"] == pytest.approx(1)
    worse = quality(x, F.avg_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert worse["detail"] < 1 and worse["high_mse"] > 0
    network = made()
    assert reconstruct(network, x).abs().max() <= 1 and network.training


def test_change_sees_the_encoder_side_alone():
    first, second = made(), made()
    assert change(first, second) == 0
    with torch.no_grad():
        second.decoder.norm.weight.add_(1)
        assert change(first, second) == 0
        second.to_code.bias[0] += 0.5
    assert change(first, second) == pytest.approx(0.5)
