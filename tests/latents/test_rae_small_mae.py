"""The small MAE: its checkpoint is what RAE's loader reads, and its loss is on hidden patches."""

from dataclasses import replace

import pytest
import torch
import transformers

from gentok.latents.rae.encoder import load_encoder
from gentok.latents.rae.small_mae import PRESETS, SmallMAEConfig, build, example

SMALL = SmallMAEConfig(image_size=16, dim=16, depth=2, num_heads=2, decoder_dim=16, decoder_heads=2)


@pytest.fixture(autouse=True)
def quiet():
    transformers.utils.logging.disable_progress_bar()


def images(n=4, size=16):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_what_it_saves_is_read_by_the_loader_of_published_weights(tmp_path):
    torch.manual_seed(0)
    model = build(SMALL)
    encoder = load_encoder(SMALL.encoder(model.save(tmp_path))).eval()
    with torch.no_grad():
        tokens = encoder(images())
        model.network.vit.config.mask_ratio = 0.0
        pixels = ((images() + 1) / 2 - model.mean) / model.std
        noise = torch.arange(16.0).expand(4, -1)
        theirs = model.eval().network.vit(pixel_values=pixels, noise=noise).last_hidden_state
    # A fresh LayerNorm has weight 1 and bias 0, so the affine makes no difference yet.
    torch.testing.assert_close(tokens, theirs[:, 1:], rtol=1e-4, atol=1e-4)


def test_loss_is_the_error_of_the_hidden_patches_alone():
    torch.manual_seed(0)
    model, x = build(SMALL).eval(), images()
    torch.manual_seed(3)
    total, parts = model.loss({"image": x})
    torch.manual_seed(3)
    noise = torch.rand(4, 16)
    hidden = noise.argsort(1).argsort(1) >= 4  # a quarter of 16 patches is kept
    pixels = ((x + 1) / 2 - model.mean) / model.std
    patches = pixels.unfold(2, 4, 4).unfold(3, 4, 4)  # (B, 3, 4, 4, p, p)
    patches = patches.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)  # (B, N, p p 3)
    target = (patches - patches.mean(-1, keepdim=True)) / (
        patches.var(-1, keepdim=True) + 1e-6
    ).sqrt()
    guess = model.network(pixel_values=pixels, noise=noise).logits
    expected = (guess - target).square().mean(-1)[hidden].mean()
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(parts["masked"], total.detach())


def test_same_seed_same_masks():
    torch.manual_seed(0)
    model, losses = build(SMALL), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(model.loss({"image": images()})[0].item())
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.slow
def test_it_learns():
    torch.manual_seed(0)
    model, losses = build(SMALL), []
    ramp = torch.linspace(-1, 1, 16).expand(8, 3, 16, 16).clone()
    ramp[4:] = ramp[:4].transpose(2, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        loss, _ = model.loss({"image": ramp})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.4 * losses[0]


def test_runs_on_the_meta_device():
    with torch.device("meta"):
        model = build(PRESETS["tiny"])
    assert model.to("meta").loss(example(PRESETS["tiny"], 2))[0].is_meta


def test_encoder_sizes_follow():
    config = replace(SMALL, dim=32, depth=3).encoder("somewhere")
    assert (config.dim, config.depth, config.family, config.grid) == (32, 3, "vit_mae", 4)
    assert config.name == "somewhere"
