"""Pictures and masks of the procedural world, drawn by signed distances.

A pixel's share of an object follows from the object's signed distance at the pixel's centre: a ramp
one and a half pixels wide. So edges are smooth at every size, and a scene drawn at 32 or at 256
pixels shows the same things.

Shapes: n scenes, K places for objects, H = W = size pixels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gentok.data.imageset import ImageSet, generator, to_uint8
from gentok.data.world import SHAPES, TEXTURES, Scenes, sample_scenes
from gentok.data.world_flat import FLAT

RAMP = 1.5  # width of an edge in pixels
TILE = 128  # side of a noise tile; it covers two picture widths and repeats without a seam


def pixel_grid(size: int) -> tuple[Tensor, Tensor]:
    """x and y of the pixel centres, (size,) and (size, 1): pixel j is at (2j + 1) / size - 1."""
    if size < 4:
        raise ValueError(f"size must be 4 or more pixels, got {size}")
    centres = (torch.arange(size) * 2 + 1) / size - 1
    return centres, centres[:, None]


def _noise_tile(power: float, seed: int) -> Tensor:
    """Periodic noise in [0, 1] with amplitude falling as 1 / frequency**power, (TILE, TILE)."""
    white = torch.fft.rfft2(torch.randn(TILE, TILE, generator=generator(seed)))
    rows, columns = torch.fft.fftfreq(TILE)[:, None], torch.fft.rfftfreq(TILE)
    radius = torch.hypot(rows, columns.expand(TILE, -1))
    radius[0, 0] = math.inf  # no mean
    tile = torch.fft.irfft2(white / radius**power, s=(TILE, TILE))
    return (0.5 + tile / (4 * tile.std())).clamp(0, 1)


# Natural scenes have amplitude 1 / f; the second tile is rougher, near white noise.
TILES = {"cloudy": _noise_tile(1.2, 1), "grainy": _noise_tile(0.45, 2)}


def _pattern(kind: str, u: Tensor, v: Tensor, sharp: Tensor) -> Tensor:
    """Values in [0, 1] of a pattern at (u, v), counted in its own periods."""
    if kind == "plain":  # a soft shade across the picture
        return 0.5 + 0.5 * torch.sin(u * 0.5)
    if kind == "striped":
        return 0.5 + 0.5 * torch.tanh(sharp * torch.sin(2 * math.pi * u))
    waves = torch.sin(2 * math.pi * u) * torch.sin(2 * math.pi * v)
    if kind == "checked":
        return 0.5 + 0.5 * torch.tanh(sharp * 1.5 * waves)
    return torch.sigmoid(6 * (waves - 0.35))  # dotted: only the tops of one sign


def _tile_at(tile: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Look the tile up at (x, y), in tile widths, bilinear and periodic."""
    wrapped = F.pad(tile[None, None], (0, 1, 0, 1), mode="circular")
    grid = torch.stack([x, y], -1).remainder_(1.0).mul_(2.0).sub_(1.0)  # (m, H, W, 2)
    image = wrapped.expand(len(x), -1, -1, -1)
    return F.grid_sample(image, grid, mode="bilinear", align_corners=True)[:, 0]


def floor_colours(scenes: Scenes, x: Tensor, y: Tensor, size: int, time: float = 0.0) -> Tensor:
    """Colours of the floor at places on it.

    Args:
        scenes: n scenes.
        x, y: places in scene units, together (n, H, W) or what broadcasts to it.
        size: pixels a picture width, so that the pattern is no sharper than they can show.
        time: in frames; a moving floor has slid by then.

    Returns:
        (n, 3, H, W) float32 in [0, 1].
    """
    x = x - time * scenes.pan[:, 0, None, None]
    y = y - time * scenes.pan[:, 1, None, None]
    c, s = scenes.direction.cos()[:, None, None], scenes.direction.sin()[:, None, None]
    u, v = x * c + y * s, y * c - x * s  # (n, H, W)
    value = torch.empty_like(u)
    # Sharp edges would alias where a period spans few pixels, so soften them there.
    sharp = (0.25 * size / scenes.frequency).clamp(1.0, 4.0)[:, None, None]
    for index, kind in enumerate(TEXTURES):
        if len(m := (scenes.texture == index).nonzero()[:, 0]) == 0:
            continue
        a, b = scenes.phase[m, 0, None, None], scenes.phase[m, 1, None, None]
        if kind in TILES:  # two picture widths a tile: TILE / 2 = 64 pixels of detail a picture
            value[m] = _tile_at(TILES[kind], u[m] / 4 + a, v[m] / 4 + b)
        else:
            f = scenes.frequency[m, None, None] / 2  # periods per unit: the picture is 2 wide
            value[m] = _pattern(kind, u[m] * f + a, v[m] * f + b, sharp[m])
    dark, light = scenes.floor[:, 0, :, None, None], scenes.floor[:, 1, :, None, None]
    return torch.lerp(dark, light, value[:, None])


