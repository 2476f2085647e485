"""Scenes with graphs: the rule of the predicates, and that picture and graph agree."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.data.graph_scenes import LABELS, PALETTE, SQUARE, graph_scenes, nested
from gentok.data.imageset import to_float
from gentok.data.relations import (
    ABOVE,
    BELOW,
    INSIDE,
    LEFT,
    OPPOSITE,
    PREDICATES,
    RIGHT,
    SURROUNDING,
    opposite,
    relate,
)
from gentok.data.world import COLOURS


def by_hand(subject, other):
    """The published rule in plain numbers; y grows downward."""
    low = [a - b for a, b in zip(subject[:2], other[:2], strict=True)]
    high = [a - b for a, b in zip(subject[2:], other[2:], strict=True)]
    if max(low) < 0 < min(high):
        return "surrounding"
    if max(high) < 0 < min(low):
        return "inside"
    dx = (subject[0] + subject[2] - other[0] - other[2]) / 2
    dy = (subject[1] + subject[3] - other[1] - other[3]) / 2
    angle = math.atan2(dy, dx)
    if abs(angle) >= 3 * math.pi / 4:
        return "left of"
    if -3 * math.pi / 4 <= angle < -math.pi / 4:
        return "above"
    if -math.pi / 4 <= angle < math.pi / 4:
        return "right of"
    return "below"


corner = st.integers(0, 6)
side = st.integers(1, 6)


@settings(deadline=None, max_examples=200)
@given(corner, corner, side, side, corner, corner, side, side)
def test_the_rule(x, y, w, h, a, b, c, d):
    one, two = (x, y, x + w, y + h), (a, b, a + c, b + d)
    found = relate(torch.tensor(one, dtype=torch.float64), torch.tensor(two, dtype=torch.float64))
    assert PREDICATES[int(found)] == by_hand(one, two)


def test_a_box_in_a_box_is_inside_and_not_beside():
    small, large = torch.tensor([0.4, 0.4, 0.6, 0.6]), torch.tensor([0.1, 0.1, 0.9, 0.9])
    assert relate(small, large) == INSIDE and relate(large, small) == SURROUNDING


def test_centres_win_over_boxes_and_opposites_are_mutual():
    one, two = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.5, 0.0, 1.5, 1.0])
    assert relate(one, two) == LEFT
    assert relate(one, two, torch.tensor([1.0, 0.5]), torch.tensor([0.6, 0.5])) == RIGHT
    assert opposite(torch.arange(7)).tolist() == list(OPPOSITE)
    assert opposite(opposite(torch.arange(7))).tolist() == list(range(7))
    assert [OPPOSITE[p] for p in (LEFT, ABOVE, INSIDE)] == [RIGHT, BELOW, SURROUNDING]


def test_scenes_repeat_with_the_seed_and_keep_their_promises():
    scenes = graph_scenes(200, seed=5)
    assert torch.equal(scenes.images, graph_scenes(200, seed=5).images)
    assert not torch.equal(scenes.images, graph_scenes(200, seed=6).images)
    assert scenes.images.shape == (200, 3, 32, 32) and scenes.labels.shape == (200, 4)
    assert (scenes.labels[:, 0] == 0).all() and set(scenes.num_objects.tolist()) == {2, 3}
    assert 0.3 < nested(scenes).float().mean() < 0.6
    for i in range(len(scenes)):
        kinds = scenes.labels[i][scenes.labels[i] > 0].tolist()
        colours = scenes.colours[i][scenes.colours[i] >= 0].tolist()
        assert len(set(kinds)) == len(kinds) == len(set(colours)) == len(colours)
    boxes = scenes.boxes[scenes.labels > 0]
    assert boxes.min() >= 0 and boxes.max() <= 1 + 1e-6
    upper = boxes[:, :2] * 8
    assert (upper - upper.round()).abs().max() < 1e-4  # the grid


def test_edges_are_in_image_and_all_ordered_pairs():
    scenes = graph_scenes(50, seed=1)
    for i in range(len(scenes)):
        rows = [tuple(row) for row in scenes.edges[i].tolist() if row[0] >= 0]
        there = [k for k in range(1, 4) if scenes.labels[i, k] > 0]
        ends = {(s, o) for s, p, o in rows if p > 0}
        assert ends == {(a, b) for a in there for b in there if a != b}
        assert {(s, p, o) for s, p, o in rows if p == 0} == {(a, 0, 0) for a in there}
        said = {(s, o): p for s, p, o in rows if p > 0}
        for (s, o), p in said.items():
            assert said[o, s] == OPPOSITE[p]
            if p == SURROUNDING:
                assert scenes.labels[i, s] == SQUARE


def test_the_picture_shows_the_graph():
    """At the middle of a disc or an undisturbed square stands its colour, on the floor grey."""
    scenes = graph_scenes(60, seed=4)
    images = (to_float(scenes.images) + 1) / 2
    looked = 0
    holders = {(i, int(s)) for i, row in enumerate(scenes.edges)
               for s, p, o in row.tolist() if p == SURROUNDING}  # fmt: skip
    for i in range(len(scenes)):
        for k in range(1, 4):
            name = LABELS[scenes.labels[i, k]]
            if name not in ("disc", "square") or (i, k) in holders:
                continue
            box = scenes.boxes[i, k]
            x, y = ((box[:2] + box[2:]) / 2 * 32).long().tolist()
            wanted = torch.tensor(COLOURS[PALETTE[scenes.colours[i, k]]])
            seen = images[i, :, y, x]
            assert torch.nn.functional.cosine_similarity(seen, wanted, dim=0) > 0.97
            looked += 1
    assert looked > 40
    floor = ((images - 0.5).abs() < 0.01).all(1)  # (n, H, W)
    assert floor.float().mean((1, 2)).min() > 0.3


def test_a_part_of_the_scenes():
    scenes = graph_scenes(9, seed=0)
    some = scenes[torch.tensor([4, 2])]
    assert len(some) == 2 and torch.equal(some.boxes[0], scenes.boxes[4])
    with pytest.raises(ValueError, match="n must"):
        graph_scenes(0)
