"""Moving people: a skeleton, its forward kinematics, and procedural motions with captions.

The skeleton and its bone lengths are those of the DeepMimic humanoid (Peng et al. 2018,
arXiv:1804.02717), so procedural motion and motion capture (`gentok.data.mocap`) share one format;
a head and toes are added as ends. Lengths in metres; x forward, y up, z to the person's right.

Shapes: n clips, T frames, J = 18 joints; quaternions (w, x, y, z).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gentok.data.imageset import generator

# name: (parent, offset from the parent in the parent's frame)
SKELETON: dict[str, tuple[str | None, tuple[float, float, float]]] = {
    "root": (None, (0.0, 0.0, 0.0)),
    "chest": ("root", (0.0, 0.236151, 0.0)),
    "neck": ("chest", (0.0, 0.223894, 0.0)),
    "right_hip": ("root", (0.0, 0.0, 0.084887)),
    "right_knee": ("right_hip", (0.0, -0.421546, 0.0)),
    "right_ankle": ("right_knee", (0.0, -0.409870, 0.0)),
    "right_shoulder": ("chest", (-0.02405, 0.24350, 0.18311)),
    "right_elbow": ("right_shoulder", (0.0, -0.274788, 0.0)),
    "right_wrist": ("right_elbow", (0.0, -0.258947, 0.0)),
    "left_hip": ("root", (0.0, 0.0, -0.084887)),
    "left_knee": ("left_hip", (0.0, -0.421546, 0.0)),
    "left_ankle": ("left_knee", (0.0, -0.409870, 0.0)),
    "left_shoulder": ("chest", (-0.02405, 0.24350, -0.18311)),
    "left_elbow": ("left_shoulder", (0.0, -0.274788, 0.0)),
    "left_wrist": ("left_elbow", (0.0, -0.258947, 0.0)),
    "head": ("neck", (0.0, 0.20, 0.0)),
    "right_toe": ("right_ankle", (0.17, -0.04, 0.0)),
    "left_toe": ("left_ankle", (0.17, -0.04, 0.0)),
}
JOINTS = tuple(SKELETON)
PARENTS = tuple(-1 if p is None else JOINTS.index(p) for p, _ in SKELETON.values())
OFFSETS = torch.tensor([offset for _, offset in SKELETON.values()])
FEET = tuple(JOINTS.index(j) for j in ("right_ankle", "right_toe", "left_ankle", "left_toe"))
ACTIONS = ("walk", "turn", "wave", "squat", "jump")
FPS = 20.0
GRAVITY = 9.81


def quaternion(angle: Tensor, axis: str) -> Tensor:
    """Rotations by ``angle`` (...) radians about "x", "y" or "z": (..., 4)."""
    out = torch.zeros(*angle.shape, 4, dtype=angle.dtype)
    out[..., 0] = (angle / 2).cos()
    out[..., 1 + "xyz".index(axis)] = (angle / 2).sin()
    return out


def multiply(p: Tensor, q: Tensor) -> Tensor:
    """The rotation q followed by p, (..., 4)."""
    pw, pv, qw, qv = p[..., :1], p[..., 1:], q[..., :1], q[..., 1:]
    w = pw * qw - (pv * qv).sum(-1, keepdim=True)
    return torch.cat([w, pw * qv + qw * pv + torch.linalg.cross(pv, qv, dim=-1)], -1)


def rotate(q: Tensor, v: Tensor) -> Tensor:
    """Turn vectors (..., 3) by unit quaternions (..., 4)."""
    q, v = torch.broadcast_tensors(q, torch.cat([torch.zeros_like(v[..., :1]), v], -1))
    u, v = q[..., 1:], v[..., 1:]
    twice = 2 * torch.linalg.cross(u, v, dim=-1)
    return v + q[..., :1] * twice + torch.linalg.cross(u, twice, dim=-1)


def forward_kinematics(root: Tensor, rotations: Tensor) -> Tensor:
    """Joint positions from the root's place and each joint's rotation against its parent.

    Args:
        root: (..., 3), metres.
        rotations: unit quaternions, (..., J, 4); joint 0's is the body's own.

    Returns:
        (..., J, 3), metres.

    Raises:
        ValueError: if there are not J rotations.
    """
    if rotations.shape[-2:] != (len(JOINTS), 4):
        raise ValueError(f"rotations must be (..., {len(JOINTS)}, 4), got {tuple(rotations.shape)}")
    world, place = [rotations[..., 0, :]], [root]
    for joint in range(1, len(JOINTS)):
        parent = PARENTS[joint]
        place.append(place[parent] + rotate(world[parent], OFFSETS[joint].to(root)))
        world.append(multiply(world[parent], rotations[..., joint, :]))
    return torch.stack(place, -2)


@dataclass(frozen=True)
class Motion:
    """One clip or a batch of clips of equal length.

    Attributes:
        root: place of the hips' middle, (..., T, 3), metres; the ground is y = 0.
        rotations: (..., T, J, 4), unit quaternions.
        fps: frames a second.
        captions: one sentence a clip; ``labels``: index into ACTIONS, (n,), or None.
    """

    root: Tensor
    rotations: Tensor
    fps: float
    captions: tuple[str, ...] = ()
    labels: Tensor | None = None

    @property
    def positions(self) -> Tensor:
        """Joint positions, (..., T, J, 3), metres."""
        return forward_kinematics(self.root, self.rotations)


def sample_motions(n: int, frames: int = 64, seed: int = 0) -> Motion:
    """Draw clips of people who walk, turn, wave, squat or jump, at 20 frames a second.

    The lowest point of the feet always touches the ground (in a jump: until take-off), and in a
    walk it does not slide: the root moves so that the standing foot stays where it is.

    Args:
        n: number of clips; ``frames``: T, at least 2.
        seed: the same seed gives the same clips.

    Raises:
        ValueError: if ``n`` < 1 or ``frames`` < 2.
    """
    if n < 1 or frames < 2:
        raise ValueError(f"need n >= 1 and frames >= 2, got {n} and {frames}")
    rng = generator(seed)
    labels = torch.randint(len(ACTIONS), (n,), generator=rng)
    draw = torch.rand(6, n, generator=rng)
    time = torch.arange(frames) / FPS  # (T,) seconds
    is_ = {action: (labels == i)[:, None] for i, action in enumerate(ACTIONS)}  # (n, 1) each
    steps = is_["walk"] | is_["turn"]
    rate = torch.where(steps[:, 0], 0.7 + 0.5 * draw[0], 0.4 + 0.4 * draw[0])  # cycles a second
    phase = 2 * math.pi * (rate[:, None] * time + draw[1, :, None])  # (n, T)
    left = draw[2] < 0.5  # which hand waves, which way to turn
    angles = _joint_angles(phase, is_, left, size=0.7 + 0.3 * draw[3])
    yaw = torch.where(left, 1.0, -1.0) * (0.5 + 0.5 * draw[4]) * is_["turn"][:, 0]
    heading = yaw[:, None] * time + 2 * math.pi * draw[5, :, None]
    rotations = quaternion(torch.zeros(n, frames, len(JOINTS)), "z")  # identities
    rotations[..., 0, :] = quaternion(heading, "y")
    for (joint, axis), angle in angles.items():
        j = JOINTS.index(joint)
        rotations[..., j, :] = multiply(rotations[..., j, :], quaternion(angle, axis))
    root = _on_the_ground(rotations, steps)
    root[..., 1] += _flight(phase, rate) * is_["jump"]
    return Motion(root, rotations, FPS, _captions(labels, left, rate, draw[3]), labels)


def _joint_angles(phase: Tensor, is_: dict, left: Tensor, size: Tensor) -> dict:
    """(joint, axis) -> angle (n, T) in radians. About z, a positive angle swings forward."""
    steps = (is_["walk"] | is_["turn"]).float() * size[:, None]
    crouch = (is_["squat"] | is_["jump"]).float() * size[:, None]
    # A squat goes down and up once a cycle; a jump crouches in one half and flies in the other.
    depth = 0.5 - 0.5 * torch.cos(phase)
    depth = torch.where(is_["jump"], torch.sin(phase).clamp_min(0).square(), depth) * crouch
    angles = {}
    for side, sign in (("right", 1.0), ("left", -1.0)):
        swing = sign * torch.sin(phase)
        hip = 0.6 * steps * swing + 1.2 * depth
        # The knee bends while its leg swings forward.
        knee = -0.08 - 0.9 * steps * (sign * torch.cos(phase)).clamp_min(0) - 2.1 * depth
        angles[f"{side}_hip", "z"] = hip
        angles[f"{side}_knee", "z"] = knee
        angles[f"{side}_ankle", "z"] = -0.7 * hip - 0.7 * knee - 0.27 * depth
        waves = (is_["wave"] & (left[:, None] == (side == "left"))).float()
        angles[f"{side}_shoulder", "x"] = -sign * (0.08 + 1.9 * waves)  # out to the side
        angles[f"{side}_shoulder", "z"] = -0.45 * steps * swing + 0.7 * depth
        angles[f"{side}_elbow", "z"] = 0.25 + 0.3 * steps
        flap = 0.7 + 0.6 * size[:, None] * torch.sin(3 * phase)
        angles[f"{side}_elbow", "x"] = -sign * waves * flap
    angles["chest", "z"] = -0.06 * steps - 0.5 * depth  # leans forward
    angles["chest", "y"] = -0.12 * steps * torch.sin(phase)
    return angles


def _on_the_ground(rotations: Tensor, steps: Tensor) -> Tensor:
    """Root places (n, T, 3) that keep the lowest foot on y = 0 and, where ``steps``, unmoved."""
    n, frames = rotations.shape[:2]
    feet = forward_kinematics(torch.zeros(n, frames, 3), rotations)[:, :, FEET]  # (n, T, 4, 3)
    root = torch.zeros(n, frames, 3)
    root[..., 1] = -feet[..., 1].amin(-1)
    low = (feet[:, 1:, :, 1] + feet[:, :-1, :, 1]).argmin(-1)  # (n, T - 1), the standing point
    moved = (feet[:, 1:] - feet[:, :-1]).gather(2, low[..., None, None].expand(-1, -1, 1, 3))
    ground = -moved[:, :, 0, ::2] * steps[..., None]  # (n, T - 1, 2), x and z
    root[:, 1:, ::2] = ground.cumsum(1)
    return root


def _flight(phase: Tensor, rate: Tensor) -> Tensor:
    """Height of a jump above the ground in its second half cycle: a parabola under gravity."""
    share = (phase / (2 * math.pi)).remainder(1.0) * 2 - 1  # in the air from 0 to 1
    duration = (0.5 / rate)[:, None].clamp_max(0.7)
    air = share.clamp(0, 1) * (0.5 / rate)[:, None]  # seconds since take-off
    return (GRAVITY / 2 * air * (duration - air)).clamp_min(0)


def _captions(labels: Tensor, left: Tensor, rate: Tensor, size: Tensor) -> tuple[str, ...]:
    """One sentence a clip, naming action, side and pace."""
    sentences = []
    for label, is_left, r, s in zip(
        labels.tolist(), left.tolist(), rate.tolist(), size.tolist(), strict=True
    ):
        side, action = ("left" if is_left else "right"), ACTIONS[label]
        pace = "slowly" if r < (0.95 if action in ("walk", "turn") else 0.6) else "quickly"
        what = {
            "walk": f"walks forward {pace} with {'long' if s > 0.5 else 'short'} steps",
            "turn": f"walks {pace} and turns to the {side}",
            "wave": f"stands and waves {pace} with the {side} hand",
            "squat": f"squats {pace}",
            "jump": "jumps on the spot",
        }[action]
        sentences.append(f"a person {what}")
    return tuple(sentences)
