"""Read off a picture or clip what it shows: shape, colour, place, relation, direction of motion.

A generator that was asked for a red star on the left shall draw one, and this says whether it did.
It reads pictures of the procedural world with a plain floor and upright shapes, generated ones
included, by drawing: no network is trained for it.

Shapes: n pictures or clips, K objects at most, T frames, H = W = size pixels.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gentok.data.clips import DIRECTIONS
from gentok.data.world import COLOURS, RELATIONS
from gentok.measure.detect_floor import find_blobs, fit_floor
from gentok.measure.detect_template import TemplateFit

PLACES = ("left", "right", "top", "bottom", "centre")
CENTRE = 0.15  # an object is in the centre if both coordinates are nearer to 0 than this
CHUNK = 64  # pictures at a time: each costs some megabytes


@dataclass(frozen=True)
class Detection:
    """What pictures show; objects are sorted by area, the largest first.

    Attributes:
        present: whether there is a k-th object, (n, K) bool. Elsewhere indices are -1, the rest 0.
        shape, colour: indices into SHAPES and COLOURS, (n, K) int64.
        position: centre of area, (n, K, 2) as (x, y); ``radius`` (n, K); in the world's units.
        place: index into PLACES, (n, K) int64.
        relation: of the first object to the second, index into RELATIONS, (n,) int64; -1 for fewer
            than two objects.
        shape_confidence: (n, K) in [0, 1], 1 - error of the best shape / that of the second best.
        colour_confidence: the same of the distances to the nearest and second nearest colour.
        explained: share of the object's difference from the floor that the drawing accounts for,
            (n, K), at most 1; low where nothing like a shape of the world is seen.
    """

    present: Tensor
    shape: Tensor
    colour: Tensor
    position: Tensor
    radius: Tensor
    place: Tensor
    relation: Tensor
    shape_confidence: Tensor
    colour_confidence: Tensor
    explained: Tensor

    def __len__(self) -> int:
        return len(self.present)


@dataclass(frozen=True)
class Motion:
    """How the largest object of each clip moves.

    Attributes:
        direction: index into DIRECTIONS, (n,) int64; -1 if it is seen in less than two frames.
        speed: along that direction, pixels a frame, (n,).
        position: of its blob's centre in every frame, (n, T, 2), world's units; NaN where not seen.
        confidence: (n,) in [0, 1], the share of the motion that is steady and in that direction.
    """

    direction: Tensor
    speed: Tensor
    position: Tensor
    confidence: Tensor


def place_of(position: Tensor) -> Tensor:
    """Index into PLACES of (x, y): (..., 2) -> (...) int64."""
    x, y = position.unbind(-1)
    sideways = torch.where(x < 0, 0, 1)
    upright = torch.where(y < 0, 2, 3)
    side = torch.where(x.abs() >= y.abs(), sideways, upright)
    return torch.where(position.abs().amax(-1) < CENTRE, 4, side)


def relation_of(a: Tensor, b: Tensor) -> Tensor:
    """Index into RELATIONS of what stands at ``a`` to what stands at ``b``: (..., 2) -> (...).

    The rule of :func:`gentok.data.scene_graphs`: along the axis on which they are further apart.
    """
    dx, dy = (a - b).unbind(-1)
    left, right, above, below = range(len(RELATIONS))
    sideways = torch.where(dx < 0, left, right)
    return torch.where(dx.abs() >= dy.abs(), sideways, torch.where(dy < 0, above, below))


@torch.no_grad()
def detect(images: Tensor, max_objects: int = 1) -> Detection:
    """Read pictures.

    Args:
        images: (n, 3, H, W) in [-1, 1]; values outside are clipped.
        max_objects: K, how many objects to look for; smaller blobs beyond them are ignored.

    Raises:
        ValueError: if ``images`` has another shape, or ``max_objects`` is below 1.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images must be (n, 3, H, H), got {tuple(images.shape)}")
    if max_objects < 1:
        raise ValueError(f"max_objects must be 1 or more, got {max_objects}")
    parts = [_detect(part, max_objects) for part in images.split(CHUNK)]
    return Detection(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Detection)))


