"""Clips: what moves, where to, how fast, and that the caption says so."""

import pytest
import torch

from gentok.data import SHAPES, render_video, to_uint8
from gentok.data.clips import DIRECTIONS, SPEEDS, moving_clips, render_clips
from gentok.data.world import COLOURS
from gentok.data.world_video import at


def centres(clips, frames):
    """Centre of the shape in every frame, (n, T, 2), in pixels of 32."""
    return torch.stack([at(clips.scenes, t).position[:, 0] for t in range(frames)], 1) * 16


def test_captions_say_what_is_drawn():
    clips = moving_clips(200, seed=3)
    for i, text in enumerate(clips.captions):
        article, colour, shape, _, direction, manner = text.split()
        assert list(COLOURS)[clips.scenes.colour[i, 0]] == colour
        assert SHAPES[clips.scenes.shape[i, 0]] == shape
        assert list(DIRECTIONS)[clips.direction[i]] == direction
        assert article == ("an" if colour == "orange" else "a")
        low, high = SPEEDS[manner]
        assert low <= clips.speed[i] <= high
    assert {text.split()[-1] for text in clips.captions} == set(SPEEDS)


@pytest.mark.parametrize("speed", ["quickly", (1.0, 2.5), None])
@pytest.mark.parametrize("size", [32, 48])
def test_shapes_move_as_told_and_stay_in_the_picture(speed, size):
    speed_here = tuple(s * size / 32 for s in speed) if isinstance(speed, tuple) else speed
    clips = moving_clips(300, 1, size, speed=speed_here)
    heading = torch.tensor(list(DIRECTIONS.values()))[clips.direction]
    steps = centres(clips, 8).diff(dim=1) * size / 32
    assert torch.allclose(
        steps, (heading * clips.speed[:, None])[:, None].expand_as(steps), atol=1e-4
    )
    for t in (0, 7):
        moved = at(clips.scenes, t)
        assert (moved.position.abs().amax(-1) + moved.radius <= 1 + 1e-5).all()


def test_the_place_of_a_path_does_not_tell_its_direction():
    clips = moving_clips(4000, 2, size=4, frames=2, speed=(0.1, 0.3))
    middle = centres(clips, 2).mean(1)  # (n, 2)
    for direction in range(4):
        mean = middle[clips.direction == direction].mean(0)
        # About 1,000 clips, spread at most 16 pixels: four standard errors are 1.2 pixels.
        assert mean.abs().max() < 1.2, f"direction {direction}: paths lie around {mean}"


def test_large_motion_bounces_only_when_asked():
    with pytest.raises(ValueError, match="bounce=True"):
        moving_clips(50, 0, speed=(4, 8))
    clips = moving_clips(50, 0, speed=(4, 8), bounce=True)
    steps = centres(clips, 8).diff(dim=1).abs().amax(-1)
    assert clips.speed.min() >= 4 and clips.speed.max() <= 8
    assert torch.isclose(steps, clips.speed[:, None], atol=1e-4).float().mean() > 0.6
    heading = torch.tensor(list(DIRECTIONS.values()))[clips.direction]
    first = centres(clips, 2).diff(dim=1)[:, 0]
    ahead = (first * heading).sum(-1) > 0
    assert ahead.float().mean() > 0.7, "captions should name the first direction"
    assert all(text.split()[-1] in DIRECTIONS for text in clips.captions)


@pytest.mark.parametrize("floor", ["dark", "plain", "textured"])
@pytest.mark.parametrize("upright", [True, False])
def test_frames_are_the_renderers_frames(floor, upright):
    looks = {"frames": 5, "floor": floor, "upright": upright}
    clips = moving_clips(6, 4, **looks)
    assert torch.equal(clips.video, to_uint8(render_video(clips.scenes, 5).frames))
    assert clips.video.shape == (6, 5, 3, 32, 32) and len(clips) == 6
    assert upright == (not clips.scenes.angle.any())
    assert (floor == "textured") == bool(clips.scenes.texture.any())
    assert torch.equal(clips.video, moving_clips(6, 4, **looks).video)


def test_a_sliding_floor_is_drawn_in_time():
    from gentok.data import sample_scenes

    scenes = sample_scenes(5, 0, 2, moving_floor=True)
    assert torch.equal(render_clips(scenes, 4), to_uint8(render_video(scenes, 4).frames))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 0}, "need n >= 1"),
        ({"frames": 1}, "frames >= 2"),
        ({"speed": "fast"}, "speed must be one of"),
        ({"speed": (3.0, 1.0)}, "speed must be"),
        ({"radius": (0.5, 1.2)}, "radius must be"),
        ({"floor": "wet"}, "floor must be one of"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        moving_clips(**{"n": 2, **changes})
