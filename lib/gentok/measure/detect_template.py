"""Which shape is it? Draw every shape of the world over a blob and keep what leaves least error.

The templates are the world's own signed distances and shading, so that place, size and colour come
out with the shape. Each is started where the blob's area and centre of area put it, and the best
three are moved and resized a little.

Shapes: m blobs, S shapes, H = W = size pixels.
"""

from dataclasses import dataclass, replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.data.world import SHAPES, Scenes, sample_scenes
from gentok.data.world_flat import FLAT
from gentok.data.world_images import RAMP, object_distances, pixel_grid

SOFT = 2.0  # a blurred picture's edges, in widths of a sharp one's
REFINED = 3  # shapes that are moved and resized
STEPS = (4.0, 2.0, 1.0, 0.5, 0.25, 0.12)  # of refinement, in half pixels and in 6 % of the radius
HIDDEN = 0.3  # of the radius: where half a shape has the floor's colour, its centre is off


@dataclass
class Fits:
    """Every shape's best drawing of every blob.

    Attributes:
        error: squared, (m, S); ``position`` (m, S, 2); ``radius`` (m, S); ``tint`` RGB (m, S, 3).
    """

    error: Tensor
    position: Tensor
    radius: Tensor
    tint: Tensor


@cache
def shape_areas() -> Tensor:
    """Area of each shape with radius 1, (S,)."""
    grid = (torch.arange(400) * 2 + 1) / 400 - 1
    x, y = torch.meshgrid(grid, grid, indexing="xy")
    return torch.stack([(shape(x, y) < 0).float().mean() * 4 for shape in FLAT.values()])


def draw_templates(
    shape: Tensor, position: Tensor, radius: Tensor, size: int, soft: Tensor
) -> tuple[Tensor, Tensor]:
    """Share of each pixel and shade of upright shapes, (m, H, W) each.

    Args:
        shape: (m,) int64; ``position`` (m, 2); ``radius`` (m,).
        soft: width of the edges in widths of a sharp one's, (m,).
    """
    scenes = _blank()[torch.zeros_like(shape)]
    scenes = replace(
        scenes, shape=shape[:, None], position=position[:, None], radius=radius[:, None]
    )
    distance, shade = object_distances(scenes, size)
    ramp = (RAMP * 2 / size) * soft[:, None, None]
    return (0.5 - distance[:, 0] / ramp).clamp(0, 1), shade[:, 0]


@cache
def _blank() -> Scenes:
    scenes = sample_scenes(1, 0, max_objects=1)
    return replace(scenes, angle=torch.zeros_like(scenes.angle))


