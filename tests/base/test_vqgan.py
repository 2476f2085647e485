"""VQGAN: counts, parity with diffusers' VQModel, the rules of the adversarial game, bad input."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from diffusers import VQModel

from gentok.base import vqgan
from gentok.data import class_images
from gentok.measure import SmallClassifier, count_parameters, perceptual_distance
from gentok.nn.conv import AttentionBlock2d, ResBlock

TINY = vqgan.PRESETS["tiny"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return vqgan.build(TINY).eval()


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.rand(2, 3, 32, 32) * 2 - 1


def game_of(start: int = 0, features: bool = False) -> vqgan.AdversarialVQGAN:
    torch.manual_seed(0)
    tokenizer = vqgan.build(replace(TINY, gan_start=start))
    return vqgan.AdversarialVQGAN(tokenizer, SmallClassifier() if features else None).train()


@pytest.mark.parametrize("name", ["vqgan-f16-1024", "vqgan-f16-16384"])
def test_published_parameter_counts(name):
    config = vqgan.PRESETS[name]
    with torch.device("meta"):
        tokenizer = vqgan.build(config)
    assert count_parameters(tokenizer) == config.published_params
    assert count_parameters(tokenizer.encoder) == 29_298_176
    assert count_parameters(tokenizer.decoder) == 42_449_795
    assert count_parameters(tokenizer.before) + count_parameters(tokenizer.after) == 131_584
    assert tokenizer.latents(vqgan.example(config)["image"]).shape == (1, 16, 16, 256)


def test_shapes_and_round_trip(model, images):
    codes = model.encode(images)
    assert codes.shape == (2, 64) and codes.dtype == torch.int64
    assert int(codes.min()) >= 0 and int(codes.max()) < TINY.codebook_size
    x_hat, again, commitment = model(images)
    assert x_hat.shape == images.shape and commitment.ndim == 0
    assert torch.equal(again, codes)
    torch.testing.assert_close(model.decode(codes), x_hat)


def test_codes_are_the_nearest_vectors(model, images):
    z = model.latents(images).flatten(1, 2)  # (B, N, D)
    distances = (z[:, :, None] - model.quantizer.codebook).square().sum(-1)  # (B, N, K)
    chosen = distances.gather(-1, model.encode(images)[..., None])[..., 0]
    torch.testing.assert_close(chosen, distances.amin(-1))


def test_tiny_latents_have_unit_variance_in_every_channel(images):
    tokenizer = vqgan.build(TINY).train()
    z = tokenizer.latents(torch.cat([images, 0.2 * images, images.flip(-1)])).flatten(0, 2)
    torch.testing.assert_close(z.mean(0), torch.zeros(TINY.code_dim), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        z.var(0, unbiased=False), torch.ones(TINY.code_dim), rtol=0.02, atol=0
    )


def test_encode_never_moves_the_codebook(images):
    tokenizer = vqgan.build(TINY).train()
    before = tokenizer.quantizer.codebook.clone()
    tokenizer.encode(images)
    assert torch.equal(tokenizer.quantizer.codebook, before) and tokenizer.quantizer.training
    tokenizer(images)
    assert not torch.equal(tokenizer.quantizer.codebook, before)


def test_encoder_learns_through_the_codes(images):
    """Straight through: the reconstruction error alone must reach the first convolution."""
    tokenizer = vqgan.build(TINY)
    F.l1_loss(tokenizer(images)[0], images).backward()
    gradient = tokenizer.encoder.conv_in.weight.grad
    assert gradient is not None and gradient.abs().max() > 0
    assert tokenizer.quantizer.codebook.grad is None


def test_loss_is_the_sum_of_its_parts(images):
    torch.manual_seed(2)
    tokenizer = vqgan.build(replace(TINY, perceptual_weight=0.5)).eval()
    network = SmallClassifier().eval()
    total, parts = tokenizer.loss({"image": images}, features=network)
    x_hat, codes, _ = tokenizer(images)
    z = tokenizer.latents(images).flatten(1, 2)
    expected = (
        (x_hat - images).abs().mean()
        + TINY.commitment * (z - tokenizer.quantizer.lookup(codes)).square().mean()
        + 0.5 * perceptual_distance(network, images, x_hat).mean()
    )
    torch.testing.assert_close(total, expected)
    assert set(parts) == {"l1", "commitment", "perceptual"}
    assert not any(value.requires_grad for value in parts.values())


def test_players_share_no_parameter_and_cover_all_learned_ones():
    game = game_of(features=True)
    tokenizer, discriminator = (player.parameters for player in game.players())
    assert not {id(p) for p in tokenizer} & {id(p) for p in discriminator}
    learned = {id(p) for p in game.parameters() if p.requires_grad}
    assert {id(p) for p in tokenizer + discriminator} == learned
    assert id(game.tokenizer.quantizer.codebook) not in learned
    assert not any(p.requires_grad for p in game.features.parameters())


def test_each_turn_moves_one_player_only(images):
    game = game_of()
    total, parts = game.loss({"image": images}, step=0)
    total.backward()
    assert all(p.grad is None for p in game.discriminator.parameters())
    assert all(p.requires_grad for p in game.discriminator.parameters())
    assert {"generator", "adaptive_weight"} <= set(parts)
    game.zero_grad()
    game.discriminator_loss({"image": images}, step=0)[0].backward()
    assert all(p.grad is None or not p.grad.any() for p in game.tokenizer.parameters())
    assert any(p.grad.any() for p in game.discriminator.parameters())


def test_adaptive_weight_balances_the_gradients_at_the_last_layer(images):
    game = game_of()
    x_hat, reconstruction, _ = game.tokenizer.reconstruct(images)
    fooling = -game.discriminator(x_hat).mean()
    last = game.tokenizer.decoder.conv_out.weight
    rec = torch.autograd.grad(reconstruction, last, retain_graph=True)[0].norm()
    adv = torch.autograd.grad(fooling, last)[0].norm()
    game = game_of()  # the same weights, and a codebook that has not moved yet
    weight = game.loss({"image": images}, step=0)[1]["adaptive_weight"]
    torch.testing.assert_close(weight, TINY.gan_weight * rec / (adv + 1e-4), rtol=1e-3, atol=0)


def test_the_adversary_waits_for_its_start(images):
    game = game_of(start=5)
    total, parts = game.loss({"image": images}, step=4)
    assert "generator" not in parts
    idle, _ = game.discriminator_loss({"image": images}, step=4)
    idle.backward()
    assert idle.item() == 0.0
    assert all(not p.grad.any() for p in game.discriminator.parameters())
    assert "generator" in game.loss({"image": images}, step=5)[1]


def test_feature_network_stays_in_eval_mode():
    game = game_of(features=True)
    assert game.tokenizer.training and game.discriminator.training
    assert not game.features.training


@pytest.mark.slow
def test_overfits_one_batch():
    images = class_images(2, 32, seed=3).floats()
    torch.manual_seed(0)
    tokenizer = vqgan.build(TINY)
    learned = [p for p in tokenizer.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=3e-3, fused=True)
    errors = []
    for step in range(150):
        total, parts = tokenizer.loss({"image": images}, step)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        errors.append(parts["l1"].item())
    assert errors[-1] < 0.4 * errors[0]


def test_same_seed_same_result(images):
    results = []
    for _ in range(2):
        game = game_of()
        results.append(game.loss({"image": images}, step=0)[0])
    assert torch.equal(*results)


def test_encoder_and_decoder_equal_diffusers(images):
    """The same weights in diffusers' VQModel give the same latents, codes and reconstruction."""
    torch.manual_seed(3)
    config = replace(TINY, multipliers=(1, 2), normalize_latents=False)
    ours = vqgan.build(config).eval()
    width = config.channels
    theirs = VQModel(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[width, 2 * width],
        layers_per_block=config.num_res_blocks,
        latent_channels=8,
        num_vq_embeddings=config.codebook_size,
        norm_num_groups=config.groups,
        vq_embed_dim=8,
    ).eval()
    for mine, other in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
        copy(mine.conv_in, other.conv_in)
        copy(mine.norm_out, other.conv_norm_out)
        copy(mine.conv_out, other.conv_out)
        middle = other.mid_block
        copy_res(mine.middle[0], middle.resnets[0])
        copy_attention(mine.middle[1], middle.attentions[0])
        copy_res(mine.middle[2], middle.resnets[1])
        layers = iter(mine.stages)
        up = hasattr(other, "up_blocks")
        for block in other.up_blocks if up else other.down_blocks:
            for resnet in block.resnets:
                copy_res(next(layers), resnet)
            for sampler in (block.upsamplers if up else block.downsamplers) or []:
                copy(next(layers).conv, sampler.conv)
        assert next(layers, None) is None
    copy(ours.before, theirs.quant_conv)
    copy(ours.after, theirs.post_quant_conv)
    theirs.quantize.embedding.weight.data.copy_(ours.quantizer.codebook)
    with torch.no_grad():
        latents = theirs.encode(images).latents
        torch.testing.assert_close(ours.latents(images).permute(0, 3, 1, 2), latents)
        their_codes = theirs.quantize(latents)[2][2].view(2, -1)
        assert torch.equal(ours.encode(images), their_codes)
        x_hat = theirs.decode(latents).sample
        torch.testing.assert_close(ours(images)[0], x_hat, rtol=1e-4, atol=1e-4)


