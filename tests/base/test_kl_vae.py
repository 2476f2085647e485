"""KL-VAE: published sizes, parity with diffusers, the parts of its objective, its game."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gentok.base import kl_vae
from gentok.base.foundation import FrozenNetwork
from gentok.base.kl_vae import PRESETS, KLVAEConfig, build, example
from gentok.measure.features import SmallClassifier

SMALL = KLVAEConfig(
    image_size=16,
    latent_channels=4,
    channels=8,
    multipliers=(1, 2, 2),
    num_res_blocks=1,
    groups=4,
    perceptual_weight=0.0,
    gan_weight=0.0,
)


@pytest.fixture
def offline(monkeypatch):
    """Let an untrained classifier stand in for the stored one: no test here needs its weights."""
    torch.manual_seed(0)
    network = SmallClassifier(10).eval().requires_grad_(False)
    for name in ("foundation_network", "perceptual_network"):
        monkeypatch.setattr(kl_vae, name, lambda name: FrozenNetwork(lambda: network))
    return network


def images(n=4, size=16, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("name", [n for n, c in PRESETS.items() if c.published_params])
def test_published_counts_are_exact(name):
    with torch.device("meta"):
        model = build(PRESETS[name])
    assert model.tokenizer_parameters() == PRESETS[name].published_params


def test_parts_of_va_vae():
    with torch.device("meta"):
        model = build(PRESETS["va-vae-f16d32"])
    parts = (model.encoder, model.decoder, model.quant_conv, model.post_quant_conv)
    counts = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert counts == [28_413_248, 41_417_603, 4_160, 1_056]
    assert model.vf.project.weight.shape == (1024, 32, 1, 1)
    assert sum(p.numel() for p in model.discriminator.parameters()) == 2_765_633


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_run_on_the_meta_device(name):
    with torch.device("meta"):
        model = build(PRESETS[name])
    z = model.encode(example(PRESETS[name], 2)["image"])
    assert z.shape[1:] == PRESETS[name].latent_shape
    assert model.decode(z).shape == example(PRESETS[name], 2)["image"].shape


def with_diffusers_names(model):
    """Our state dict under diffusers' names: both list the same layers in the same order."""

    def attention(prefix, block):
        q, k, v = block.qkv.weight.chunk(3)
        bq, bk, bv = block.qkv.bias.chunk(3)
        out = {"group_norm": block.norm, "to_out.0": block.proj}
        named = {f"{prefix}.{n}.{w}": p for n, m in out.items() for w, p in m.named_parameters()}
        for n, w, b in (("to_q", q, bq), ("to_k", k, bk), ("to_v", v, bv)):
            named |= {f"{prefix}.{n}.weight": w, f"{prefix}.{n}.bias": b}
        return named

    def residual(prefix, block):
        parts = {"norm1": block.norm1, "conv1": block.conv1, "norm2": block.norm2}
        parts |= {"conv2": block.conv2, "conv_shortcut": block.skip}
        return {f"{prefix}.{n}.{w}": p for n, m in parts.items() for w, p in m.named_parameters()}

    state = {}
    for side, stages, jump in (("encoder", "down_blocks", "down"), ("decoder", "up_blocks", "up")):
        ours = getattr(model, side)
        block, res, att = 0, 0, 0
        for layer in ours.stages:
            kind = type(layer).__name__
            if kind == "ResBlock":
                state |= residual(f"{side}.{stages}.{block}.resnets.{res}", layer)
                res += 1
            elif kind == "AttentionBlock2d":
                state |= attention(f"{side}.{stages}.{block}.attentions.{att}", layer)
                att += 1
            else:
                prefix = f"{side}.{stages}.{block}.{jump}samplers.0.conv"
                state |= {f"{prefix}.{w}": p for w, p in layer.conv.named_parameters()}
                block, res, att = block + 1, 0, 0
        state |= residual(f"{side}.mid_block.resnets.0", ours.middle[0])
        state |= attention(f"{side}.mid_block.attentions.0", ours.middle[1])
        state |= residual(f"{side}.mid_block.resnets.1", ours.middle[2])
        ends = {"conv_in": ours.conv_in, "conv_norm_out": ours.norm_out, "conv_out": ours.conv_out}
        state |= {f"{side}.{n}.{w}": p for n, m in ends.items() for w, p in m.named_parameters()}
    for name in ("quant_conv", "post_quant_conv"):
        state |= {f"{name}.{w}": p for w, p in getattr(model, name).named_parameters()}
    return state


