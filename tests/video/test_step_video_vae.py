"""The Video-VAE of Step-Video: sizes, causality, the two paths, chunks and seams."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.measure import SmallClassifier, count_parameters
from gentok.nn.conv3d import pixel_unshuffle_3d
from gentok.video.step_video import vae as video_vae
from gentok.video.step_video import vae_layers as layers
from gentok.video.step_video.vae_game import VideoVAEGame, perceptual_features

TINY = replace(
    video_vae.PRESETS["tiny"],
    latent_channels=2,
    encoder_channels=4,
    encoder_multipliers=(1, 1, 2, 4),
    decoder_channels=4,
    decoder_multipliers=(1, 1, 2, 4),
    groups=2,
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return video_vae.build(TINY).eval()


def clip(frames=17, n=1):
    torch.manual_seed(1)
    return torch.rand(n, frames, 3, 32, 32) * 2 - 1


# --- sizes ----------------------------------------------------------------------------------------


def test_published_sizes():
    counts = {}
    for name in ("video-vae-v1", "video-vae-v2"):
        config = video_vae.PRESETS[name]
        with torch.device("meta"):
            network = video_vae.build(config)
        assert count_parameters(network) == config.published_params
        counts[name] = count_parameters(network.encoder), count_parameters(network.decoder)
        total, _ = network.loss(video_vae.example(config))
        assert total.is_meta
        z = network.encode(video_vae.example(config)["video"])
        assert z.shape == (1, *config.latent_shape)
    assert counts["video-vae-v2"] == (109_885_696, 388_933_123)
    assert config.latent_shape == (3, 64, 34, 62)


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (9, 2), (17, 3), (34, 6), (18, 4)])
def test_frames_and_latent_frames(model, frames, latents):
    z = model.encode(clip(frames))
    assert z.shape == (1, latents, 2, 2, 2)
    assert model.decode(z).shape == (1, frames, 3, 32, 32)


@pytest.mark.parametrize(("frames", "latents"), [(8, 2), (2, 2), (16, 3), (20, 5)])
def test_any_number_of_frames_by_holding_the_last(model, frames, latents):
    x = clip(frames)
    z = model.encode(x)
    assert z.shape == (1, latents, 2, 2, 2)
    held = torch.cat([x, x[:, -1:].expand(-1, 17 - frames % 17, -1, -1, -1)], 1)
    more = model.encode(held)[:, :latents]
    torch.testing.assert_close(z, more, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.decode(z, frames=frames), model.decode(z)[:, :frames])
    with pytest.raises(ValueError, match=r"frames must lie in \[1, "):
        model.decode(z, frames=40)


def test_a_picture_is_a_clip_of_one_frame(model):
    x = clip(1, n=3)
    z = model.encode(x[:, 0])
    assert z.shape == (3, 1, 2, 2, 2) and torch.equal(z, model.encode(x))
    # Nothing is shared between the pictures of a batch, and the first frame of a clip is one.
    torch.testing.assert_close(z[1:2], model.encode(x[1:2, 0]), rtol=1e-4, atol=1e-5)
    longer = torch.cat([x, clip(16, n=3)], 1)
    torch.testing.assert_close(z, model.encode(longer)[:, :1], rtol=1e-4, atol=1e-5)


def test_two_hundred_and_four_frames_are_twelve_chunks():
    with torch.device("meta"):
        network = video_vae.build(TINY)
        z = network.encode(torch.zeros(1, 204, 3, 32, 32))
        assert z.shape[1] == 36 and network.decode(z).shape[1] == 204


def test_version_one_takes_the_rest_in_fours():
    config = replace(TINY, patchify=False, frame_norm=False)
    model = video_vae.build(config).eval()
    assert config.left_over == (1, 5, 9, 13, 17) and TINY.left_over == (1, 9, 17)
    x = clip(6)
    assert model.encode(x).shape == (1, 3, 2, 4, 4)
    assert model.decode(model.encode(x), frames=6).shape == x.shape
    assert model.encode(clip(5)).shape[1] == 2


def test_version_one_keeps_five_latent_frames():
    torch.manual_seed(0)
    network = video_vae.build(replace(TINY, patchify=False, frame_norm=False))
    z = network.encode(clip())
    assert z.shape == (1, 5, 2, 4, 4) and network.decode(z).shape == (1, 17, 3, 32, 32)


# --- causality ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=6)
@given(frame=st.integers(0, 16))
def test_latents_see_only_frames_up_to_their_own(frame):
    """Latent 0 holds frame 0, latent 1 frames 1 to 8, latent 2 frames 9 to 16."""
    torch.manual_seed(0)
    model, x = video_vae.build(TINY).eval(), clip()
    changed = x.clone()
    changed[:, frame] = -changed[:, frame]
    with torch.no_grad():
        same = (model.encode(x) == model.encode(changed)).flatten(2).all(-1)[0]  # (3,)
    first = -(-frame // 8)
    assert same[:first].all(), "a later frame changed an earlier latent"
    assert not same[first:].any(), "a frame does not reach its own latent"


@pytest.mark.parametrize("frame_norm", [True, False])
def test_without_frame_norm_the_future_leaks(frame_norm):
    torch.manual_seed(0)
    model, x = video_vae.build(replace(TINY, frame_norm=frame_norm)).eval(), clip()
    changed = x.clone()
    changed[:, 16] = 1
    with torch.no_grad():
        leaks = not torch.equal(model.encode(x)[:, :2], model.encode(changed)[:, :2])
    assert leaks != frame_norm


def test_a_shorter_clip_has_the_same_first_latents(model):
    x = clip()
    with torch.no_grad():
        z = model.encode(x)
        torch.testing.assert_close(model.encode(x[:, :9]), z[:, :2], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.encode(x[:, :1]), z[:, :1], rtol=1e-4, atol=1e-5)
        x_hat = model.decode(z)
        torch.testing.assert_close(model.decode(z[:, :2]), x_hat[:, :9], rtol=1e-4, atol=1e-5)


def test_chunks_are_independent(model):
    x = clip(34)
    with torch.no_grad():
        z = model.encode(x)
        apart = torch.cat([model.encode(x[:, :17]), model.encode(x[:, 17:])], 1)
        assert torch.equal(z, apart)
        video = model.decode(z, blend=False)
        parts = torch.cat([model.decode(z[:, :3]), model.decode(z[:, 3:])], 1)
        assert torch.equal(video, parts)


def test_attention_is_causal_over_the_flattened_order():
    torch.manual_seed(0)
    layer, x = layers.CausalAttention3d(8, 2, per_frame=True), torch.randn(1, 8, 2, 2, 2)
    tokens = layer.norm(x).flatten(2).transpose(1, 2)[0]  # (8, C)
    q, k, v = layer.qkv(tokens).chunk(3, dim=-1)
    scores = (q @ k.T / 8**0.5).masked_fill(torch.ones(8, 8).triu(1).bool(), -torch.inf)
    expected = x + layer.proj(scores.softmax(-1) @ v).T.view(1, 8, 2, 2, 2)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


# --- the two paths --------------------------------------------------------------------------------


def test_shortcut_of_the_encoder_averages_neighbouring_channels():
    torch.manual_seed(0)
    layer, x = layers.Patchify(16, 64, shortcut=True), torch.randn(1, 16, 5, 4, 4)
    torch.nn.init.zeros_(layer.conv.conv.weight)
    torch.nn.init.zeros_(layer.conv.conv.bias)
    folded = pixel_unshuffle_3d(x, 2)  # (1, 128, 3, 2, 2)
    expected = (folded[:, 0::2] + folded[:, 1::2]) / 2
    torch.testing.assert_close(layer(x), expected)
    layer.shortcut = False
    assert not layer(x).any()


def test_paths_undo_each_other_where_nothing_is_averaged():
    """With as many channels out as in, the shortcut alone moves pixels there and back."""
    down, up = layers.Patchify(4, 32, True), layers.Unpatchify(32, 4, True)
    for layer in (down, up):
        torch.nn.init.zeros_(layer.conv.conv.weight)
        torch.nn.init.zeros_(layer.conv.conv.bias)
    x = torch.randn(2, 4, 5, 4, 4)
    torch.testing.assert_close(up(down(x)), x)


def test_shortcuts_have_no_parameters():
    plain = video_vae.build(replace(TINY, shortcuts=False))
    assert count_parameters(plain) == count_parameters(video_vae.build(TINY))


def test_every_shortcut_carries_a_signal(model):
    """With the four convolutions around the latent silent, frames still reach the output."""
    for conv in (
        model.encoder.patchify.conv,
        model.encoder.conv_out,
        model.decoder.conv_in,
        model.decoder.unpatchify.conv,
    ):
        torch.nn.init.zeros_(conv.conv.weight)
        torch.nn.init.zeros_(conv.conv.bias)
    with torch.no_grad():
        a, b = (model.decode(model.encode(x)) for x in (clip(), -clip()))
        assert not torch.allclose(a, b)
        model.encoder.config = model.decoder.config = replace(TINY, shortcuts=False)
        z = model.encode(clip())
        assert not z.any(), "no path is left"


# --- seams ----------------------------------------------------------------------------------------


def test_blending_of_seams_by_hand():
    video = torch.zeros(1, 51, 1, 1, 1)
    video[0, :, 0, 0, 0] = torch.arange(51.0)
    out = video_vae.blend_seams(video)[0, :, 0, 0, 0]
    for front in (16, 33):
        back = 0.6 * (front + 1) + 0.4 * front
        assert out[front + 1].item() == pytest.approx(back)
        assert out[front].item() == pytest.approx(0.6 * front + 0.4 * back)
    untouched = [i for i in range(51) if i not in (16, 17, 33, 34)]
    assert torch.equal(out[untouched], torch.arange(51.0)[untouched])
    assert torch.equal(video_vae.blend_seams(video[:, :17]), video[:, :17])


# --- training -------------------------------------------------------------------------------------


def test_upsampling_adds_its_input_inside_and_outside():
    torch.manual_seed(0)
    layer, x = layers.VideoUpsample(4, 2, True), torch.randn(1, 4, 2, 2, 2)
    torch.nn.init.zeros_(layer.norm2.weight)
    big = x.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    torch.testing.assert_close(layer(x), F.silu(big) + big)


def test_gradients_reach_every_parameter(model):
    model.train().loss({"video": clip()})[0].backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_loss_is_pixels_and_kl(model):
    torch.manual_seed(3)
    total, parts = model.loss({"video": clip()})
    values = 17 * 3 * 32 * 32
    expected = parts["l1"] + TINY.kl_weight * parts["kl"] / values
    torch.testing.assert_close(total.detach(), expected)
    posterior = model.posterior(clip())
    torch.testing.assert_close(parts["kl"], posterior.kl().mean().detach())
    assert posterior.mean.shape == (1, 3, 2, 2, 2)


def test_pixel_errors_may_be_squared(model):
    x, errors = clip(), {}
    for squared in (False, True):
        model.config = replace(TINY, squared=squared, kl_weight=0.0)
        torch.manual_seed(3)
        x_hat, total, _ = model.reconstruct(x)
        errors[squared] = total.item(), (x_hat - x).detach()
    assert errors[False][0] == pytest.approx(errors[False][1].abs().mean().item(), rel=1e-6)
    assert errors[True][0] == pytest.approx(errors[True][1].square().mean().item(), rel=1e-6)


def test_the_game_adds_an_adversary_when_its_time_comes(model):
    game = VideoVAEGame(model, SmallClassifier()).train()
    assert not game.features.training and len(game.players()) == 2
    batch = {"video": clip()}
    early, parts = game.loss(batch, step=0)
    assert "perceptual" in parts and "generator" not in parts
    assert game.discriminator_loss(batch, step=0)[0].item() == 0
    late, parts = game.loss(batch, step=TINY.gan_start)
    assert "generator" in parts
    late.backward()
    assert all(p.grad is None for p in game.discriminator.parameters())
    total, _ = game.discriminator_loss(batch, step=TINY.gan_start)
    model.zero_grad()
    total.backward()
    assert all(p.grad is not None for p in game.discriminator.parameters())
    assert not any(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.slow
def test_overfits_one_clip():
    torch.manual_seed(0)
    network = video_vae.build(TINY).train()
    batch = {"video": F.interpolate(torch.rand(17, 3, 2, 2), size=32, mode="bilinear")[None]}
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-2)
    losses = []
    for _ in range(25):
        loss, parts = network.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(parts["l1"].item())
    assert losses[-1] < 0.6 * losses[0]


def test_same_seed_same_numbers():
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        network = video_vae.build(TINY)
        results.append(network.loss({"video": clip()})[0].item())
    assert results[0] == results[1]


def test_bad_input(model):
    with pytest.raises(ValueError, match="multiples of 16, got 40 and 32"):
        replace(TINY, height=40)
    with pytest.raises(ValueError, match="must have four levels"):
        replace(TINY, encoder_multipliers=(1, 2))
    with pytest.raises(ValueError, match="multiple of 17 frames, plus 1 or 9, got 16"):
        model.loss({"video": clip(16)})
    with pytest.raises(ValueError, match="H and W multiples of 16"):
        model.encode(torch.zeros(1, 17, 3, 24, 32))
    with pytest.raises(ValueError, match=r"z must be \(B, t, 2, h, w\)"):
        model.decode(torch.zeros(1, 3, 4, 2, 2))


def test_a_deep_vae_grows_from_a_shallow_one():
    torch.manual_seed(0)
    shallow = video_vae.build(replace(TINY, patchify=False, latent_channels=8))
    deep = video_vae.build(TINY)
    fresh = video_vae.grow(deep, shallow)
    assert {name.split(".")[1] for name in fresh} == {
        "conv_in", "conv_out", "patchify", "unpatchify",
    }  # fmt: skip
    known = shallow.state_dict()
    for name, value in deep.state_dict().items():
        assert (name in fresh) != (name in known and torch.equal(value, known[name])), name


def test_the_published_size_looks_through_lpips_and_small_ones_through_the_books_own():
    assert video_vae.PRESETS["video-vae-v2"].perceptual_network == "vgg-lpips"
    assert perceptual_features(replace(TINY, perceptual_weight=0.0)) is None
    assert isinstance(perceptual_features(TINY), SmallClassifier)


def test_the_published_size_says_where_lpips_is_wanted(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="lpips"):
        perceptual_features(video_vae.PRESETS["video-vae-v2"])
