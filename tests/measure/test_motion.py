"""The judge of motion: right on motions it was not made for, and not to be fooled."""

import pytest
import torch

from gentok.data import sample_motions
from gentok.data.motion import ACTIONS, JOINTS
from gentok.data.motion_features import features_to_positions, motion_features
from gentok.measure.motion import bone_errors, see_motion, sides_of


@pytest.fixture(scope="module")
def motion():
    return sample_motions(400, frames=105, seed=77)


@pytest.mark.parametrize(("start", "frames"), [(0, 50), (24, 64), (20, 80)])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_data_are_named_right(motion, start, frames, noise):
    """Any window of a clip, trembling by a centimetre or not; .95 is asked of a judge."""
    torch.manual_seed(0)
    positions = features_to_positions(motion_features(motion))[:, start : start + frames]
    seen = see_motion(positions + noise * torch.randn(positions.shape))
    right = seen.agrees(motion.labels, sides_of(motion.captions))
    for action in range(len(ACTIONS)):
        assert right[motion.labels == action].float().mean() >= 0.98, ACTIONS[action]


def test_where_a_person_starts_and_looks_does_not_matter(motion):
    turned = motion.positions[:50, :64] @ torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    right = see_motion(turned + torch.tensor([3.0, 0, -2])).agrees(
        motion.labels[:50], sides_of(motion.captions[:50])
    )
    assert right.all()


def test_a_mirror_image_has_the_other_side(motion):
    mirrored = motion.positions[:, :64] * torch.tensor([1.0, 1.0, -1.0])
    swapped = {"right": "left", "left": "right"}
    order = []
    for name in JOINTS:
        side, _, joint = name.partition("_")
        order.append(JOINTS.index(f"{swapped[side]}_{joint}" if side in swapped else name))
    seen = see_motion(mirrored[:, :, order])
    assert seen.agrees(motion.labels, -sides_of(motion.captions)).float().mean() > 0.98


def test_other_motions_are_told_apart(motion):
    """Clips shown as another action, and frozen clips: the judge says no."""
    positions = motion.positions[:, :64]
    seen = see_motion(positions)
    shuffled = seen.agrees(motion.labels.roll(1), sides_of(motion.captions).roll(1))
    assert 0.1 < shuffled.float().mean() < 0.25, "chance is a fifth, less where sides count"
    frozen = see_motion(positions[:, :1].expand(-1, 64, -1, -1))
    moving = motion.labels != ACTIONS.index("wave")  # a hand that is held up counts as a wave
    assert (frozen.action[moving] == -1).float().mean() > 0.9


def test_sides_and_bones():
    captions = ("a person turns to the left", "the right hand", "jumps")
    assert sides_of(captions).tolist() == [-1, 1, 0]
    motion = sample_motions(3, 50, seed=0)
    assert bone_errors(motion.positions).max() < 1e-6
    assert bone_errors(1.1 * motion.positions).min() > 0.01


def test_bad_input():
    with pytest.raises(ValueError, match=r"positions must be \(n, T, 18, 3\)"):
        see_motion(torch.zeros(64, 18, 3))
    with pytest.raises(ValueError, match="need 50 frames, got 49"):
        see_motion(torch.zeros(1, 49, 18, 3))
