"""Video of the world: the flow is the motion, and warping by it undoes one frame."""

import pytest
import torch
import torch.nn.functional as F

from gentok.data import render_images, render_video, sample_scenes, warp
from gentok.data.world_video import at


def centroids(masks: torch.Tensor) -> torch.Tensor:
    """Centres (..., 2) of masks (..., H, W) in pixels, (x, y)."""
    axis = torch.arange(masks.shape[-1]) + 0.5
    total = masks.sum((-1, -2))
    return torch.stack([(masks.sum(-2) @ axis), (masks.sum(-1) @ axis)], -1) / total[..., None]


def single(n: int = 40, seed: int = 2, **options):
    """Scenes of one object whose first frames touch no edge."""
    scenes = sample_scenes(n, seed, max_objects=1, **options)
    ahead = scenes.position + 3 * scenes.velocity
    return scenes[((ahead.abs().amax(-1) + scenes.radius)[:, 0] < 1)]


def test_flow_inside_an_object_is_its_velocity():
    scenes = single()
    scenes.spin.zero_()
    video = render_video(scenes, frames=3, size=64)
    for t in range(2):
        inside = (video.masks[:, t, 0] > 0.99)[:, None]  # (n, 1, H, W)
        wanted = (scenes.velocity[:, 0] * 32)[:, :, None, None]  # half the picture is one unit
        error = (video.flow[:, t] - wanted).abs() * inside
        assert float(error.max()) < 1e-4


def test_centroid_moves_by_the_mean_flow():
    scenes = single(seed=5)
    video = render_video(scenes, frames=3, size=64)
    moved = centroids(video.masks[:, 1, 0]) - centroids(video.masks[:, 0, 0])
    weight = (video.masks[:, 0, 0] >= 0.5)[:, None]
    mean = (video.flow[:, 0] * weight).sum((-1, -2)) / weight.sum((-1, -2))
    assert float((moved - mean).abs().max()) < 0.1


def test_floor_flow_is_the_pan():
    scenes = single(moving_floor=True)
    video = render_video(scenes, frames=2, size=64)
    floor = (video.masks[:, 0, 0] < 0.01)[:, None]
    error = (video.flow[:, 0] - scenes.pan[:, :, None, None] * 32).abs() * floor
    assert float(error.max()) < 1e-4
    assert not bool(sample_scenes(3).pan.any())


@pytest.mark.parametrize("moving_floor", [False, True])
def test_warping_the_next_frame_by_the_flow_gives_this_one(moving_floor):
    scenes = single(60, seed=7, moving_floor=moving_floor)
    scenes = scenes[scenes.texture != 5]  # grain changes from pixel to pixel: no interpolation
    video = render_video(scenes, frames=2, size=96)
    now, then = video.frames[:, 0], video.frames[:, 1]
    back = warp(then, video.flow[:, 0])
    # Leave out edges (a pixel is shared there), what the object covers next, and the border.
    hard = (video.masks[:, :, 0] - 0.5).abs() < 0.499
    owner_now = video.masks[:, 0, 0] > 0.5
    seen = warp((video.masks[:, 1, 0] > 0.5).float()[:, None], video.flow[:, 0])[:, 0]
    same = (seen - owner_now.float()).abs() < 0.01
    near_edge = F.max_pool2d(hard.any(1).float()[:, None], 5, 1, 2)[:, 0] > 0
    clear = same & ~near_edge
    clear[:, :6], clear[:, -6:], clear[:, :, :6], clear[:, :, -6:] = False, False, False, False
    error = (back - now).abs().mean(1)
    still = (then - now).abs().mean(1)
    inside = clear & owner_now
    assert float(error[clear].mean()) < 0.03
    assert float(error[inside].mean()) < 0.3 * float(still[inside].mean()) + 0.002


def test_first_frame_is_the_picture_and_motion_is_exact_in_time():
    scenes = sample_scenes(6, seed=1)
    video = render_video(scenes, frames=4, size=32)
    assert torch.allclose(video.frames[:, 0], render_images(scenes, 32), atol=2e-6)
    assert torch.allclose(video.frames[:, 3], render_images(at(scenes, 3.0), 32, 3.0), atol=2e-6)
    assert video.frames.shape == (6, 4, 3, 32, 32) and video.flow.shape == (6, 3, 2, 32, 32)


def test_objects_bounce_and_stay_in_the_picture():
    scenes = sample_scenes(30, seed=3)
    for time in (0.0, 7.3, 40.0, 1000.0):
        later = at(scenes, time)
        assert float((later.position.abs().amax(-1) + later.radius).max()) <= 1 + 1e-3
    # Until the first bounce the motion is straight; a step takes the speed asked for.
    free = ((scenes.position + scenes.velocity).abs().amax(-1) + scenes.radius) < 1
    moved = at(scenes, 1.0).position - scenes.position
    assert torch.allclose(moved[free], scenes.velocity[free], atol=1e-5)


def test_too_few_frames():
    with pytest.raises(ValueError, match="frames"):
        render_video(sample_scenes(1), frames=1)
