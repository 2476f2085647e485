"""RAE: published decoders, MAE's decoder as oracle, noise, losses, and the game of its players."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gentok.base.foundation import FrozenNetwork
from gentok.latents.rae import model as rae
from gentok.latents.rae.discriminator import quantise
from gentok.latents.rae.encoder import outline_encoder
from gentok.latents.rae.model import PRESETS, RAEConfig, build, example
from gentok.measure import count_flops
from gentok.measure.features import SmallClassifier

TINY = PRESETS["tiny"]
SIZES = {
    "vit-b": (86_237_952, 197_376, 23.3),
    "vit-l": (303_887_104, 263_168, 81.3),
    "vit-xl": (415_056_640, 296_064, 110.8),
}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """An untrained encoder and an untrained classifier: no test here needs weights."""
    torch.manual_seed(0)
    classifier = SmallClassifier(10).eval().requires_grad_(False)
    monkeypatch.setattr(rae, "perceptual_network", lambda _: FrozenNetwork(lambda: classifier))
    monkeypatch.setattr(
        rae, "frozen_encoder", lambda config: FrozenNetwork(lambda: outline_encoder(config))
    )


def images(n=4, seed=0):
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def make(seed=0, **changes):
    torch.manual_seed(seed)
    return build(replace(TINY, **changes))


BARE = {"perceptual_weight": 0.0, "gan_weight": 0.0}


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIZES)
def test_published_counts_and_costs(name):
    """GMACs as counted by the sheet; the paper prints about 5 % less."""
    trainable, fixed, gmacs = SIZES[name]
    with torch.device("meta"):
        model = build(PRESETS[name])
        macs = count_flops(model.decode, torch.zeros(1, 768, 16, 16)) / 2e9
    assert model.decoder_parameters() == trainable == PRESETS[name].published_params
    assert model.decoder.position.numel() == fixed
    assert macs == pytest.approx(gmacs, abs=0.06)


@pytest.mark.parametrize("name", ["vit-xl-code", "siglip2-b", "mae-b", "vit-xl-512"])
def test_other_presets_have_the_same_decoder(name):
    sizes = ("patch_size", "dim", "depth", "num_heads", "hidden", "published_params")
    for size in sizes:
        assert getattr(PRESETS[name], size) == getattr(PRESETS["vit-xl"], size)
    assert PRESETS["vit-xl-upsample"].published_params is None  # its last layer is wider


@pytest.mark.parametrize("name", ["vit-xl-512", "vit-xl-upsample", "siglip2-b", "mae-b"])
def test_shapes_at_full_size(name):
    config = replace(PRESETS[name], depth=1)
    with torch.device("meta"):
        model = build(config)
        image = example(config, 2)["image"]
        z = model.encode(image)
    grid = 32 if name == "vit-xl-512" else 16
    assert z.shape == (2, 768, grid, grid) and z.shape[1:] == config.latent_shape
    assert model.decode(z).shape == image.shape
    assert image.shape[-1] == (512 if "512" in name or "upsample" in name else 256)


def test_frozen_networks_are_no_parameters():
    model = make()
    model.loss({"image": images()})
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert names == {"decoder", "discriminator"}
    assert not any("encoder" in name for name in model.state_dict())


# --- decoder --------------------------------------------------------------------------------------


def test_decoder_is_maes_with_the_same_weights():
    from transformers import ViTMAEConfig
    from transformers.models.vit_mae.modeling_vit_mae import ViTMAEDecoder

    decoder = make().decoder
    peer = ViTMAEDecoder(
        ViTMAEConfig(
            hidden_size=64, decoder_hidden_size=64, decoder_num_hidden_layers=3,
            decoder_num_attention_heads=4, decoder_intermediate_size=256,
            patch_size=4, layer_norm_eps=1e-12,
        ),
        num_patches=64,
    )  # fmt: skip
    for parameter in decoder.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2)
    state = {"decoder_pos_embed": decoder.position, "mask_token": peer.mask_token}
    pairs = {"decoder_norm": decoder.norm, "decoder_pred": decoder.head}
    for i, block in enumerate(decoder.blocks):
        at = f"decoder_layers.{i}."
        q = zip(("q_proj", "k_proj", "v_proj"), block.attention.qkv.weight.chunk(3), strict=True)
        state |= {f"{at}attention.{name}.weight": w for name, w in q}
        q = zip(("q_proj", "k_proj", "v_proj"), block.attention.qkv.bias.chunk(3), strict=True)
        state |= {f"{at}attention.{name}.bias": b for name, b in q}
        pairs |= {
            f"{at}attention.o_proj": block.attention.proj,
            f"{at}layernorm_before": block.norm1,
            f"{at}layernorm_after": block.norm2,
            f"{at}mlp.fc1": block.mlp.fc1,
            f"{at}mlp.fc2": block.mlp.fc2,
        }
    state |= {f"{n}.{w}": p for n, m in pairs.items() for w, p in m.named_parameters()}
    peer.decoder_embed = nn.Identity()  # ours embeds the patches and brings its own [CLS]
    torch.testing.assert_close(peer.decoder_pos_embed, decoder.position, rtol=1e-5, atol=1e-6)
    peer.load_state_dict(state)
    z = torch.randn(2, 64, 8, 8)
    tokens = decoder.embed(z.flatten(2).transpose(1, 2))
    with torch.no_grad():
        tokens = torch.cat([decoder.cls.expand(2, -1, -1), tokens], dim=1)
        theirs = peer.eval()(tokens, torch.arange(64).expand(2, -1)).logits  # (B, N, p p 3)
        ours = decoder(z)
    rows = theirs.unflatten(1, (8, 8)).unflatten(3, (4, 4, 3)).permute(0, 5, 1, 3, 2, 4)
    torch.testing.assert_close(ours, rows.reshape(2, 3, 32, 32), rtol=1e-4, atol=1e-4)


def test_latents_of_another_grid_are_resized_bilinearly():
    model, z = make().eval(), torch.randn(1, 64, 4, 4)
    larger = nn.functional.interpolate(z, (8, 8), mode="bilinear", align_corners=False)
    assert torch.equal(model.decode(z), model.decode(larger))


def test_output_comes_back_from_the_encoders_pixel_units():
    """A decoder that says 0 everywhere must paint the encoder's mean colour."""
    model = make()
    nn.init.zeros_(model.decoder.head.weight)
    nn.init.zeros_(model.decoder.head.bias)
    colour = model.decode(torch.randn(1, 64, 8, 8))[0, :, 0, 0]
    torch.testing.assert_close(colour, 2 * torch.tensor([0.485, 0.456, 0.406]) - 1)


