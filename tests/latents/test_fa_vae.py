"""FA-VAE: two branches that never meet but in the inverse transform, and their fair rivals."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gentok.base import kl_vae
from gentok.base.foundation import FrozenNetwork
from gentok.base.kl_vae import KLVAE
from gentok.latents.fa_vae.model import (
    PRESETS,
    CoupledWaveletVAE,
    FAVAEConfig,
    HighBranch,
    baselines,
    build,
    example,
    merge,
    split,
)
from gentok.measure.features import SmallClassifier

TINY = PRESETS["tiny"]
BARE = replace(
    TINY,
    low=replace(TINY.low, perceptual_weight=0.0, vf_weight=0.0, gan_weight=0.0),
    high=replace(TINY.high, gan_weight=0.0),
)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """An untrained classifier stands in for the stored one: no test here needs its weights."""
    torch.manual_seed(0)
    network = SmallClassifier(10).eval().requires_grad_(False)
    for name in ("foundation_network", "perceptual_network"):
        monkeypatch.setattr(kl_vae, name, lambda name: FrozenNetwork(lambda: network))


def images(n=4, seed=0):
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_split_and_merge_are_inverse_and_stay_in_range():
    x = images()
    low, high = split(x)
    torch.testing.assert_close(merge(low, high), x, rtol=0, atol=1e-6)
    torch.testing.assert_close(low, nn.functional.avg_pool2d(x, 2), rtol=0, atol=1e-6)
    assert split(torch.ones(1, 3, 4, 4))[0].max() == 1.0
    stripes = torch.tensor([1.0, -1.0]).repeat(2).expand(1, 3, 4, 4)
    assert split(stripes)[1].abs().max() == 8.0 == TINY.high.input_range


def test_losses_of_each_branch_are_the_papers():
    low, high = TINY.low, TINY.high
    assert (low.reconstruction, high.reconstruction) == ("l2", "l1")
    assert low.perceptual_weight > 0 and high.perceptual_weight == 0
    assert low.vf_weight > 0 and high.vf_weight == 0
    assert low.gan_weight == high.gan_weight == 0.5
    _, parts = build(TINY).loss({"image": images()}, TINY.low.gan_start)
    assert set(parts) == {
        "low/reconstruction", "low/kl", "low/perceptual", "low/vf", "low/gan",
        "high/reconstruction", "high/kl", "high/gan",
    }  # fmt: skip


def test_nothing_passes_between_the_branches():
    torch.manual_seed(0)
    model, batch = build(TINY), {"image": images()}
    for player in model.players():
        model.zero_grad()
        player.loss(batch, TINY.low.gan_start)[0].backward()
        side = player.name.split("/")[0] + "."
        touched = {name for name, p in model.named_parameters() if p.grad is not None}
        assert touched and all(name.startswith(side) for name in touched), player.name
    # One latent half moves only its own bands.
    z = model.encode(batch["image"])
    low, high = split(model.decode(z))
    moved = z.clone()
    moved[:, : TINY.low.latent_channels] += 1.0
    low_moved, high_moved = split(model.decode(moved))
    torch.testing.assert_close(high_moved, high, rtol=0, atol=1e-5)
    assert (low_moved - low).abs().mean() > 1e-2


def test_players_own_every_parameter_once():
    model = build(TINY)
    players = model.players()
    assert [p.name for p in players] == [
        "low/autoencoder", "low/discriminator", "high/autoencoder", "high/discriminator",
    ]  # fmt: skip
    owned = [id(p) for player in players for p in player.parameters]
    assert len(owned) == len(set(owned))
    assert set(owned) == {id(p) for p in model.parameters()}


def test_latents_are_stacked_low_first():
    model, x = build(TINY).eval(), images()
    z = model.encode(x)
    assert z.shape[1:] == TINY.latent_shape == (8, 8, 8)
    assert torch.equal(z[:, :4], model.low.posterior(split(x)[0]).mean)
    assert torch.equal(z[:, 4:], model.high.posterior(split(x)[1]).mean)


@pytest.mark.parametrize("preset", ["tiny", "study-32", "photographs-64"])
def test_rivals_have_equal_latents_and_parameters(preset):
    ours = PRESETS[preset]
    model, side = build(ours), ours.image_size
    rivals = {"pixel": KLVAE, "coupled": CoupledWaveletVAE}
    for name, config in baselines(preset).items():
        rival = rivals[name](config)
        assert config.latent_shape == ours.latent_shape, name
        assert config.reconstruction == "l1" and config.gan_weight == ours.low.gan_weight
        ratio = rival.tokenizer_parameters() / model.tokenizer_parameters()
        assert abs(ratio - 1) < 0.02, (name, ratio)
        x = torch.nn.functional.interpolate(images(2), size=side)
        assert rival.decode(rival.encode(x)).shape == x.shape
        assert rival.loss({"image": x}, config.gan_start)[0].isfinite()


def test_coupled_rival_sees_the_image_in_its_bands():
    model, x = CoupledWaveletVAE(baselines()["coupled"]), images()
    bands = model.values(x)
    assert bands.shape == (4, 12, 16, 16)
    torch.testing.assert_close(model.views(bands), x, rtol=0, atol=1e-6)


def test_bands_as_pictures_for_the_ablation():
    high = HighBranch(replace(TINY.high, perceptual_weight=1.0))
    x = torch.randn(2, 9, 4, 4)
    pictures = high.views(x)
    assert pictures.shape == (6, 3, 4, 4)
    assert torch.equal(pictures[4], x[1, 3:6])  # second image, band HL
    assert "perceptual" in high.loss({"image": images()})[1]


def test_presets_run_on_the_meta_device():
    for name, config in PRESETS.items():
        with torch.device("meta"):
            model = build(config)
        z = model.encode(example(config, 2)["image"])
        assert z.shape[1:] == config.latent_shape, name
        assert model.decode(z).shape == example(config, 2)["image"].shape


def test_branch_sizes_of_the_sheet():
    """Options A and B hold the counts of a branch with 32 latent channels, but for 16 of them."""
    expected = {
        ("f16d32-a", "low"): (25_460_800, 37_283_971),
        ("f16d32-a", "high"): (25_467_712, 37_290_889),
        ("f16d32-b", "low"): (27_674_304, 40_382_979),
    }
    for (name, side), counts in expected.items():
        config = replace(getattr(PRESETS[name], side), latent_channels=32)
        with torch.device("meta"):
            branch = KLVAE(config)
        found = tuple(
            sum(p.numel() for p in part.parameters()) for part in (branch.encoder, branch.decoder)
        )
        assert found == counts
    # As many latent floats as VA-VAE f16d32.
    assert PRESETS["f16d32-a"].latent_shape == kl_vae.PRESETS["va-vae-f16d32"].latent_shape


@pytest.mark.slow
def test_overfits_one_batch():
    torch.manual_seed(0)
    model, batch = build(BARE), {"image": images(2)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with torch.no_grad():
        start = (model.decode(model.encode(batch["image"])) - batch["image"]).square().mean()
    for _ in range(150):
        loss, _ = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        end = (model.decode(model.encode(batch["image"])) - batch["image"]).square().mean()
    assert end < 0.25 * start


def test_same_seed_same_model_same_loss():
    totals = []
    for _ in range(2):
        torch.manual_seed(4)
        totals.append(build(TINY).loss({"image": images()}, TINY.low.gan_start)[0].item())
    assert totals[0] == totals[1]


def test_bad_input():
    model = build(BARE)
    with pytest.raises(ValueError, match=r"image must be \(B, 3, H, W\), got \(1, 1, 32, 32\)"):
        model.encode(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match=r"image must be float in \[-1, 1\], got torch.uint8"):
        model.encode(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"x must lie in \[-1, 1\]"):
        model.encode(torch.full((1, 3, 32, 32), 255.0))
    with pytest.raises(ValueError, match="even H and W"):
        model.encode(torch.zeros(1, 3, 31, 32))
    with pytest.raises(ValueError, match=r"z must be \(B, 8, h, w\), got \(1, 4, 8, 8\)"):
        model.decode(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="low and high must share one latent grid"):
        FAVAEConfig(replace(TINY.low, image_size=32), TINY.high)
    with pytest.raises(ValueError, match="low and high must have 3 and 9 input channels"):
        FAVAEConfig(TINY.high, TINY.high)
