"""The Axial Transformer for video: dependencies over three axes, likelihood, clips of a folder."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gentok import cli
from gentok.data.frame_folder import FrameFolder, first_frames, frame_batches
from gentok.measure.cost import count_parameters
from gentok.tokens.axial import video, video_recipe
from gentok.tokens.axial.video import PASS, PRESETS, AxialVideoConfig, build, example
from gentok.training.profiles import Profile

SMALL = AxialVideoConfig(
    frames=3,
    given_frames=0,
    image_size=3,
    channels=2,
    num_values=4,
    dim=16,
    num_heads=2,
    exterior_layers=3,
    outer_layers=2,
    inner_layers=2,
)
SMOKE, GPU = (Profile(name, (0,), "cpu") for name in ("smoke", "gpu"))


def stirred(config, seed=0):
    """A model whose weights have their full scale: at the start blocks are almost the identity."""
    torch.manual_seed(seed)
    model = build(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 or name.endswith("bias"):
            nn.init.normal_(parameter, std=0.4)
    return model.eval()


def dependencies(model):
    """(S, S): gradient of each sub-pixel's answer by each sub-pixel, in the order of drawing."""
    model, c = copy.deepcopy(model).double(), model.config
    area, rows = c.image_size**2, []
    torch.manual_seed(1)
    pixels = example(c, 1)["pixels"].expand(area, -1, -1, -1, -1)  # a copy for each answer
    mixture = torch.randn(c.num_values, dtype=torch.float64)
    every = torch.arange(area)
    for plane in range(c.frames * c.channels):
        shades = (pixels.double() / (c.num_values - 1)).requires_grad_()
        drawn = pixels.flatten(1, 2)[:, plane]
        h = model.decoder.embedding(drawn).detach().requires_grad_()
        condition = model.exterior(shades, torch.full((area,), plane))
        answers = model.decoder.logits(h, condition).flatten(1, 2)[every, every] @ mixture
        by_h, by_shades = torch.autograd.grad(answers.sum(), (h, shades))
        found = by_shades.abs().flatten(1, 2)  # (area, T C, H, W)
        found[:, plane] += by_h.norm(dim=-1)
        rows.append(found.flatten(1))
    return torch.cat(rows)


def test_every_answer_depends_on_all_earlier_sub_pixels_and_no_later_one():
    found = dependencies(stirred(SMALL)) > 0
    assert torch.equal(found, torch.ones_like(found).tril(-1))


@pytest.mark.parametrize("axis", PASS)
def test_without_an_axis_earlier_planes_are_seen_in_part(axis, monkeypatch):
    """The convolution reaches one place in the frame; for all others each axis is needed."""
    others = [a for a in PASS if a != axis]
    monkeypatch.setattr(video, "PASS", (*others, others[0]))
    found = dependencies(stirred(replace(SMALL, image_size=5, frames=2))) > 0
    earlier = torch.ones_like(found).tril(-1)
    assert not (found & ~earlier).any() and (earlier & ~found).any()


def test_attention_along_a_line_is_full_attention_under_a_mask():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, 8)
    places = torch.cartesian_prod(*(torch.arange(length) for length in x.shape[1:4]))  # (60, 3)
    for axis in PASS:
        layer = video.LineAttention(8, 2, axis)
        others = [i for i in range(3) if i != axis - 1]
        same = (places[:, None, others] == places[None, :, others]).all(-1)  # (60, 60)
        q, k, v = layer.heads(x.flatten(1, 3))
        full = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=same)
        full = layer.proj(full.transpose(1, 2).flatten(2)).view(x.shape)
        torch.testing.assert_close(layer(x), full, rtol=1e-5, atol=1e-5)


