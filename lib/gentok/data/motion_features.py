"""Motion as the vectors that motion generators learn from (Guo et al. 2022, HumanML3D).

A frame becomes 12 J - 1 numbers that do not depend on where the person is and which way they face:
yaw velocity, velocity on the ground, height, joint positions around the root, joint rotations,
joint velocities and foot contacts. With 22 joints that is HumanML3D's 263, with 21 KIT-ML's 251,
with the 18 of `gentok.data.motion` it is 215. Two points are ours: yaw velocity is the whole angle
(the public code stores half of it), and x is forward as everywhere in this book.

Shapes: n clips, T frames (one less than the motion has), J joints, D = 12 J - 1 features.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from gentok.data.motion import FEET, JOINTS, Motion, quaternion, rotate

CONTACT = 0.002  # squared displacement of a resting foot in a frame at 20 a second, m^2
ACROSS = tuple((JOINTS.index(f"right_{j}"), JOINTS.index(f"left_{j}")) for j in ("hip", "shoulder"))


def feature_slices(num_joints: int = len(JOINTS)) -> dict[str, slice]:
    """Which columns hold what; lengths are metres, angles radians, velocities are per frame.

    Raises:
        ValueError: if ``num_joints`` < 2.
    """
    if num_joints < 2:
        raise ValueError(f"num_joints must be at least 2, got {num_joints}")
    widths = {
        "yaw_velocity": 1,
        "ground_velocity": 2,  # of the root, in the frame it arrives in
        "height": 1,
        "positions": 3 * (num_joints - 1),  # seen from the point below the root
        "rotations": 6 * (num_joints - 1),  # against the parent, first two columns of the matrix
        "velocities": 3 * num_joints,
        "contacts": 4,  # 1 where a foot rests
    }
    slices, start = {}, 0
    for name, width in widths.items():
        slices[name] = slice(start, start + width)
        start += width
    return slices


def motion_features(motion: Motion) -> Tensor:
    """Features of clips.

    Args:
        motion: root (..., T + 1, 3) and rotations (..., T + 1, J, 4).

    Returns:
        (..., T, D), float32.

    Raises:
        ValueError: if there are fewer than two frames.
    """
    if motion.root.shape[-2] < 2:
        raise ValueError(f"need at least 2 frames, got {motion.root.shape[-2]}")
    positions = motion.positions  # (..., T + 1, J, 3)
    heading = headings(positions)  # (..., T + 1)
    back = quaternion(-heading, "y")[..., None, :]  # turns the person to face +x
    ground = positions[..., :1, :] * torch.tensor([1.0, 0.0, 1.0])  # the point below the root
    local = rotate(back, positions - ground)[..., :-1, 1:, :]
    moved = positions[..., 1:, :, :] - positions[..., :-1, :, :]
    arriving = rotate(back[..., 1:, :, :], moved[..., :1, :])[..., 0, ::2]  # (..., T, 2)
    turned = _wrap(heading[..., 1:] - heading[..., :-1])
    resting = moved[..., FEET, :].square().sum(-1) < CONTACT
    parts = [
        turned[..., None],
        arriving,
        positions[..., :-1, 0, 1:2],
        local.flatten(-2),
        _six_numbers(motion.rotations[..., :-1, 1:, :]).flatten(-2),
        rotate(back[..., :-1, :, :], moved).flatten(-2),
        resting.float(),
    ]
    return torch.cat(parts, dim=-1)


def features_to_positions(features: Tensor) -> Tensor:
    """Joint positions of features; each clip starts above the origin and faces +x.

    Only yaw velocity, ground velocity, height and positions are read; the rest says the same
    again. Errors of the two velocities add up along a clip.

    Args:
        features: (..., T, 12 J - 1).

    Returns:
        (..., T, J, 3), metres.

    Raises:
        ValueError: if the last axis is not 12 J - 1 for a whole number of joints.
    """
    num_joints, rest = divmod(features.shape[-1] + 1, 12)
    if rest:
        raise ValueError(f"features must be (..., T, 12 J - 1), got {tuple(features.shape)}")
    at = feature_slices(num_joints)
    turned = features[..., at["yaw_velocity"]][..., 0]  # (..., T)
    heading = F.pad(turned, (1, 0))[..., :-1].cumsum(-1)
    facing = quaternion(heading, "y")
    speed = F.pad(features[..., at["ground_velocity"]], (0, 0, 1, 0))[..., :-1, :]  # (..., T, 2)
    step = torch.stack([speed[..., 0], torch.zeros_like(speed[..., 0]), speed[..., 1]], dim=-1)
    root = rotate(facing, step).cumsum(-2)  # y is 0 so far
    local = features[..., at["positions"]].unflatten(-1, (num_joints - 1, 3))
    joints = rotate(facing[..., None, :], local) + root[..., None, :]
    root = root + F.pad(features[..., at["height"]], (1, 1))  # height goes to y
    return torch.cat([root[..., None, :], joints], dim=-2)


def headings(positions: Tensor) -> Tensor:
    """Which way people face: (..., J, 3) -> (...) radians about y, 0 towards +x.

    Read from the lines through hips and shoulders, which point to the person's right.
    """
    across = sum(positions[..., right, :] - positions[..., left, :] for right, left in ACROSS)
    return torch.atan2(across[..., 0], across[..., 2])


def feature_scale(features: Tensor, bias: float = 5.0) -> tuple[Tensor, Tensor]:
    """Mean and spread to normalise features by.

    The spread is one number a group of columns, so that a joint which hardly moves is not blown
    up. That of the root's own columns and of the contacts is divided by ``bias``: a loss then
    minds them more (HumanML3D's practice).

    Args:
        features: (..., D).
        bias: divisor for yaw velocity, ground velocity, height and contacts.

    Returns:
        mean and spread, (D,) each.

    Raises:
        ValueError: if there are fewer than two rows, or one is not finite.
    """
    rows = features.flatten(0, -2)
    if len(rows) < 2 or not rows.isfinite().all():
        raise ValueError(f"features must be two finite rows or more, got {tuple(features.shape)}")
    spread = rows.std(0)
    for name, columns in feature_slices((features.shape[-1] + 1) // 12).items():
        loud = name in ("yaw_velocity", "ground_velocity", "height", "contacts")
        mean = spread[columns].mean().clamp_min(1e-4)
        spread[columns] = mean / bias if loud else mean
    return rows.mean(0), spread


def resample(motion: Motion, fps: float) -> Motion:
    """A clip at another frame rate: places between frames lie on straight lines.

    Raises:
        ValueError: if ``fps`` is not above 0.
    """
    if not fps > 0:
        raise ValueError(f"fps must be above 0, got {fps}")
    frames = motion.root.shape[-2]
    count = int((frames - 1) / motion.fps * fps) + 1
    at = (torch.arange(count) * motion.fps / fps).clamp_max(frames - 1)
    low = at.long().clamp_max(frames - 2)
    share = at - low  # (count,)
    root = torch.lerp(motion.root[..., low, :], motion.root[..., low + 1, :], share[:, None])
    before, after = motion.rotations[..., low, :, :], motion.rotations[..., low + 1, :, :]
    # q and -q are one rotation; interpolate along the shorter way.
    after = torch.where((before * after).sum(-1, keepdim=True) < 0, -after, after)
    rotations = F.normalize(torch.lerp(before, after, share[:, None, None]), dim=-1)
    return Motion(root, rotations, fps, motion.captions, motion.labels)


def _six_numbers(q: Tensor) -> Tensor:
    """Quaternions (..., 4) to the first two columns of their matrices, (..., 6)."""
    columns = [rotate(q, torch.eye(3)[axis]) for axis in (0, 1)]
    return torch.cat(columns, dim=-1)


def _wrap(angle: Tensor) -> Tensor:
    """The same angle in [-pi, pi)."""
    return (angle + math.pi).remainder(2 * math.pi) - math.pi