def _detect(images: Tensor, k: int) -> Detection:
    pictures = to_unit(images)
    floor, noise = fit_floor(pictures)
    labels, kept = find_blobs(pictures, floor, noise, k)
    present = kept > 0
    picture, place = present.nonzero(as_tuple=True)  # (m,) each
    own = labels[picture] == kept[picture, place][:, None, None]  # (m, H, W)
    other = (labels[picture] > 0) & ~own
    fitted = TemplateFit(pictures[picture], floor[picture], own, other)
    fits = fitted.run()
    rows = torch.arange(len(picture))
    error, shape = fits.error.topk(2, 1, largest=False)  # (m, 2)
    shape = shape[:, 0]
    named = torch.tensor(list(COLOURS.values()))
    away, colour = torch.cdist(fits.tint[rows, shape], named).topk(2, 1, largest=False)
    position = fits.position[rows, shape]
    total = fitted.excess.square().sum((1, 2, 3))

    def spread(values: Tensor, empty: float) -> Tensor:
        out = torch.full((len(images), k, *values.shape[1:]), empty, dtype=values.dtype)
        out[picture, place] = values
        return out

    where = spread(position, 0.0)
    relation = torch.full((len(images),), -1)
    if k > 1:
        relation = torch.where(present[:, 1], relation_of(where[:, 0], where[:, 1]), -1)
    return Detection(
        present=present,
        shape=spread(shape, -1),
        colour=spread(colour[:, 0], -1),
        position=where,
        radius=spread(fits.radius[rows, shape], 0.0),
        place=spread(place_of(position), -1),
        relation=relation,
        shape_confidence=spread(1 - error[:, 0] / error[:, 1].clamp_min(1e-9), 0.0),
        colour_confidence=spread(1 - away[:, 0] / away[:, 1], 0.0),
        explained=spread(1 - error[:, 0] / total.clamp_min(1e-9), 0.0),
    )


@torch.no_grad()
def detect_motion(video: Tensor) -> Motion:
    """Follow the largest object through clips.

    Args:
        video: (n, T, 3, H, W) in [-1, 1], T >= 2. A path that turns back has no one direction; its
            positions still hold.

    Raises:
        ValueError: if ``video`` has another shape.
    """
    if video.ndim != 5 or video.shape[1] < 2 or video.shape[2] != 3:
        raise ValueError(f"video must be (n, T >= 2, 3, H, W), got {tuple(video.shape)}")
    n, frames, size = len(video), video.shape[1], video.shape[-1]
    position = torch.cat([_centres(part) for part in video.flatten(0, 1).split(8 * CHUNK)])
    position = position.view(n, frames, 2)
    seen = position.isfinite().all(-1)  # (n, T)
    # Straight line through the places seen, by least squares.
    time = torch.arange(frames).expand(n, -1)[..., None].float()  # (n, T, 1)
    time, here = _centred(time, seen), _centred(position, seen)
    slope = (time * here).sum(1) / time.square().sum(1).clamp_min(1e-9)  # (n, 2) a frame
    heading = torch.tensor(list(DIRECTIONS.values()))
    along, direction = (slope @ heading.T).max(1)
    scatter = (
        (here - time * slope[:, None]).square().sum((1, 2)) / seen.sum(1).clamp_min(1)
    ).sqrt()
    across = slope.norm(dim=1).square().sub(along.square()).clamp_min(0).sqrt()
    steady = along / (along + across + scatter / frames).clamp_min(1e-9)
    known = seen.sum(1) > 1
    return Motion(
        direction=torch.where(known, direction, -1),
        speed=torch.where(known, along * size / 2, 0.0),
        position=position,
        confidence=torch.where(known, steady, 0.0),
    )


def _centred(values: Tensor, seen: Tensor) -> Tensor:
    """Minus their mean over the frames that are ``seen``, 0 in the others: (n, T, any), (n, T)."""
    values = torch.where(seen[..., None], values, 0.0)
    mean = values.sum(1) / seen.sum(1).clamp_min(1)[:, None]
    return torch.where(seen[..., None], values - mean[:, None], 0.0)


def _centres(images: Tensor) -> Tensor:
    """Centre of the largest blob, weighted by its contrast, (n, 2); NaN where there is none."""
    pictures = to_unit(images)
    floor, noise = fit_floor(pictures)
    labels, kept = find_blobs(pictures, floor, noise, 1)
    own = (labels == kept[:, :, None]) & (kept > 0)[:, :, None]  # (n, H, W)
    weight = (pictures - floor).norm(dim=1) * own
    centres = (torch.arange(images.shape[-1]) * 2 + 1) / images.shape[-1] - 1
    moments = [(weight.sum(axis) * centres).sum(1) for axis in (1, 2)]  # x, y
    return torch.stack(moments, 1) / weight.sum((1, 2))[:, None]


def to_unit(images: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1], clipped, on the CPU in float32."""
    return images.detach().cpu().float().add(1).div(2).clamp(0, 1)