def copy(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    theirs.load_state_dict(ours.state_dict())


def copy_res(ours: ResBlock, theirs: torch.nn.Module) -> None:
    assert isinstance(ours, ResBlock)
    for name in ("norm1", "conv1", "norm2", "conv2"):
        copy(getattr(ours, name), getattr(theirs, name))
    if theirs.conv_shortcut is not None:
        copy(ours.skip, theirs.conv_shortcut)


def copy_attention(ours: AttentionBlock2d, theirs: torch.nn.Module) -> None:
    copy(ours.norm, theirs.group_norm)
    copy(ours.proj, theirs.to_out[0])
    parts = zip(ours.qkv.weight.chunk(3), ours.qkv.bias.chunk(3), strict=True)
    for layer, (weight, bias) in zip((theirs.to_q, theirs.to_k, theirs.to_v), parts, strict=True):
        layer.load_state_dict({"weight": weight, "bias": bias})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(2, 3, 30, 32), "multiples of 4"),
        (torch.zeros(2, 1, 32, 32), "B, 3, H, W"),
        (torch.zeros(3, 32, 32), "B, 3, H, W"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "float in"),
    ],
)
def test_bad_images(model, bad, message):
    with pytest.raises(ValueError, match=message):
        model.encode(bad)


def test_bad_codes_and_config(model):
    with pytest.raises(ValueError, match="square"):
        model.decode(torch.zeros(1, 63, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\[0, 64\)"):
        model.decode(torch.full((1, 64), TINY.codebook_size))
    with pytest.raises(ValueError, match="image_size must be a multiple of 4"):
        vqgan.build(replace(TINY, image_size=30))
