"""Scenes, pictures, masks, graphs and captions of the procedural world say the same thing."""

import math
import re
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.data import (
    COLOURS,
    SHAPES,
    captions,
    class_images,
    class_maps,
    render_images,
    render_masks,
    sample_scenes,
    scene_graphs,
    world_batches,
)
from gentok.data.world import RELATIONS, TEXTURES
from gentok.data.world_flat import FLAT

OBJECT = re.compile(rf"a (large|small) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})")
RELATION = re.compile("|".join(RELATIONS))


def centroid(mask: torch.Tensor) -> torch.Tensor:
    """Centre of a mask (H, W) as (x, y) in scene units."""
    axis = (torch.arange(mask.shape[-1]) * 2 + 1) / mask.shape[-1] - 1
    return torch.stack([(mask.sum(0) * axis).sum(), (mask.sum(1) * axis).sum()]) / mask.sum()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 9))
def test_scenes_are_reproducible_and_objects_keep_apart(seed, count):
    scenes, again = sample_scenes(4, seed, count), sample_scenes(4, seed, count)
    assert torch.equal(scenes.position, again.position) and torch.equal(scenes.tint, again.tint)
    assert scenes.present[:, 0].all() and scenes.shape.shape == (4, count)
    edge = scenes.position.abs().amax(-1) + scenes.radius
    assert float(edge.max()) <= 1 + 1e-6
    gaps = torch.cdist(scenes.position, scenes.position)
    room = scenes.radius[:, :, None] + scenes.radius[:, None]
    others = ~torch.eye(count, dtype=torch.bool)
    assert bool((gaps >= room - 1e-6)[:, others].all())


@pytest.mark.parametrize("size", [32, 64, 96])
def test_mask_centroid_is_the_graph_s_position(size):
    scenes = sample_scenes(40, seed=3, max_objects=3)
    masks = render_masks(scenes, size)
    pixel = 2 / size
    for graph, own, present in zip(scene_graphs(scenes), masks, scenes.present, strict=True):
        assert len(graph["objects"]) == int(present.sum())
        for item, mask in zip(graph["objects"], own[present], strict=True):
            error = (centroid(mask) - torch.tensor(item["position"])).abs().max()
            assert float(error) < 0.12 * pixel, item


def test_caption_names_what_mask_and_picture_show():
    scenes = sample_scenes(60, seed=4, max_objects=3)
    size = 128
    images, masks = render_images(scenes, size), render_masks(scenes, size)
    names, palette = list(COLOURS), torch.tensor(list(COLOURS.values()))
    axis = torch.linspace(-1, 1, 401)
    areas = {
        name: float((FLAT[name](axis, axis[:, None]) < 0).sum()) * (2 / 400) ** 2 for name in SHAPES
    }
    for i, sentence in enumerate(captions(scenes)):
        said, links = OBJECT.findall(sentence), RELATION.findall(sentence)
        shown = [m for m in masks[i] if m.max() > 0.5]
        assert len(said) == len(shown) == len(links) + 1
        assert sentence.endswith(f"on a {TEXTURES[int(scenes.texture[i])]} floor")
        places = [centroid(m) for m in shown]
        for k, ((_, colour, shape), mask) in enumerate(zip(said, shown, strict=True)):
            inside = images[i][:, mask > 0.99] / 2 + 0.5  # (3, m)
            hue = torch.nn.functional.normalize(inside.mean(1) - inside.mean(), dim=0)
            wanted = palette[names.index(colour)]
            if colour == "white":
                assert float(inside.mean(1).std()) < 0.08
            else:
                wanted = torch.nn.functional.normalize(wanted - wanted.mean(), dim=0)
                assert float(hue @ wanted) > 0.9, sentence
            # Area in units of the radius tells most shapes apart.
            area = float(mask.sum()) * (2 / size) ** 2 / float(scenes.radius[i, k]) ** 2
            assert area == pytest.approx(areas[shape], rel=0.03), sentence
        for a, b, link in zip(places, places[1:], links, strict=False):
            dx, dy = (a - b).tolist()
            across = "left of" if dx < 0 else "right of"
            along = "above" if dy < 0 else "below"
            assert link == (across if abs(dx) >= abs(dy) else along), sentence


def test_relations_hold_for_both_sides():
    mirror = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    for graph in scene_graphs(sample_scenes(30, seed=9)):
        found = {(a, b): words for a, words, b in graph["relations"]}
        assert len(found) == len(graph["objects"]) * (len(graph["objects"]) - 1)
        assert all(found[b, a] == mirror[words] for (a, b), words in found.items())


