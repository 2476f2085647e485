"""Captioned shapes: what a caption says is what is drawn, and what a detector reads."""

import pytest
import torch

from gentok.data import COLOURS, SHAPES, to_float
from gentok.data.placed_shapes import (
    PLACES,
    WORDS,
    all_looks,
    placed_caption,
    placed_scenes,
    placed_shapes,
    read_caption,
)
from gentok.data.plain_shapes import EASIEST
from gentok.data.words import Words
from gentok.measure.detect import PLACES as READ
from gentok.measure.detect import detect, place_of


def test_places_are_the_detectors():
    assert tuple(PLACES) == READ
    scenes = placed_scenes(all_looks().repeat(5, 1), seed=3)
    assert torch.equal(place_of(scenes.position[:, 0]), all_looks().repeat(5, 1)[:, 2])
    reach = scenes.position[:, 0].abs().amax(1) + scenes.radius[:, 0]
    assert reach.max() < 1  # wholly in the picture


def test_captions_say_the_looks_and_are_read_back():
    shapes = placed_shapes(40, seed=1)
    words = Words(WORDS)
    for caption, look in zip(shapes.captions, shapes.looks.tolist(), strict=True):
        assert read_caption(caption) == tuple(look)
    assert words.encode(shapes.captions, 8).shape == (40, 8)
    assert placed_caption(SHAPES.index("ring"), 1, 3) == "an orange ring at the bottom"
    assert {SHAPES[s] for s in shapes.looks[:, 0].tolist()} <= set(EASIEST)
    assert len(all_looks()) == len(EASIEST) * len(COLOURS) * len(PLACES) == 200
    with pytest.raises(ValueError, match="one shape"):
        read_caption("a red thing at the left")


def test_a_detector_reads_what_was_drawn():
    shapes = placed_shapes(60, seed=2)
    found = detect(to_float(shapes.images))
    read = torch.stack([found.shape[:, 0], found.colour[:, 0], found.place[:, 0]], 1)
    assert (read == shapes.looks).all(1).float().mean() >= 0.95


def test_the_same_scenes_at_every_size():
    small, large = placed_shapes(6, 16, seed=4), placed_shapes(6, 64, seed=4)
    assert torch.equal(small.looks, large.looks)
    assert torch.equal(small.scenes.position, large.scenes.position)
    blurred = torch.nn.functional.avg_pool2d(large.images.float(), 4)
    assert (blurred - small.images.float()).abs().mean() < 6
    assert not torch.equal(placed_shapes(6, 16, seed=5).looks, small.looks)


def test_bad_looks():
    with pytest.raises(ValueError, match="n must be at least 1"):
        placed_shapes(0)
    with pytest.raises(ValueError, match="unknown"):
        placed_shapes(1, kinds=("blob",))
    with pytest.raises(ValueError, match=r"\(n, 3\) int64"):
        placed_scenes(torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="indices below"):
        placed_scenes(torch.tensor([[0, 0, 9]]))