def test_parameters_follow_from_the_papers_formula():
    """25 blocks of 6 D^2 + 10 D, two tables of places, 16 frames, 54 D + D, 256 values."""
    with torch.device("meta"):
        model = build(PRESETS["bair-64"])
    d = 2048
    blocks = 25 * (6 * d**2 + 10 * d)
    tables = 256 * d + 2 * 2 * 64 * d + 16 * d
    assert count_parameters(model) == blocks + tables + 55 * d + 2 * d + 256 * d + 256
    assert (PRESETS["bair-64"].frames, PRESETS["bair-64"].given_frames) == (16, 1)


def test_first_loss_is_that_of_guessing():
    for config, bits in ((SMALL, 2.0), (replace(SMALL, num_values=256), 8.0)):
        torch.manual_seed(0)
        loss, _ = build(config).loss(example(config, 4))
        assert loss.item() == pytest.approx(bits, abs=1e-3)


def test_probabilities_of_all_clips_add_up_to_one():
    config = replace(SMALL, frames=2, image_size=2, channels=1, num_values=2)
    every = torch.cartesian_prod(*[torch.arange(2)] * 8).view(-1, 2, 1, 2, 2)
    bits = stirred(config).bits(every)
    assert bits.shape == (256, 2, 1, 2, 2)
    assert float(torch.exp2(-bits.flatten(1).sum(1)).sum()) == pytest.approx(1, abs=1e-4)


def test_given_frames_cost_nothing_and_are_kept():
    config = replace(SMALL, given_frames=1)
    model, pixels = stirred(config), example(config, 3)["pixels"]
    whole = stirred(SMALL)
    assert model.bits(pixels).shape == (3, 2, 2, 3, 3)
    torch.testing.assert_close(model.bits(pixels), whole.bits(pixels)[:, 1:])
    drawn = model.sample(3, given=pixels[:, :1])
    assert torch.equal(drawn[:, :1], pixels[:, :1]) and drawn.max() < 4
    with pytest.raises(ValueError, match=r"given must be the first frames, \(3, 1, 2, 3, 3\)"):
        model.sample(3)


def test_a_random_plane_estimates_all_planes():
    model, pixels = stirred(SMALL), example(SMALL, 1)["pixels"]
    planes = model.bits(pixels)[0].mean((2, 3)).flatten()  # (T C,)
    seen = set()
    for seed in range(60):
        torch.manual_seed(seed)
        seen.add(round(float(model.loss({"pixels": pixels})[0]), 4))
    assert seen == {round(float(bits), 4) for bits in planes}


def test_greedy_samples_are_the_most_likely_values():
    """One pass a pixel by `bits` of all values, against the semi-parallel sampler."""
    config = replace(SMALL, frames=2, channels=1)
    model = stirred(config)
    drawn = model.sample(1, temperature=0.0)
    flat = drawn.flatten()
    for place in range(len(flat)):
        options = flat.repeat(config.num_values, 1)
        options[:, place] = torch.arange(config.num_values)
        bits = model.bits(options.view(-1, *drawn.shape[1:])).flatten(1)[:, place]
        assert int(bits.argmin()) == int(flat[place])


def test_bad_input():
    with pytest.raises(ValueError, match="exterior_layers come in threes"):
        replace(SMALL, exterior_layers=4)
    with pytest.raises(ValueError, match=r"given_frames must be in \[0, 3\), got 3"):
        replace(SMALL, given_frames=3)
    model = build(SMALL)
    with pytest.raises(ValueError, match=r"pixels must be int64 \(B, 3, 2, 3, 3\)"):
        model.bits(torch.zeros(1, 3, 2, 3, 3))
    with pytest.raises(ValueError, match=r"pixels must lie in \[0, 4\), got \[0, 4\]"):
        model.bits(torch.full((1, 3, 2, 3, 3), 4).index_fill(1, torch.tensor(0), 0))
    with pytest.raises(ValueError, match="temperature must be at least 0"):
        model.sample(1, temperature=-1.0)


