"""The detector against what was drawn: held-out renders, blurred and noisy ones, clips."""

import pytest
import torch
import torch.nn.functional as F

from gentok.data import (
    COLOURS,
    moving_clips,
    plain_scenes,
    render_images,
    scene_graphs,
    to_float,
)
from gentok.data.world import RELATIONS
from gentok.measure.detect import PLACES, detect, detect_motion, place_of, relation_of

BLUR = torch.outer(torch.tensor([0.25, 0.5, 0.25]), torch.tensor([0.25, 0.5, 0.25]))


def degraded(images, kind):
    if kind == "blurred":
        padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
        return F.conv2d(padded, BLUR.expand(3, 1, 3, 3), groups=3)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return images + 0.1 * noise if kind == "noisy" else images


def compared(found, scenes):
    """Share of right shapes, colours, places, and the distance in pixels of 32, object by object.

    Each drawn object is looked up among the found ones by its place.
    """
    row, slot = scenes.present.nonzero(as_tuple=True)
    away = (found.position[row] - scenes.position[row, slot][:, None]).norm(dim=-1)
    away, match = (away + ~found.present[row] * 9).min(1)
    shape = found.shape[row, match] == scenes.shape[row, slot]
    colour = found.colour[row, match] == scenes.colour[row, slot]
    place = found.place[row, match] == place_of(scenes.position[row, slot])
    return [x.float().mean().item() for x in (shape, colour, place)] + [16 * away.median().item()]


@pytest.mark.parametrize("max_objects", [1, 2])
@pytest.mark.parametrize(("kind", "least"), [("clean", 0.98), ("blurred", 0.95), ("noisy", 0.95)])
def test_what_was_drawn_is_read(kind, least, max_objects):
    scenes = plain_scenes(100, 1000, max_objects)
    found = detect(degraded(render_images(scenes), kind), max_objects)
    shape, colour, place, pixels = compared(found, scenes)
    assert shape >= least and colour >= 0.98 and place >= 0.95 and pixels < 0.2
    assert (found.present.sum(1) == scenes.present.sum(1)).float().mean() >= 0.97


def test_relations_are_those_of_the_scene_graph():
    scenes = plain_scenes(120, 2, max_objects=2)
    found = detect(render_images(scenes), 2)
    right = total = 0
    for i, graph in enumerate(scene_graphs(scenes)):
        if len(graph["objects"]) < 2 or not found.present[i].all():
            continue
        # The first found object may be either of the two: look it up by its place.
        places = torch.tensor([o["position"] for o in graph["objects"]])
        first = int((places - found.position[i, 0]).norm(dim=1).argmin())
        told = {(a, b): words for a, words, b in graph["relations"]}[first, 1 - first]
        right += RELATIONS[found.relation[i]] == told
        total += 1
    assert total > 40 and right / total >= 0.98


@pytest.mark.parametrize("speed", [None, (4.0, 8.0)])
def test_direction_and_speed_of_clips(speed):
    clips = moving_clips(150, 7, frames=3 if speed else 8, speed=speed)
    motion = detect_motion(to_float(clips.video))
    assert (motion.direction == clips.direction).float().mean() >= 0.98
    assert (motion.speed - clips.speed).abs().median() < 0.1
    backward = detect_motion(to_float(clips.video.flip(1)))
    opposite = torch.tensor([1, 0, 3, 2])[clips.direction]
    assert (backward.direction == opposite).float().mean() >= 0.98
    still = detect_motion(to_float(clips.video[:, :1].repeat(1, 4, 1, 1, 1)))
    assert still.speed.abs().max() < 1e-3


def test_confidence_falls_where_there_is_doubt():
    scenes = plain_scenes(40, 3)
    clean = detect(render_images(scenes))
    noisy = detect(degraded(render_images(scenes), "noisy"))
    assert clean.shape_confidence.mean() > noisy.shape_confidence.mean() + 0.1
    assert clean.explained.median() > 0.97
    assert ((clean.shape_confidence >= 0) & (clean.shape_confidence <= 1)).all()
    assert ((clean.colour_confidence >= 0) & (clean.colour_confidence <= 1)).all()


def test_an_empty_floor_shows_nothing():
    found = detect(torch.full((2, 3, 32, 32), -0.3), 2)
    assert not found.present.any()
    assert (found.shape == -1).all() and (found.relation == -1).all()
    motion = detect_motion(torch.full((2, 4, 3, 32, 32), -0.3))
    assert (motion.direction == -1).all() and motion.position.isnan().all()


def test_a_picture_is_read_alone_as_in_a_batch():
    images = render_images(plain_scenes(70, 5, 2))
    together, alone = detect(images, 2), detect(images[66:67], 2)
    assert torch.equal(together.shape[66], alone.shape[0])
    assert torch.allclose(together.position[66], alone.position[0], atol=1e-5)


def test_places_and_relations_by_hand():
    points = torch.tensor([[-0.5, 0.1], [0.5, 0.1], [0.1, -0.5], [0.1, 0.5], [0.1, -0.1]])
    assert [PLACES[k] for k in place_of(points)] == ["left", "right", "top", "bottom", "centre"]
    assert [RELATIONS[k] for k in relation_of(points[:4], torch.zeros(2))] == [
        *("left of", "right of", "above", "below")
    ]
    assert len(COLOURS) == 8


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"images must be \(n, 3, H, H\), got \(2, 1, 32, 32\)"):
        detect(torch.zeros(2, 1, 32, 32))
    with pytest.raises(ValueError, match="max_objects must be 1 or more, got 0"):
        detect(torch.zeros(2, 3, 32, 32), 0)
    with pytest.raises(ValueError, match="video must be"):
        detect_motion(torch.zeros(2, 1, 3, 32, 32))