def object_distances(scenes: Scenes, size: int) -> tuple[Tensor, Tensor]:
    """Signed distance and painted shade of every object at every pixel.

    Returns:
        distance: (n, K, H, W) in scene units; +1e3 where the place is empty.
        shade: (n, K, H, W), brightness factor that turns with the object (a light from its upper
            left, and a darker rim).
    """
    n, k = scenes.shape.shape
    gx, gy = pixel_grid(size)
    distance, shade = torch.full((n * k, size, size), 1e3), torch.ones(n * k, size, size)
    shape = torch.where(scenes.present, scenes.shape, -1).flatten()  # (nK,)
    position, radius = scenes.position.flatten(0, 1), scenes.radius.flatten()
    angle = scenes.angle.flatten()
    for index, name in enumerate(SHAPES):
        if len(m := (shape == index).nonzero()[:, 0]) == 0:
            continue
        r = radius[m, None, None]
        dx, dy = (gx - position[m, 0, None, None]) / r, (position[m, 1, None, None] - gy) / r
        c, s = angle[m].cos()[:, None, None], angle[m].sin()[:, None, None]
        x, y = c * dx + s * dy, c * dy - s * dx  # (m, H, W), the object's own frame, y up
        own = FLAT[name](x, y)
        distance[m] = own * r
        shade[m] = (0.88 + 0.2 * (y - x)).clamp(0.6, 1.12) - 0.25 * (1 + own * 8).clamp(0, 1)
    return distance.view(n, k, size, size), shade.view(n, k, size, size)


def coverage(distance: Tensor, size: int) -> Tensor:
    """Share of each pixel that lies inside, in [0, 1], from signed distances in scene units."""
    return (0.5 - distance * (size / 2 / RAMP)).clamp_(0, 1)


def render_images(scenes: Scenes, size: int = 32, time: float = 0.0) -> Tensor:
    """Draw scenes; later places cover earlier ones.

    Args:
        scenes: n scenes, already moved to ``time`` (see :func:`gentok.data.world_video.at`).
        size: side in pixels.
        time: in frames; only the floor's pattern needs it.

    Returns:
        (n, 3, H, W) float32 in [-1, 1].
    """
    image = floor_colours(scenes, *pixel_grid(size), size, time)
    distance, shade = object_distances(scenes, size)
    cover = coverage(distance, size)
    for k in range(distance.shape[1]):
        paint = (scenes.tint[:, k, :, None, None] * shade[:, k, None]).clamp_(0, 1)  # (n, 3, H, W)
        image = torch.lerp(image, paint, cover[:, k, None])
    return image.mul_(2.0).sub_(1.0)


def render_masks(scenes: Scenes, size: int = 32, visible: bool = True) -> Tensor:
    """Share of each pixel that each object takes.

    Args:
        scenes: n scenes.
        size: side in pixels.
        visible: leave out what a later object covers; False gives whole objects.

    Returns:
        (n, K, H, W) float32 in [0, 1]; empty places are 0.
    """
    cover = coverage(object_distances(scenes, size)[0], size)
    if not visible:
        return cover
    free = torch.ones_like(cover[:, 0])
    masks = torch.empty_like(cover)
    for k in reversed(range(cover.shape[1])):
        masks[:, k] = cover[:, k] * free
        free = free * (1 - cover[:, k])
    return masks


def class_maps(scenes: Scenes, size: int = 32) -> Tensor:
    """Semantic segmentation: 0 for the floor, 1 + shape index for objects, (n, H, W) int64."""
    masks = render_masks(scenes, size)
    share, place = masks.max(1)  # (n, H, W)
    shape = scenes.shape.gather(1, place.flatten(1)).view_as(place)
    return torch.where(share >= 0.5, shape + 1, 0)


def class_images(n: int, size: int = 32, seed: int = 0) -> ImageSet:
    """``n`` images of one object each on a textured floor; the label is the object's shape."""
    scenes = sample_scenes(n, seed, max_objects=1)
    parts = [to_uint8(render_images(scenes[i : i + 512], size)) for i in range(0, n, 512)]
    source = f"procedural world: one of {len(SHAPES)} shapes on a textured floor, seed {seed}"
    return ImageSet(torch.cat(parts), scenes.shape[:, 0].clone(), SHAPES, source)


def world_batches(batch_size: int, size: int = 32, seed: int = 0):
    """An endless stream of fresh :func:`class_images`; no image comes twice.

    Returns:
        ``f(step)`` giving {"image": (B, 3, H, W) float32 in [-1, 1], "label": (B,) int64}; a pure
        function of the seed and the step.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, got {batch_size}")

    def batch(step: int) -> dict[str, Tensor]:
        draw = int(generator(seed, step, 7).initial_seed())  # one scene seed a step
        scenes = sample_scenes(batch_size, draw, max_objects=1)
        return {"image": render_images(scenes, size), "label": scenes.shape[:, 0]}

    return batch