def test_later_objects_cover_earlier_ones():
    scenes = sample_scenes(20, seed=1, max_objects=4)
    scenes = scenes[scenes.present.all(1)]
    scenes.position.zero_()  # all on one heap
    whole, seen = render_masks(scenes, 48, visible=False), render_masks(scenes, 48)
    assert torch.equal(whole[:, -1], seen[:, -1])
    assert float(seen.sum(1).max()) <= 1 + 1e-6
    hidden = seen[:, 0] < whole[:, 0] - 0.5
    assert bool(hidden.any())


def test_class_map_names_the_shape_at_its_centre():
    scenes = sample_scenes(60, seed=6, max_objects=1)
    maps = class_maps(scenes, 64)
    hollow = torch.tensor([name in ("ring", "moon") for name in SHAPES])[scenes.shape[:, 0]]
    column = ((scenes.position[:, 0] + 1) * 32).long().clamp(0, 63)  # (n, 2)
    at_centre = maps[torch.arange(60), column[:, 1], column[:, 0]]
    assert torch.equal(at_centre[~hollow], scenes.shape[~hollow, 0] + 1)
    assert set(maps.unique().tolist()) <= set(range(len(SHAPES) + 1))


def test_a_scene_looks_the_same_at_every_size():
    scenes = sample_scenes(64, seed=8)
    scenes = scenes[scenes.texture < 4]  # noise has detail that a small picture cannot show
    small, large = render_images(scenes, 64), render_images(scenes, 256)
    shrunk = torch.nn.functional.avg_pool2d(large, 4)
    assert float((shrunk - small).abs().mean()) < 0.03


def test_pictures_are_floats_in_range_with_high_frequencies():
    images = render_images(sample_scenes(256, seed=2, max_objects=1), 32)
    assert images.dtype == torch.float32 and images.shape == (256, 3, 32, 32)
    assert float(images.min()) >= -1 and float(images.max()) <= 1
    a, b = images[..., ::2], images[..., 1::2]
    assert float((a - b).square().mean()) > 0.01 * float(images.var())


def test_class_images_are_balanced_labelled_and_reproducible():
    images, again = class_images(2000, seed=5), class_images(2000, seed=5)
    assert torch.equal(images.images, again.images)
    counts = images.labels.bincount(minlength=len(SHAPES))
    assert len(counts) == 10 and int(counts.min()) > 140  # 200 +- 4 standard deviations
    # The first images do not depend on how many are drawn in one call of the renderer.
    scenes = sample_scenes(2000, seed=5, max_objects=1)
    assert torch.equal(scenes.shape[:, 0], images.labels)


def test_stream_is_a_pure_function_of_the_step_and_never_repeats():
    stream, again = world_batches(8, seed=1), world_batches(8, seed=1)
    assert torch.equal(stream(5)["image"], again(5)["image"])
    assert not torch.equal(stream(5)["image"], stream(6)["image"])
    assert not torch.equal(stream(5)["image"], world_batches(8, seed=2)(5)["image"])
    assert stream(0)["label"].dtype == torch.int64


def test_thousands_of_images_a_second_on_one_core():
    stream = world_batches(256, 32)
    stream(0)
    start = time.process_time()
    for step in range(4):
        stream(step)
    rate = 1024 / (time.process_time() - start)
    assert rate > 2000, f"{rate:.0f} images a second of processor time"


@pytest.mark.parametrize(
    "call",
    [
        lambda: sample_scenes(0),
        lambda: sample_scenes(2, max_objects=10),
        lambda: sample_scenes(2, seed=-1),
        lambda: render_images(sample_scenes(2), size=2),
        lambda: world_batches(0),
    ],
)
def test_bad_input(call):
    with pytest.raises(ValueError, match="got"):
        call()


def test_angles_turn_counter_clockwise():
    """A triangle's corner points up at angle 0 and left after a quarter turn."""
    scenes = sample_scenes(1, seed=0, max_objects=1)
    scenes.shape[:], scenes.position[:] = SHAPES.index("triangle"), 0.0
    for angle, row, column in ((0.0, 0, 1), (math.pi / 2, 1, 0), (math.pi, 2, 1)):
        scenes.angle[:] = angle
        rows, columns = (render_masks(scenes, 64)[0, 0] > 0.5).nonzero().T
        reach = {
            (0, 1): 31.5 - rows.min(),
            (2, 1): rows.max() - 31.5,
            (1, 0): 31.5 - columns.min(),
            (1, 2): columns.max() - 31.5,
        }
        assert max(reach, key=reach.get) == (row, column)
