"""Latents with many cells and no training, and the price of few steps."""

from dataclasses import replace

import pytest
import torch
from sklearn.decomposition import PCA

from gentok.data import to_float
from gentok.video.step_video import model as step_video
from gentok.video.step_video.clips import moving_shapes
from gentok.video.step_video.few_steps import bend, distance, end_points, seeded_noise
from gentok.video.step_video.patch_latents import PatchComponents
from gentok.video.step_video.text_encoders import WordTables

TINY = replace(step_video.PRESETS["tiny"], in_channels=2, depth=1, num_heads=2, head_dim=8)


@pytest.fixture(scope="module")
def clips():
    return to_float(moving_shapes(12, seed=0, size=64).video)


def test_components_are_those_of_scikit_learn(clips):
    tokenizer = PatchComponents(clips, 8)
    z = tokenizer.encode(clips)
    assert z.shape == (12, 3, 8, 8, 8)
    first = clips[:, 0].unfold(2, 8, 8).unfold(3, 8, 8)  # (n, 3, h, w, 8, 8)
    first = first.permute(0, 2, 3, 1, 4, 5).flatten(3)
    theirs = PCA(8, whiten=True).fit_transform(first.flatten(0, 2).double().numpy())
    theirs = torch.from_numpy(theirs).float().view(12, 8, 8, 8)
    ours = z[:, 0].permute(0, 2, 3, 1)
    torch.testing.assert_close(ours.abs(), theirs.abs(), rtol=1e-2, atol=1e-2)
    later = z[:, 1:].transpose(1, 2).flatten(2).transpose(0, 1).flatten(1)
    torch.testing.assert_close(later.std(1), torch.ones(8), rtol=1e-2, atol=0)


def test_blocks_come_back_and_the_last_frames_do_not_reach_the_first_latents(clips):
    tokenizer = PatchComponents(clips, 64)
    error = (tokenizer.decode(tokenizer.encode(clips)) - clips).square().mean()
    coarse = PatchComponents(clips, 4)
    rough = (coarse.decode(coarse.encode(clips)) - clips).square().mean()
    assert error < 0.2 * rough and rough < 0.5 * clips.var()
    other = clips.clone()
    other[:, 9:] = 0
    change = (coarse.encode(other) - coarse.encode(clips)).abs().amax((0, 2, 3, 4))
    assert change[:2].max() == 0 and change[2] > 0
    with pytest.raises(ValueError, match=r"video must be \(n, 17, 3, H, W\)"):
        coarse.encode(clips[:, :16])
    with pytest.raises(ValueError, match=r"channels must lie in \[1, 192\], got 200"):
        PatchComponents(clips, 200)


class Field(step_video.StepVideo):
    """A transformer whose velocity is known: constant, or growing with time."""

    def __init__(self, growth: float):
        super().__init__(TINY)
        self.growth = growth

    def forward(self, x, t, clip, llm, mask):
        return torch.ones_like(x) * (1 + self.growth * t).view(-1, 1, 1, 1, 1)


def test_straight_paths_have_no_bend_and_few_steps_end_where_many_do():
    text, straight = WordTables()(["a red star"] * 2), Field(0.0)
    noise = seeded_noise(0, straight, 2)
    assert noise.shape == (2, *TINY.latent_shape)
    assert not torch.equal(noise, seeded_noise(1, straight, 2)), "each seed has its own"
    few, many = (end_points(straight, text, None, noise, num_steps=n, shift=1.0) for n in (1, 50))
    torch.testing.assert_close(few, noise + 1)
    assert distance(few, many) < 1e-5 and bend(straight, text, None, noise, 1.0) < 1e-10


def test_bend_and_distance_are_those_of_the_integral():
    """v = 1 + 2 t: the chord is 2, the bend the variance of 2 t; Euler's error is 1 / n."""
    text, model = WordTables()(["a red star"] * 2), Field(2.0)
    noise = seeded_noise(0, model, 2)
    assert bend(model, text, None, noise, 1.0, num_steps=200) == pytest.approx(1 / 3, rel=1e-3)
    ends = {n: end_points(model, text, None, noise, num_steps=n, shift=1.0) for n in (4, 1000)}
    assert distance(ends[4], ends[1000]) == pytest.approx(1 / 4 - 1 / 1000, rel=1e-3)
