"""Plain shapes: the world's own scenes, with a plain floor and nothing turned."""

from dataclasses import fields, replace

import pytest
import torch

from gentok.data import (
    SHAPES,
    captions,
    centred_shapes,
    plain_scenes,
    plain_shapes,
    render_images,
    sample_scenes,
    scattered_shapes,
    to_uint8,
)
from gentok.data.plain_shapes import EASIEST
from gentok.measure import load_classifier


@pytest.mark.parametrize("max_objects", [1, 3])
def test_only_texture_and_angle_differ_from_the_world(max_objects):
    plain, world = plain_scenes(40, 5, max_objects), sample_scenes(40, 5, max_objects)
    for field in fields(world):
        got, drawn = getattr(plain, field.name), getattr(world, field.name)
        if field.name in ("texture", "angle"):
            assert torch.equal(got, torch.zeros_like(drawn)), f"{field.name} is not zero"
        else:
            assert torch.equal(got, drawn), f"{field.name} changed"
    assert all(text.endswith("on a plain floor") for text in captions(plain))


def test_images_are_the_renders_of_the_scenes_across_chunks():
    # The recipe of notebooks/tokens/enat.py, whose recorded results depend on every byte.
    scenes = sample_scenes(600, 3, max_objects=1)
    scenes = replace(
        scenes, texture=torch.zeros_like(scenes.texture), angle=torch.zeros_like(scenes.angle)
    )
    parts = [scenes[i : i + 512] for i in range(0, 600, 512)]
    expected = torch.cat([to_uint8(render_images(part, 32)) for part in parts])
    got = plain_shapes(600, seed=3)
    assert torch.equal(got.images, expected), "images differ from the recipe's"
    assert torch.equal(got.labels, scenes.shape[:, 0]), "labels are not the shapes"
    assert got.class_names == SHAPES


def test_two_objects_are_labelled_by_the_first():
    images, scenes = plain_shapes(30, 16, 2, max_objects=2), plain_scenes(30, 2, max_objects=2)
    assert images.images.shape == (30, 3, 16, 16)
    assert torch.equal(images.labels, scenes.shape[:, 0])
    assert scenes.present.sum() > 30, "no scene has a second object, so the test shows nothing"


@pytest.mark.parametrize("arguments", [{"n": 0}, {"n": 2, "size": 3}, {"n": 2, "max_objects": 10}])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ValueError, match="got"):
        plain_shapes(**arguments)


def test_centred_shapes_are_five_outlines_of_one_size():
    """The judge, trained on other pictures, names them; they differ in colour and floor only."""
    judge, images = load_classifier("world"), centred_shapes(200, seed=3)
    assert images.class_names == EASIEST and images.labels.unique().tolist() == [0, 1, 2, 3, 4]
    names = [SHAPES[int(k)] for k in judge(images.floats()).argmax(1)]
    right = [name == EASIEST[int(k)] for name, k in zip(names, images.labels, strict=True)]
    assert sum(right) >= 195


def test_scattered_shapes_keep_their_size_in_pixels_and_lie_anywhere():
    radius = {}
    for size in (32, 64):
        images = scattered_shapes(300, size, seed=4, kinds=("disc",))
        again = scattered_shapes(300, size, seed=4, kinds=("disc",))
        assert images.class_names == ("disc",) and images.images.shape == (300, 3, size, size)
        assert torch.equal(images.images, again.images) and set(images.labels.tolist()) == {0}
        # Floors are muted, most of the eight colours vivid: their pixels tell place and area.
        colour = images.floats().amax(1) - images.floats().amin(1)  # (n, H, W)
        inside = (colour > 0.7).float()
        area = inside.sum((1, 2))
        vivid = area > 30
        assert vivid.float().mean() > 0.6
        radius[size] = (area[vivid] / torch.pi).sqrt()
        column = (inside * torch.arange(size)).sum((1, 2))[vivid] / area[vivid]
        assert column.min() < 0.35 * size and column.max() > 0.65 * size
    assert float(radius[32].median()) == pytest.approx(float(radius[64].median()), rel=0.1)
    assert radius[32].max() > 2 * radius[32].min() and radius[64].max() < 14


def test_scattered_shapes_name_what_is_wrong():
    with pytest.raises(ValueError, match="size must be at least 28"):
        scattered_shapes(2, 24)
    with pytest.raises(ValueError, match=r"kinds: unknown \['blob'\]"):
        scattered_shapes(2, kinds=("disc", "blob"))
