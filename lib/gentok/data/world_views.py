"""Views of the procedural world from the side: ray-traced solids on the textured floor.

On each object's place stands the solid whose footprint is its flat shape, so the flat picture is
the plan of what the cameras see. Rays march by signed distances (sphere tracing, Hart 1996): from
any point one may go as far as the distance says without passing a surface.

World: x right, y forward (up in the flat picture), z up; the flat (x, y) is at (x, -y, 0).
Shapes: n scenes, K places, V cameras, R rays a scene, H = W = size pixels.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.data.cameras import Cameras, orbit
from gentok.data.world import SHAPES, Scenes
from gentok.data.world_images import floor_colours
from gentok.data.world_solids import distance_gradient, height, signed_distance

STEPS = 40  # of a marching ray; all but grazing rays arrive in ten
CLOSE = 1e-4  # in object radii: a ray this near has arrived
LIGHT = F.normalize(torch.tensor([-0.5, -0.45, 0.9]), dim=0)  # towards the light
SKY = torch.tensor([0.80, 0.86, 0.93])
SHADOW = 0.55  # brightness of the floor where the light does not reach
SUPERSAMPLE = 2  # rays a pixel side for the pictures
CHUNK = 1 << 18  # rays traced at a time: bounds the memory


@dataclass(frozen=True)
class Views:
    """Rendered views.

    Attributes:
        images: (n, V, 3, H, W), float32 in [-1, 1].
        depth: along the camera's view at the pixel centre, (n, V, H, W), scene units; inf for sky.
        owner: place of the object at the pixel centre, (n, V, H, W) int64; -1 floor, -2 sky.
        cameras: the cameras that took them.
    """

    images: Tensor
    depth: Tensor
    owner: Tensor
    cameras: Cameras


def object_centres(scenes: Scenes) -> Tensor:
    """World coordinates of the solids' centres, (n, K, 3)."""
    heights = torch.tensor([height(shape) for shape in SHAPES])[scenes.shape]  # (n, K)
    x, y = scenes.position.unbind(-1)
    return torch.stack([x, -y, heights * scenes.radius], -1)


def _to_object(scenes: Scenes, i: Tensor, k: Tensor, vectors: Tensor) -> Tensor:
    """Turn world vectors (m, 3) into the frames of objects (i, k), scaled so that radius is 1."""
    angle, radius = scenes.angle[i, k], scenes.radius[i, k]
    c, s = angle.cos(), angle.sin()
    x, y, z = vectors.unbind(-1)
    return torch.stack([c * x + s * y, c * y - s * x, z], -1) / radius[:, None]


def _march(shape: str, origin: Tensor, direction: Tensor, t: Tensor, leave: Tensor) -> Tensor:
    """Distance to the surface along rays (m, 3), from ``t`` to ``leave`` (m,); inf for a miss."""
    found = torch.full_like(t, math.inf)
    active = torch.arange(len(t))
    for _ in range(STEPS):
        if len(active) == 0:
            break
        step = signed_distance(shape, origin + t[:, None] * direction)
        arrived = step < CLOSE
        found[active[arrived]] = t[arrived]
        go = ~arrived & (t + step < leave)
        active, t, leave = active[go], (t + step)[go], leave[go]
        origin, direction = origin[go], direction[go]
    return found