@pytest.mark.parametrize("attention", [False, True])
def test_same_as_diffusers_with_the_same_weights(attention):
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    stages = (1,) if attention else ()
    config = replace(
        SMALL,
        channels=32,
        multipliers=(1, 2),
        num_res_blocks=2,
        groups=32,
        attention_stages=stages,
        decoder_attention_stages=stages,
    )
    model = build(config).eval()
    last = ("AttnDownEncoderBlock2D", "AttnUpDecoderBlock2D") if attention else (
        "DownEncoderBlock2D", "UpDecoderBlock2D"
    )  # fmt: skip
    peer = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D", last[0]),
        up_block_types=(last[1], "UpDecoderBlock2D"),
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=32,
    ).eval()
    if attention:  # diffusers' heads there have 8 channels by default; the published block has one
        for block in (peer.encoder.down_blocks[1], peer.decoder.up_blocks[0]):
            for layer in block.attentions:
                layer.heads = 1
                layer.scale = 64**-0.5
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    peer.load_state_dict(with_diffusers_names(model))
    x = images(2, 32)
    with torch.no_grad():
        theirs, ours = peer.encode(x).latent_dist, model.posterior(x)
        torch.testing.assert_close(ours.mean, theirs.mean, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.logvar, theirs.logvar, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.kl(), theirs.kl(), rtol=1e-4, atol=1e-3)
        z = torch.randn(2, 4, 16, 16)
        torch.testing.assert_close(model.decode(z), peer.decode(z).sample, rtol=1e-4, atol=1e-4)