# --- noise ----------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(tau=st.floats(0.1, 2.0), law=st.sampled_from(rae.NOISES))
def test_noise_has_one_scale_a_sample_and_the_stated_law(tau, law):
    model = make(noise=tau, noise_law=law, depth=1)
    torch.manual_seed(1)
    noise = model.add_noise(torch.zeros(500, 64, 8, 8))
    sigma = noise.flatten(1).std(1)  # 4096 numbers a sample: within a few per cent
    halves = noise[:, :32].flatten(1).std(1), noise[:, 32:].flatten(1).std(1)
    torch.testing.assert_close(*halves, rtol=0.15, atol=1e-6)
    mean, top = {"half-normal": (0.798, 9.0), "uniform": (0.5, 1.05)}[law]
    assert float(sigma.mean()) == pytest.approx(mean * tau, rel=0.12)
    assert float(sigma.max()) <= top * tau


def test_noise_acts_in_training_only_and_not_at_tau_zero():
    x = {"image": images()}
    losses = {}
    for tau, training in ((0.8, True), (0.8, False), (0.0, True)):
        model = make(noise=tau, **BARE).train(training)
        losses[tau, training] = {model.loss(x)[0].item() for _ in range(2)}
    assert len(losses[0.8, True]) == 2, "two draws of noise give two losses"
    assert losses[0.8, False] == losses[0.0, True] and len(losses[0.0, True]) == 1


# --- objective ------------------------------------------------------------------------------------


def test_l1_is_in_the_units_of_images_from_0_to_1():
    model, x = make(**BARE).eval(), images()
    total, parts = model.loss({"image": x})
    x_hat = model.decode(model.encode(x))
    expected = ((x + 1) / 2 - (x_hat + 1) / 2).abs().mean()
    torch.testing.assert_close(total, expected)
    assert set(parts) == {"l1"}


