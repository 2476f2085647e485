"""Pinhole cameras: where they stand, where a point in space appears, which ray a pixel sees.

World: x right, y forward, z up, the floor at z = 0. Camera: x right, y down, z along its view, as
in OpenCV. A pixel (row i, column j) covers [j, j + 1] x [i, i + 1], so its centre is at + 1/2.

Shapes: n scenes, V cameras each, P points, H = W = size pixels.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Cameras:
    """Pinhole cameras with square pixels and the principal point in the middle.

    Attributes:
        position: of the pinhole, (n, V, 3).
        rotation: world to camera, (n, V, 3, 3): its rows are the camera's x, y, z axes.
        focal: focal length in picture widths; the field of view is 2 atan(1 / (2 focal)).
    """

    position: Tensor
    rotation: Tensor
    focal: float

    def project(self, points: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Where points appear: x = f X / Z + size / 2, and y alike, with f = focal * size.

        Args:
            points: world coordinates, (n, P, 3).
            size: side of the picture in pixels.

        Returns:
            pixels: (n, V, P, 2) as (x right, y down); depth Z along the view, (n, V, P).
        """
        local = points[:, None] - self.position[:, :, None]  # (n, V, P, 3)
        local = torch.einsum("nvij,nvpj->nvpi", self.rotation, local)
        depth = local[..., 2]
        return local[..., :2] / depth[..., None] * (self.focal * size) + size / 2, depth

    def rays(self, size: int) -> Tensor:
        """Unit directions of the rays through the pixel centres, (n, V, H, W, 3), world axes."""
        centres = (torch.arange(size) + 0.5 - size / 2) / (self.focal * size)
        x, y = centres.expand(size, size), centres[:, None].expand(size, size)
        local = F.normalize(torch.stack([x, y, torch.ones_like(x)], -1), dim=-1)  # (H, W, 3)
        return torch.einsum("nvji,hwj->nvhwi", self.rotation, local)

    def unproject(self, depth: Tensor) -> Tensor:
        """World points that depth maps (n, V, H, W) show, (n, V, H, W, 3)."""
        rays = self.rays(depth.shape[-1])
        along = torch.einsum("nvhwi,nvi->nvhw", rays, self.rotation[:, :, 2])
        return self.position[:, :, None, None] + rays * (depth / along)[..., None]


def look_at(position: Tensor, target: Tensor, focal: float = 1.4) -> Cameras:
    """Cameras at ``position`` (n, V, 3) that look at ``target`` (same shape or broadcast), upright.

    A camera that looks straight down has the world's y axis (forward) upwards in its picture.
    """
    forward = F.normalize(target - position, dim=-1)
    up = torch.zeros_like(forward)
    up[..., 2] = 1.0
    steep = forward[..., 2].abs() > 0.9999
    up[steep] = torch.tensor([0.0, 1.0, 0.0])
    right = F.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = torch.linalg.cross(forward, right)
    return Cameras(position, torch.stack([right, down, forward], -2), focal)


def orbit(
    n: int,
    views: int = 4,
    elevation: float = 35.0,
    distance: float = 3.6,
    start: float = -90.0,
    focal: float = 1.4,
) -> Cameras:
    """``views`` cameras evenly spaced on a circle above the floor, looking at its middle.

    Args:
        n: number of scenes; all get the same circle.
        elevation: degrees above the floor, above 0 and up to 90 (straight down).
        distance: from the middle, in scene units (the floor plan spans 2).
        start: azimuth of the first camera in degrees; -90 stands in front (negative y).
        focal: in picture widths.

    Raises:
        ValueError: if ``elevation`` is not in (0, 90] or ``views`` < 1.
    """
    if not 0 < elevation <= 90 or views < 1:
        raise ValueError(f"need 0 < elevation <= 90 and views >= 1, got {elevation} and {views}")
    azimuth = torch.arange(views) * (2 * math.pi / views) + math.radians(start)
    tilt = math.radians(elevation)
    unit = torch.stack(
        [
            azimuth.cos() * math.cos(tilt),
            azimuth.sin() * math.cos(tilt),
            torch.full((views,), math.sin(tilt)),
        ],
        -1,
    )  # (V, 3)
    position = (unit * distance).expand(n, -1, -1)
    return look_at(position, torch.zeros_like(position), focal)
