"""Video of the procedural world, with the motion of every pixel known.

Objects move at constant velocity, turn at constant rate, and bounce off the picture's edges; the
floor may slide. Optical flow is therefore not estimated but read off: it is the displacement of the
thing that a pixel shows, from one frame to the next.

Shapes: n scenes, K places for objects, T frames, H = W = size pixels.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gentok.data.world import Scenes
from gentok.data.world_images import pixel_grid, render_images, render_masks


@dataclass(frozen=True)
class Video:
    """Rendered clips.

    Attributes:
        frames: (n, T, 3, H, W), float32 in [-1, 1].
        flow: (n, T - 1, 2, H, W), in pixels, (x right, y down): what frame t shows at a pixel p is
            at p + flow[t, :, p] in frame t + 1.
        masks: visible share of each object, (n, T, K, H, W) in [0, 1].
    """

    frames: Tensor
    flow: Tensor
    masks: Tensor


def at(scenes: Scenes, time: float) -> Scenes:
    """The scenes ``time`` frames later: objects moved, turned and bounced off the edges.

    An object bounces when the circle that holds it touches the edge: its position follows a
    triangle wave between the two places where that happens.
    """
    free = (1 - scenes.radius)[..., None]  # (n, K, 1), positions stay in [-free, free]
    straight = scenes.position + time * scenes.velocity + free  # (n, K, 2)
    folded = (straight.remainder(4 * free) - 2 * free).abs()  # in [0, 2 free], peak first
    position = free - folded
    angle = scenes.angle + time * scenes.spin
    return replace(scenes, position=position, angle=angle)


def flow_between(now: Scenes, then: Scenes, size: int) -> Tensor:
    """Flow in pixels from ``now`` to ``then``, the same scenes one frame on: (n, 2, H, W).

    A pixel belongs to the object that takes at least half of it, else to the floor.
    """
    gx, gy = pixel_grid(size)
    turn = (then.angle - now.angle)[..., None, None]  # (n, K, 1, 1)
    c, s = turn.cos(), turn.sin()
    dx = gx - now.position[..., 0, None, None]  # (n, K, 1, W)
    dy = now.position[..., 1, None, None] - gy  # (n, K, H, 1), up
    new_x = then.position[..., 0, None, None] + c * dx - s * dy  # (n, K, H, W)
    new_y = then.position[..., 1, None, None] - (s * dx + c * dy)
    moves = torch.stack([new_x - gx, new_y - gy], 2)  # (n, K, 2, H, W)
    share, owner = render_masks(now, size).max(1)  # (n, H, W)
    index = owner[:, None, None].expand(-1, 1, 2, -1, -1)
    moved = moves.gather(1, index)[:, 0]  # (n, 2, H, W)
    flow = torch.where((share >= 0.5)[:, None], moved, now.pan[:, :, None, None])
    return flow * (size / 2)  # the picture is 2 units wide


def render_video(scenes: Scenes, frames: int = 8, size: int = 32, start: float = 0.0) -> Video:
    """Draw ``frames`` frames of each scene, beginning at time ``start``.

    Args:
        scenes: n scenes.
        frames: T, 2 or more.
        size: side in pixels.
        start: time of the first frame, in frames; the floor's slide counts from 0.

    Raises:
        ValueError: if ``frames`` is below 2.
    """
    if frames < 2:
        raise ValueError(f"frames must be 2 or more, got {frames}")
    times = [start + t for t in range(frames)]
    moved = [at(scenes, time) for time in times]
    pictures = [render_images(m, size, time) for m, time in zip(moved, times, strict=True)]
    flows = [flow_between(a, b, size) for a, b in zip(moved, moved[1:], strict=False)]
    masks = [render_masks(m, size) for m in moved]
    return Video(torch.stack(pictures, 1), torch.stack(flows, 1), torch.stack(masks, 1))


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Look up ``image`` where the flow leads: out(p) = image(p + flow(p)), bilinear.

    With frame t + 1 and the flow from t to t + 1 this gives frame t back, except where something is
    hidden in frame t + 1.

    Args:
        image: (n, C, H, W).
        flow: (n, 2, H, W) in pixels, (x, y).

    Returns:
        (n, C, H, W); places outside the image take the nearest pixel of its edge.
    """
    size = image.shape[-1]
    gx, gy = pixel_grid(size)
    x, y = gx + flow[:, 0] * (2 / size), gy + flow[:, 1] * (2 / size)
    return torch.nn.functional.grid_sample(
        image, torch.stack([x, y], -1), padding_mode="border", align_corners=False
    )