def test_parts_and_their_weights():
    model, x = make(perceptual_weight=0.7, gan_start=10).eval(), images()
    total, parts = model.loss({"image": x}, 9)
    assert set(parts) == {"l1", "perceptual"}
    torch.testing.assert_close(total.detach(), parts["l1"] + 0.7 * parts["perceptual"])
    assert "gan" in model.loss({"image": x}, 10)[1]


def test_the_adversary_pushes_with_three_quarters_of_the_gradient():
    model, x = make(gan_start=10, noise=0.0), images()
    last, gradients = model.decoder.head.weight, []
    for step in (9, 10):
        model.zero_grad()
        torch.manual_seed(2)
        model.loss({"image": x}, step)[0].backward()
        gradients.append(last.grad.clone())
    push = gradients[1] - gradients[0]
    assert float(push.norm() / gradients[0].norm()) == pytest.approx(0.75, rel=0.01)
    assert all(p.grad is None for p in model.discriminator.parameters())


def test_each_player_moves_only_its_own():
    model, batch = make(discriminator_start=0, gan_start=0), {"image": images()}
    decoder, discriminator = model.players()
    owned = [{id(p) for p in player.parameters} for player in (decoder, discriminator)]
    assert not owned[0] & owned[1]
    assert owned[0] | owned[1] == {id(p) for p in model.parameters() if p.requires_grad}
    discriminator.loss(batch, 0)[0].backward()
    assert {id(p) for p in model.parameters() if p.grad is not None} == owned[1]
    waiting, _ = make(discriminator_start=5).discriminator_loss(batch, 4)
    assert waiting.item() == 0.0 and waiting.requires_grad
    assert [p.name for p in make(**BARE).players()] == ["decoder"]


def test_discriminator_sees_eight_bits(monkeypatch):
    model, seen = make(discriminator_start=0).eval(), []
    monkeypatch.setattr(rae, "diff_augment", lambda x: seen.append(x) or x)
    model.discriminator_loss({"image": images()}, 0)
    fake = seen[1]
    torch.testing.assert_close(fake, quantise(fake), rtol=0, atol=1e-6)
    assert fake.abs().max() <= 1


@pytest.mark.slow
def test_overfits_one_batch():
    model, batch = make(noise=0.0, **BARE), {"image": images(2)}
    optimizer = torch.optim.AdamW(model.players()[0].parameters, lr=3e-3)
    first = None
    for _ in range(150):
        loss, _ = model.loss(batch)
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.35 * first


def test_same_seed_same_loss():
    totals = [make(4).loss({"image": images()}, TINY.gan_start)[0].item() for _ in range(2)]
    # The frozen stand-ins are drawn once and shared, the rest follows from the seed.
    again = [make(4).decoder(torch.ones(1, 64, 8, 8)).sum().item() for _ in range(2)]
    assert totals[0] == totals[1] and again[0] == again[1]


def test_the_whole_objective_runs_on_the_meta_device():
    """With DINOv2's and DINO's sizes: what `gentok info` counts the cost of."""
    config = replace(PRESETS["vit-b"], depth=2)
    with torch.device("meta"):
        model = build(config)
    total, parts = model.loss(example(config, 2), config.gan_start)
    assert total.is_meta and "gan" in parts


def test_bad_input():
    model = make(**BARE)
    with pytest.raises(ValueError, match=r"image must be \(B, 3, H, W\), got \(1, 1, 32, 32\)"):
        model.encode(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match=r"image must be float in \[-1, 1\], got torch.uint8"):
        model.encode(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"image must lie in \[-1, 1\], got a value of size 255"):
        model.encode(torch.full((1, 3, 32, 32), 255.0))
    with pytest.raises(ValueError, match=r"z must be \(B, 64, g, g\), got \(1, 4, 8, 8\)"):
        model.decode(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="unknown noise_law 'cauchy'"):
        RAEConfig(noise_law="cauchy")
    with pytest.raises(ValueError, match="noise must be 0 or more, got -0.1"):
        RAEConfig(noise=-0.1)