def trace(scenes: Scenes, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """First object that each ray meets.

    Args:
        scenes: n scenes.
        origin, direction: (n, R, 3), world; directions have length 1.

    Returns:
        t: distance along the ray, (n, R); inf where it meets none.
        place: index of the object, (n, R) int64; -1 where it meets none.
    """
    best = torch.full(origin.shape[:2], math.inf)
    place = torch.full(origin.shape[:2], -1)
    centres = object_centres(scenes)
    for k in range(scenes.shape.shape[1]):
        offset = origin - centres[:, k, None]  # (n, R, 3)
        b = (offset * direction).sum(-1)
        tall = torch.tensor([height(shape) for shape in SHAPES])[scenes.shape[:, k]]
        bound = (1 + tall.square()) * scenes.radius[:, k].square()  # squared radius of a ball
        under = b.square() - offset.square().sum(-1) + bound[:, None]
        leave = under.clamp_min(0).sqrt() - b
        near = (under > 0) & (leave > 0) & scenes.present[:, k, None]
        for index, shape in enumerate(SHAPES):
            i, r = (near & (scenes.shape[:, k] == index)[:, None]).nonzero(as_tuple=True)
            if len(i) == 0:
                continue
            scale = scenes.radius[i, k]
            enter = (-b[i, r] - under[i, r].sqrt()).clamp_min(0) / scale
            o, d = (_to_object(scenes, i, k, v[i, r]) for v in (offset, direction))
            t = _march(shape, o, d * scale[:, None], enter, leave[i, r] / scale) * scale
            nearer = t < best[i, r]
            best[i[nearer], r[nearer]] = t[nearer]
            place[i[nearer], r[nearer]] = k
    return best, place


def surface_normals(scenes: Scenes, points: Tensor, place: Tensor) -> Tensor:
    """Outward unit normals of objects ``place`` (n, R) at world points (n, R, 3); 0 where none."""
    normals = torch.zeros_like(points)
    centres = object_centres(scenes)
    shapes = scenes.shape.gather(1, place.clamp_min(0))
    for index, shape in enumerate(SHAPES):
        i, r = ((shapes == index) & (place >= 0)).nonzero(as_tuple=True)
        if len(i) == 0:
            continue
        k = place[i, r]
        local = _to_object(scenes, i, k, points[i, r] - centres[i, k])
        gx, gy, gz = distance_gradient(shape, local).unbind(-1)
        c, s = scenes.angle[i, k].cos(), scenes.angle[i, k].sin()
        normals[i, r] = torch.stack([c * gx - s * gy, s * gx + c * gy, gz], -1)
    return normals


def cast(scenes: Scenes, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """What rays (n, R, 3) see first: distance (n, R), inf for sky, and owner (n, R) as in Views."""
    t, place = trace(scenes, origin, direction)
    down = -direction[..., 2]
    floor = torch.where(down > 1e-4, origin[..., 2] / down.clamp_min(1e-4), math.inf)
    distance = torch.minimum(t, floor)
    owner = torch.where(floor < t, -1, torch.where(distance.isinf(), -2, place))
    return distance, owner


def _shade(scenes: Scenes, origin: Tensor, direction: Tensor, size: int) -> Tensor:
    """Colours in [0, 1] along rays (n, R, 3): (n, R, 3)."""
    distance, owner = cast(scenes, origin, direction)
    points = origin + torch.where(distance.isinf(), 0.0, distance)[..., None] * direction
    # Objects: ambient light, and Lambert's cosine law for the lamp.
    lit = 0.42 + 0.66 * (surface_normals(scenes, points, owner) @ LIGHT).clamp_min(0)
    index = owner.clamp_min(0)[..., None].expand(-1, -1, 3)
    colour = scenes.tint.gather(1, index) * lit[..., None]
    # Floor: its pattern, dark where a ray to the light meets an object, hazy far away.
    pattern = floor_colours(scenes, points[..., None, 0], -points[..., None, 1], size)
    pattern = pattern[..., 0].transpose(1, 2)  # (n, R, 3)
    ground = (owner == -1)[..., None]
    start = torch.where(ground, points, torch.tensor([0.0, 0.0, -1e3]))  # others: meet nothing
    blocked = trace(scenes, start, LIGHT.expand_as(start))[1] >= 0
    pattern = pattern * torch.where(blocked, SHADOW, 1.0)[..., None]
    haze = ((points[..., :2].norm(dim=-1) - 2.5) / 6).clamp(0, 1)[..., None]
    colour = torch.where(ground, torch.lerp(pattern, SKY.expand_as(pattern), haze), colour)
    return torch.where((owner == -2)[..., None], SKY, colour).clamp(0, 1)


def render_views(scenes: Scenes, size: int = 32, cameras: Cameras | None = None) -> Views:
    """Look at scenes from the side.

    Args:
        scenes: n scenes.
        size: side in pixels.
        cameras: (n, V) cameras; four on an orbit, 35 degrees above the floor, if not given.

    Raises:
        ValueError: if there are cameras for another number of scenes.
    """
    cameras = orbit(len(scenes)) if cameras is None else cameras
    n, v = cameras.position.shape[:2]
    if n != len(scenes):
        raise ValueError(f"cameras must be for {len(scenes)} scenes, got {n}")
    fine = size * SUPERSAMPLE
    step = max(1, CHUNK // (v * fine * fine))
    parts = []
    for first in range(0, n, step):
        part = slice(first, first + step)
        view = Cameras(cameras.position[part], cameras.rotation[part], cameras.focal)
        parts.append(_render(scenes[part], view, size, fine))
    images, depth, owner = (torch.cat(p) for p in zip(*parts, strict=True))
    return Views(images, depth, owner, cameras)


def _render(scenes: Scenes, cameras: Cameras, size: int, fine: int) -> tuple[Tensor, ...]:
    n, v = cameras.position.shape[:2]
    rays = cameras.rays(fine)  # (n, V, fine, fine, 3)
    origin = cameras.position[:, :, None, None].expand_as(rays)
    colour = _shade(scenes, origin.flatten(1, 3), rays.flatten(1, 3), size)  # (n, R, 3)
    images = colour.reshape(n * v, fine, fine, 3).permute(0, 3, 1, 2)
    images = F.avg_pool2d(images, SUPERSAMPLE).unflatten(0, (n, v)) * 2 - 1
    # Depth and owner must not be averages over an edge: look along the pixel centres themselves.
    rays = cameras.rays(size)
    origin = cameras.position[:, :, None, None].expand_as(rays)
    distance, owner = cast(scenes, origin.flatten(1, 3), rays.flatten(1, 3))
    along = torch.einsum("nvhwi,nvi->nvhw", rays, cameras.rotation[:, :, 2])
    return images, distance.reshape_as(along) * along, owner.reshape(along.shape)
