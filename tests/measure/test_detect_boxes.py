"""Reading shapes, colours and boxes, also of objects on other objects."""

import pytest
import torch
import torch.nn.functional as F

from gentok.data.graph_scenes import graph_scenes, nested
from gentok.data.imageset import to_float
from gentok.measure.detect_boxes import detect_boxes, find_nodes, holds_any


@pytest.fixture(scope="module")
def scenes():
    return graph_scenes(200, seed=8)


def read(scenes, images):
    found = detect_boxes(images)
    return found, *find_nodes(found, scenes.labels)


def test_drawn_scenes_are_read_right(scenes):
    found, present, boxes, _, colours = read(scenes, to_float(scenes.images))
    real = scenes.labels > 0
    assert (present == real).float().mean() > 0.995
    assert (colours == scenes.colours)[real].float().mean() > 0.995
    assert (boxes - scenes.boxes)[real & present].abs().max() < 2.5 / 32
    assert (holds_any(found) == nested(scenes)).float().mean() > 0.98


def test_noise_and_blur_are_borne(scenes):
    torch.manual_seed(0)
    images = to_float(scenes.images)
    real = scenes.labels > 0
    noisy = read(scenes, images + 0.05 * torch.randn_like(images))
    assert (noisy[1] & real).sum() / real.sum() > 0.97
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    soft = read(scenes, 0.5 * images + 0.5 * blurred)
    assert (soft[1] & real).sum() / real.sum() > 0.95


def test_what_is_not_there_is_not_found(scenes):
    blank = torch.zeros(4, 3, 32, 32)
    assert not detect_boxes(blank).present.any()
    thin = blank.clone()
    thin[:, 0, 10:12] = 1.0  # a red line
    assert not detect_boxes(thin).present.any()
    other = scenes.labels.roll(1, 0)  # nodes of another picture
    present = find_nodes(detect_boxes(to_float(scenes.images)), other)[0]
    lacks = (other > 0) & ~(other[:, :, None] == scenes.labels[:, None]).any(-1)
    assert lacks.any() and not present[lacks].any()


def test_two_of_one_shape_and_pictures_of_another_kind():
    found = detect_boxes(to_float(graph_scenes(1, seed=0).images)[:, :3])
    with pytest.raises(ValueError, match="images"):
        detect_boxes(torch.zeros(3, 32, 32))
    label = torch.tensor([[1, 1, 0, 0]])
    box = torch.tensor([[[0.0, 0.0, 0.2, 0.2], [0.5, 0.5, 0.9, 0.9], [0] * 4, [0] * 4]])
    two = type(found)(label > 0, label, box, box[..., :2])
    present, boxes, _, colour = find_nodes(two, torch.tensor([[0, 1, 2]]))
    assert present.tolist() == [[False, True, False]] and colour.tolist() == [[-1, 1, -1]]
    assert boxes[0, 1].tolist() == pytest.approx([0.5, 0.5, 0.9, 0.9])