def test_objective_is_the_published_sum_over_the_number_of_values(offline):
    """Against LDM's formula: (sum |x - x_hat| + sum p + 1e-6 sum KL) / B, over C H W."""
    config = replace(SMALL, perceptual_weight=0.7, kl_weight=0.01)
    model, x = build(config), images()
    torch.manual_seed(5)
    total, parts = model.loss({"image": x})
    torch.manual_seed(5)
    posterior = model.posterior(x)
    x_hat = model.decode(posterior.sample())
    maps = zip(offline.features(x), offline.features(x_hat), strict=True)
    unit = nn.functional.normalize
    p = sum((unit(a) - unit(b)).square().sum(1).mean((1, 2)) for a, b in maps)  # (B,)
    per_pixel = (x - x_hat).abs() + 0.7 * p[:, None, None, None]
    mean, var = posterior.mean, posterior.logvar.exp()
    kl = 0.5 * (mean**2 + var - 1 - posterior.logvar).sum()
    published = (per_pixel.sum() + 0.01 * kl) / len(x)
    torch.testing.assert_close(total, published / x[0].numel(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(parts["kl"], kl / len(x), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind, power", [("l1", 1), ("l2", 2)])
def test_reconstruction_norm(kind, power):
    model, x = build(replace(SMALL, reconstruction=kind, kl_weight=0.0)), images()
    torch.manual_seed(1)
    total, parts = model.loss({"image": x})
    torch.manual_seed(1)
    expected = (x - model.decode(model.encode(x, sample=True))).abs().pow(power).mean()
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(parts["reconstruction"], expected.detach())


def test_the_adversary_enters_at_its_step_with_a_balanced_gradient():
    config = replace(SMALL, gan_weight=0.5, gan_start=10, kl_weight=0.0)
    config = replace(config, discriminator_channels=8, discriminator_layers=1)
    torch.manual_seed(0)
    model, batch = build(config), {"image": images()}
    assert "gan" not in model.loss(batch, 9)[1]
    last = model.decoder.conv_out.weight
    gradients = []
    for step in (9, 10):
        torch.manual_seed(3)
        model.zero_grad()
        model.loss(batch, step)[0].backward()
        gradients.append(last.grad.clone())
    adversarial = gradients[1] - gradients[0]
    # 0.5 x the reconstruction's gradient norm, whatever the discriminator's own scale.
    assert float(adversarial.norm() / gradients[0].norm()) == pytest.approx(0.5, rel=0.01)
    assert all(p.grad is None for p in model.discriminator.parameters())


@pytest.mark.parametrize(("part", "published"), [("gan", 1e4), ("vf", 1e8)])
def test_caps_are_the_public_codes_in_the_unit_of_means(offline, part, published):
    """Of losses summed over V values the caps are 1e4 and 1e8; of means they are that / V."""
    config = replace(SMALL, kl_weight=0.0, gan_start=0, discriminator_layers=1)
    config = replace(config, discriminator_channels=8, vf_channels=96, **{f"{part}_weight": 0.5})
    torch.manual_seed(0)
    model, x = build(config), images()
    if part == "gan":
        # Logits without a gradient: the ratio is |grad L_rec| / 1e-4, and the cap decides.
        last = [m for m in model.discriminator.modules() if isinstance(m, nn.Conv2d)][-1]
        last.weight.data.zero_()
        last.bias.data.fill_(2.0)
    else:
        model.vf.margins = (2.0, 2.0)  # nothing is asked for: no gradient, and a loss of 0
    seen = []
    ratio = kl_vae.gradient_ratio
    model._balance = lambda *a: seen.append((a, ratio(*a))) or seen[-1][1]
    model.loss({"image": x}, 0)
    ((fidelity, other, weight, largest), found) = seen[0]
    assert largest == pytest.approx(published / 768)
    (gradient,) = torch.autograd.grad(fidelity, weight, retain_graph=True)
    summed = 768 * gradient.norm() / 1e-4  # what the public code computes, before its cap
    assert float(found) == pytest.approx(float(summed.clamp(0, published)) / 768, rel=1e-4)
    assert (float(summed) > published) == (part == "gan")


def test_large_presets_see_through_lpips_and_small_ones_through_a_substitute():
    for name, config in PRESETS.items():
        small = name in ("tiny", "world-32")
        assert config.perceptual_network == ("world" if small else "vgg-lpips"), name
        assert config.perceptual_weight == (0.1 if small else 1.0)


def test_a_published_preset_without_lpips_says_what_it_needs(monkeypatch):
    monkeypatch.delenv("GENTOK_DATA", raising=False)
    model = build(replace(SMALL, perceptual_weight=1.0))
    with pytest.raises(FileNotFoundError, match=r"LPIPS weights vgg16.*GENTOK_DATA"):
        model.loss({"image": images()})


def test_each_player_moves_only_its_own():
    config = replace(SMALL, gan_weight=0.5, gan_start=0, discriminator_layers=1)
    model, batch = build(config), {"image": images()}
    players = {player.name: player for player in model.players()}
    mine, theirs = (
        {id(p) for p in players[n].parameters} for n in ("autoencoder", "discriminator")
    )
    assert not mine & theirs
    assert mine | theirs == {id(p) for p in model.parameters()}
    players["discriminator"].loss(batch, 0)[0].backward()
    moved = {id(p) for p in model.parameters() if p.grad is not None}
    assert moved == theirs
    model.config = replace(config, gan_start=5)
    before, _ = model.discriminator_loss(batch, 4)
    assert before.item() == 0.0 and before.requires_grad


def test_no_discriminator_no_second_player():
    assert [p.name for p in build(SMALL).players()] == ["autoencoder"]


def test_sampling_and_mean_differ_and_repeat():
    model, x = build(SMALL).eval(), images()
    torch.manual_seed(0)
    first = model.encode(x, sample=True)
    torch.manual_seed(0)
    assert torch.equal(first, model.encode(x, sample=True))
    assert torch.equal(model.encode(x), model.posterior(x).mean)
    assert not torch.equal(first, model.encode(x))


@pytest.mark.slow
def test_overfits_one_batch():
    torch.manual_seed(0)
    model, batch = build(replace(SMALL, kl_weight=1e-6)), {"image": images(2)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = None
    for _ in range(150):
        loss, parts = model.loss(batch)
        first = first or float(parts["reconstruction"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(parts["reconstruction"]) < 0.35 * first


def test_bad_input():
    model = build(SMALL)
    with pytest.raises(ValueError, match=r"x must be \(B, 3, H, W\) .* multiples of 4, got"):
        model.encode(torch.zeros(1, 3, 18, 16))
    with pytest.raises(ValueError, match=r"got \(1, 1, 16, 16\)"):
        model.encode(torch.zeros(1, 1, 16, 16))
    with pytest.raises(ValueError, match=r"x must be float in \[-1, 1\], got torch.uint8"):
        model.encode(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"x must lie in \[-1, 1\], got a value of size 255"):
        model.encode(torch.full((1, 3, 16, 16), 255.0))
    with pytest.raises(ValueError, match=r"z must be \(B, 4, h, w\), got \(1, 3, 4, 4\)"):
        model.decode(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="unknown reconstruction 'huber'"):
        replace(SMALL, reconstruction="huber")
    with pytest.raises(ValueError, match="image_size must be a multiple of 4"):
        replace(SMALL, image_size=30)