# --- clips of a folder and the command ------------------------------------------------------------


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """Clips of 5 and 2 frames; red tells the clip, green the frame."""
    for folder in ("bair", "bair_test"):
        for name, frames in (("a", 5), ("b", 5), ("short", 2)):
            (tmp_path / folder / name).mkdir(parents=True)
            for i in range(frames):
                pixels = np.zeros((6, 8, 3), np.uint8)
                pixels[..., 0], pixels[..., 1] = 40 * (name == "b"), 50 * i
                Image.fromarray(pixels).save(tmp_path / folder / name / f"{i:02}.png")
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    monkeypatch.delenv("GENTOK_PROFILE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "bair"


def test_clips_are_frames_in_a_row_from_any_start(clips):
    draw = frame_batches(clips, 4, 3, batch_size=40, seed=0)
    video_batch = draw(0)["video"]
    assert video_batch.shape == (40, 3, 3, 4, 4) and video_batch.dtype == torch.uint8
    green = video_batch[:, :, 1, 0, 0].long()  # (B, T)
    assert (green.diff(dim=1) == 50).all() and set(green[:, 0].tolist()) == {0, 50, 100}
    assert set(video_batch[:, 0, 0, 0, 0].tolist()) == {0, 40}  # never the short one
    assert torch.equal(draw(7)["video"], frame_batches(clips, 4, 3, 40, 0)(7)["video"])
    assert first_frames(clips, 4, 3, 9)[:, :, 1, 0, 0].tolist() == [[0, 50, 100]] * 2


def test_damaged_clips_are_named_and_absent_ones_too(clips):
    for i in range(5):
        (clips / "a" / f"{i:02}.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="the next clip takes its place"):
        assert FrameFolder(clips, 4, 3)[(0, 0, 0)][0, 0, 0, 0] == 40
    with pytest.raises(FileNotFoundError, match="no <clip> of 9 frames"):
        FrameFolder(clips, 4, 9)


def test_the_command_trains_measures_and_draws_from_a_folder(clips, monkeypatch, capsys):
    small = replace(PRESETS["tiny"], num_values=16, dim=16, num_heads=2)
    monkeypatch.setitem(PRESETS, "bair-64", small)
    words = ["train", "axial_video", "--preset", "bair-64", "--profile", "smoke", "--out", "a"]
    assert cli.run([*words, "--out", "a.safetensors"]) == 0
    assert cli.run(["evaluate", "axial_video", "--from", "a.safetensors", "-n", "2"]) == 0
    assert "bits per dim" in capsys.readouterr().out
    words = ["sample", "axial_video", "--from", "a.safetensors", "--out", "a.png", "-n", "2"]
    assert cli.run(words) == 0
    with Image.open("a.png") as sheet:
        assert sheet.size == (4 * 64, 2 * 64)  # a clip a row
        assert sheet.getpixel((0, 64))[0] > 20 > sheet.getpixel((0, 0))[0]  # told: clips b and a
    (clips / "..").resolve().joinpath("bair").rename(clips / ".." / "gone")
    assert cli.run(["train", "axial_video", "--preset", "bair-64", "--out", "b.safetensors"]) == 2
    assert "clips of 8 x 8 pixels not found" in capsys.readouterr().err


def test_the_small_preset_learns_from_shapes_that_slide(tmp_path):
    out = tmp_path / "a.safetensors"
    video_recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    found = video_recipe.evaluate(out, n=3)
    assert set(found) == {"bits_per_dim", "bits_frame_1", "bits_frame_2", "bits_frame_3"}
    each = [value for name, value in found.items() if name != "bits_per_dim"]
    assert found["bits_per_dim"] == pytest.approx(sum(each) / 3, rel=1e-5)


def test_plans_are_those_of_pictures_of_64_pixels():
    task = video_recipe.plan("bair-64", GPU)
    stage = task.model
    assert (task.data, stage.lr, stage.batch_size, stage.warmup) == ("folder", 2e-4, 64, 5000)
    assert (stage.schedule, stage.ema, stage.clip) == ("constant", 0.99995, 1.0)
    with pytest.raises(ValueError, match="unknown preset 'huge'; accepted: tiny, bair-64"):
        video_recipe.plan("huge", GPU)
