"""Where one box stands to another: the seven predicates of scene graphs made from annotations.

Johnson et al. 2018 (arXiv:1804.01622), whose rule for COCO the later systems keep. A box that lies
strictly within another is inside it; all else is told by the direction between the centres, in
quarters of the circle.

Boxes are (x0, y0, x1, y1) with y growing downward; the leading axes are arbitrary.
"""

import math

import torch
from torch import Tensor

PREDICATES = ("in image", "left of", "right of", "above", "below", "inside", "surrounding")
IN_IMAGE, LEFT, RIGHT, ABOVE, BELOW, INSIDE, SURROUNDING = range(7)
DIRECTIONS = (LEFT, RIGHT, ABOVE, BELOW)
OPPOSITE = (IN_IMAGE, RIGHT, LEFT, BELOW, ABOVE, SURROUNDING, INSIDE)


def within(inner: Tensor, outer: Tensor) -> Tensor:
    """Whether boxes (..., 4) lie strictly within others, (...) bool."""
    low = (inner[..., :2] > outer[..., :2]).all(-1)
    return low & (inner[..., 2:] < outer[..., 2:]).all(-1)


def centre_of(boxes: Tensor) -> Tensor:
    """Middle of boxes: (..., 4) -> (..., 2)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def relate(
    subject: Tensor,
    other: Tensor,
    subject_centre: Tensor | None = None,
    other_centre: Tensor | None = None,
) -> Tensor:
    """The predicate between two boxes.

    Args:
        subject, other: boxes, (..., 4).
        subject_centre, other_centre: (..., 2), where they are known better than as the middle of a
            box: COCO has masks, and takes the centre of those.

    Returns:
        index into PREDICATES, (...) int64, never "in image".
    """
    a = centre_of(subject) if subject_centre is None else subject_centre
    b = centre_of(other) if other_centre is None else other_centre
    dx, dy = (a - b).unbind(-1)
    angle = torch.atan2(dy, dx)  # of the subject, seen from the other; y points down
    quarter = math.pi / 4
    found = torch.full(angle.shape, RIGHT, device=angle.device)
    found[(angle >= -3 * quarter) & (angle < -quarter)] = ABOVE
    found[(angle >= quarter) & (angle < 3 * quarter)] = BELOW
    found[angle.abs() >= 3 * quarter] = LEFT
    found[within(subject, other)] = INSIDE
    found[within(other, subject)] = SURROUNDING
    return found


def opposite(predicates: Tensor) -> Tensor:
    """What holds from the other end, and cannot hold from this one: any shape, int64."""
    return torch.tensor(OPPOSITE, device=predicates.device)[predicates]
