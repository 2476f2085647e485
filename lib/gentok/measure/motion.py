"""Read off a moving skeleton what it does: walk, turn, wave, squat or jump, and on which side.

A generator that was asked for a wave with the left hand shall wave with the left hand, and this
says whether it did. It looks at a few lengths and angles that a spectator would look at; no network
is trained for it, so it cannot share a generator's blind spots.

Shapes: n clips, T frames, J = 18 joints (`gentok.data.motion.JOINTS`); metres, y up, 20 frames a
second.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gentok.data.motion import ACTIONS, FEET, FPS, JOINTS, OFFSETS, PARENTS
from gentok.data.motion_features import headings

HALF = int(FPS / 2)  # frames of half a second
LEAST_FRAMES = 50  # the slowest squat or jump of `gentok.data.motion` lasts that long
WALKS = 0.25  # metres a second over the ground
TURNS = 0.25  # radians a second
LEAVES = 0.08  # metres of air under the lower foot
SINKS = 0.12  # metres that the root goes up and down
RAISED = 0.2  # share of the clip in which a hand is above its shoulder
SIDES = ("left", "none", "right")  # -1, 0, 1


@dataclass(frozen=True)
class Seen:
    """What clips show.

    Attributes:
        action: index into ACTIONS, (n,) int64; -1 where nobody does any of them.
        side: -1 left, 1 right: of the turn or the waving hand; 0 for other actions. (n,) int64.
    """

    action: Tensor
    side: Tensor

    def agrees(self, action: Tensor, side: Tensor) -> Tensor:
        """Whether a clip shows this action, on this side where it has one; (n,) bool."""
        return (self.action == action) & (self.side == side)


def see_motion(positions: Tensor) -> Seen:
    """Name what skeletons do.

    Args:
        positions: of joints, (n, T, 18, 3), T of at least 50.

    Raises:
        ValueError: if positions have another shape.
    """
    joints = len(JOINTS)
    if positions.ndim != 4 or positions.shape[2:] != (joints, 3):
        raise ValueError(f"positions must be (n, T, {joints}, 3), got {tuple(positions.shape)}")
    if positions.shape[1] < LEAST_FRAMES:
        raise ValueError(f"positions: need {LEAST_FRAMES} frames, got {positions.shape[1]}")
    ground = positions[:, :, 0, ::2]  # (n, T, 2)
    # Over half a second: trembling does not add up to a walk.
    travels = (ground[:, HALF:] - ground[:, :-HALF]).norm(dim=-1).mean(1) * FPS / HALF
    turned = _turned(positions) * FPS / (positions.shape[1] - 1)  # radians a second, left positive
    up = positions[..., 1]
    air = up[:, :, FEET].amin(-1).amax(-1)  # the lower foot at its highest
    sinks = up[:, :, 0].amax(-1) - up[:, :, 0].amin(-1)
    raised = torch.stack([_raised(up, side) for side in ("left", "right")], dim=-1)  # (n, 2)

    action = torch.full_like(air, -1, dtype=torch.int64)
    side = torch.zeros_like(action)
    walks, turns = travels > WALKS, turned.abs() > TURNS
    action[walks] = ACTIONS.index("walk")
    action[walks & turns] = ACTIONS.index("turn")
    jumps, squats = air > LEAVES, sinks > SINKS
    waves = raised.amax(-1) > RAISED
    action[~walks & waves] = ACTIONS.index("wave")
    action[~walks & ~waves & squats] = ACTIONS.index("squat")
    action[~walks & ~waves & jumps] = ACTIONS.index("jump")
    side = torch.where(action == ACTIONS.index("turn"), -turned.sign().long(), side)
    hand = 2 * raised.argmax(-1) - 1
    return Seen(action, torch.where(action == ACTIONS.index("wave"), hand, side))


def _turned(positions: Tensor) -> Tensor:
    """Radians that the body turns in all, (n,), positive to its left."""
    step = headings(positions).diff(dim=1)  # (n, T - 1)
    return torch.atan2(step.sin(), step.cos()).sum(1)


def _raised(up: Tensor, side: str) -> Tensor:
    """Share of frames in which the wrist of a side is above its shoulder; heights (n, T, J)."""
    wrist, shoulder = (JOINTS.index(f"{side}_{joint}") for joint in ("wrist", "shoulder"))
    return (up[:, :, wrist] > up[:, :, shoulder]).float().mean(1)


def sides_of(captions: tuple[str, ...] | list[str]) -> Tensor:
    """The side that captions ask for, (n,) int64: -1 left, 1 right, 0 none."""
    return torch.tensor([("right" in c.split()) - ("left" in c.split()) for c in captions])


def bone_errors(positions: Tensor) -> Tensor:
    """Mean error of the bones' lengths in each clip, (n, T, 18, 3) -> (n,), metres."""
    bones = positions[:, :, 1:] - positions[:, :, PARENTS[1:]]
    return (bones.norm(dim=-1) - OFFSETS[1:].norm(dim=-1)).abs().mean((1, 2))
