"""How far a box is from another: overlap, and the complete overlap loss.

Zheng et al. 2020 (arXiv:1911.08287, equations 8 to 11).

Boxes are (x0, y0, x1, y1); the leading axes are arbitrary.
"""

import math

import torch
from torch import Tensor

EPSILON = 1e-7


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Area of the intersection over that of the union: (..., 4), (..., 4) -> (...) in [0, 1]."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    common = (high - low).clamp_min(0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b)]
    return common / (areas[0] + areas[1] - common + EPSILON)


def complete_overlap_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - IoU + distance of the centres + difference of the aspects.

    Args:
        predicted, target: (..., 4). A predicted box without height or width counts as one of
            height and width `EPSILON` in the last term, where the formula would divide by zero.

    Returns:
        (...), in [0, about 3].
    """
    iou = overlap(predicted, target)
    low = torch.minimum(predicted[..., :2], target[..., :2])
    high = torch.maximum(predicted[..., 2:], target[..., 2:])
    diagonal = (high - low).square().sum(-1) + EPSILON  # c^2, of the box around both
    apart = predicted[..., :2] + predicted[..., 2:] - target[..., :2] - target[..., 2:]
    distance = (apart / 2).square().sum(-1)  # rho^2
    # v = 4 / pi^2 (arctan(w / h) - arctan(w' / h'))^2, and alpha = v / (1 - IoU + v)
    aspect = 4 / math.pi**2 * (_angle(target) - _angle(predicted)).square()
    with torch.no_grad():  # alpha is a weight, not something to learn by
        alpha = aspect / (1 - iou + aspect + EPSILON)
    return 1 - iou + distance / diagonal + alpha * aspect


def _angle(boxes: Tensor) -> Tensor:
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    return torch.atan(width.clamp_min(EPSILON) / height.clamp_min(EPSILON))