class TemplateFit:
    """Fits of all shapes to m blobs.

    Args:
        images, floor: the picture of each blob and its floor, (m, 3, H, W) in [0, 1].
        own, other: bool (m, H, W), the blob's pixels and those of other blobs, which do not count.
    """

    def __init__(self, images: Tensor, floor: Tensor, own: Tensor, other: Tensor):
        self.floor, self.size = floor, images.shape[-1]
        self.weight = 1 - _grown(other)[:, None]  # (m, 1, H, W)
        self.excess = (images - floor) * self.weight
        m, shapes = len(images), len(SHAPES)
        position, area = self._moments(_grown(own) * self.excess.norm(dim=1), own)
        self.fits = Fits(
            error=torch.full((m, shapes), torch.inf),
            position=position[:, None].repeat(1, shapes, 1),
            radius=(area[:, None] / shape_areas()).sqrt(),  # the area tells each shape's radius
            tint=torch.zeros(m, shapes, 3),
        )
        self.soft = torch.ones(m)

    def _moments(self, distance: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Centre of area (m, 2) and area (m,) in scene units, edge pixels counted in part."""
        ordered = torch.where(own, distance, 0.0).flatten(1).sort(1, descending=True).values
        middle = ordered.gather(1, own.flatten(1).sum(1, keepdim=True) // 2)[:, :, None]
        share = (distance / (0.75 * middle)).clamp(0, 1)  # the rim is darker than the rest
        gx, gy = pixel_grid(self.size)
        total = share.sum((1, 2))
        centre = torch.stack([(share * gx).sum((1, 2)), (share * gy).sum((1, 2))], 1)
        return centre / total[:, None], total * (2 / self.size) ** 2

    def run(self) -> Fits:
        """Start, choose how soft the edges are, refine."""
        shapes = torch.arange(len(SHAPES)).expand(len(self.soft), -1)
        radius = self.fits.radius.clone()
        still = torch.zeros(2)
        for factor in (1.0, 0.9, 1.1):
            self._try(shapes, still, radius * factor)
        # Shade falls along the diagonal, and on its way may pass through the floor's colour.
        for side in (1, -1):
            shift = side * HIDDEN * radius[..., None].expand(-1, -1, 2)
            self._try(shapes, shift, radius * (1 + HIDDEN))
        self._choose_softness(shapes)
        pixel = 2 / self.size
        for step in STEPS:
            best = self.fits.error.topk(REFINED, 1, largest=False).indices
            for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                shift = torch.tensor([dx, dy]) * (step * pixel / 2)
                self._try(best, shift, self.fits.radius.gather(1, best))
            for sign in (1, -1):
                grown = self.fits.radius.gather(1, best) * (1 + sign * 0.06 * step)
                self._try(best, still, grown)
        return self.fits

    def _choose_softness(self, shapes: Tensor) -> None:
        """Keep the softer edges for the blobs whose best drawing they improve."""
        sharp = self.fits
        self.fits = Fits(
            torch.full_like(sharp.error, torch.inf),
            sharp.position.clone(),
            sharp.radius.clone(),
            sharp.tint.clone(),
        )
        self.soft = torch.full_like(self.soft, SOFT)
        self._try(shapes, torch.zeros(2), sharp.radius)
        better = self.fits.error.amin(1) < sharp.error.amin(1)
        self.soft = torch.where(better, SOFT, 1.0)
        for name in ("error", "position", "radius", "tint"):
            soft, hard = getattr(self.fits, name), getattr(sharp, name)
            choose = better.view(-1, *[1] * (soft.ndim - 1))
            setattr(self.fits, name, torch.where(choose, soft, hard))

    def _try(self, shapes: Tensor, shift: Tensor, radius: Tensor) -> None:
        """Draw ``shapes`` (m, s) anew and keep what is better than before."""
        m, s = shapes.shape
        position = self.fits.position.gather(1, shapes[..., None].expand(-1, -1, 2)) + shift
        soft = self.soft.repeat_interleave(s)
        cover, shade = draw_templates(
            shapes.flatten(), position.flatten(0, 1), radius.flatten(), self.size, soft
        )
        grid = (m, s, 1, self.size, self.size)
        error, tint = self._error(cover.view(grid), shade.view(grid))
        better = error < self.fits.error.gather(1, shapes)
        row, column = better.nonzero(as_tuple=True)
        target = shapes[row, column]
        self.fits.error[row, target] = error[row, column]
        self.fits.position[row, target] = position[row, column]
        self.fits.radius[row, target] = radius[row, column]
        self.fits.tint[row, target] = tint[row, column]

    def _error(self, cover: Tensor, shade: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error (m, s) and the tint (m, s, 3) that makes it least.

        A pixel is (1 - cover) floor + cover shade tint. What is left of it without the tint,
        excess + cover floor, is regressed on cover shade in each channel.
        """
        weighted = cover * self.weight[:, None]  # (m, s, 1, H, W)
        left = self.excess[:, None] + weighted * self.floor[:, None]  # (m, s, 3, H, W)
        paint = weighted * shade
        tint = (left * paint).sum((3, 4)) / paint.square().sum((3, 4)).clamp_min(1e-6)
        tint = tint.clamp(0, 1.05)
        error = (left - paint * tint[..., None, None]).square().sum((2, 3, 4))
        return error, tint


def _grown(mask: Tensor) -> Tensor:
    """A mask with one pixel more on every side, (m, H, W) float."""
    return F.max_pool2d(mask[:, None].float(), 3, 1, 1)[:, 0]
