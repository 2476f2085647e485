"""Motion: bones keep their length, feet stand on the ground, captions tell what happens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from gentok.data import forward_kinematics, sample_motions
from gentok.data.motion import ACTIONS, FEET, FPS, JOINTS, OFFSETS, PARENTS, multiply, quaternion


@pytest.fixture(scope="module")
def motion():
    return sample_motions(200, frames=60, seed=1)


def bones(positions: torch.Tensor) -> torch.Tensor:
    """Length of the bone to each joint but the root, (..., J - 1)."""
    return (positions[..., 1:, :] - positions[..., PARENTS[1:], :]).norm(dim=-1)


def test_bones_keep_their_length(motion):
    wanted = OFFSETS[1:].norm(dim=1).expand(200, 60, -1)
    assert torch.allclose(bones(motion.positions), wanted, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_forward_kinematics_agrees_with_matrices(seed):
    rng = torch.Generator().manual_seed(seed)
    q = torch.nn.functional.normalize(torch.randn(len(JOINTS), 4, generator=rng), dim=1).double()
    root = torch.randn(3, generator=rng).double()
    found = forward_kinematics(root, q)
    matrices = torch.from_numpy(Rotation.from_quat(q.numpy(), scalar_first=True).as_matrix())
    for joint in range(len(JOINTS)):
        place, at = OFFSETS[joint].double() * (joint > 0), PARENTS[joint]
        while at >= 0:  # climb to the root, turning by every joint on the way
            place = matrices[at] @ place + (OFFSETS[at].double() if at else 0)
            at = PARENTS[at]
        assert torch.allclose(found[joint], root + place, atol=1e-6)


def test_quaternion_products_follow_each_other():
    a, b = quaternion(torch.tensor(0.3), "x"), quaternion(torch.tensor(1.1), "z")
    wanted = Rotation.from_rotvec([0.3, 0, 0]) * Rotation.from_rotvec([0, 0, 1.1])
    found = Rotation.from_quat(multiply(a, b).numpy(), scalar_first=True)
    assert (found.inv() * wanted).magnitude() < 1e-6


def test_feet_stand_on_the_ground_and_do_not_slide(motion):
    positions = motion.positions
    lowest = positions[:, :, FEET, 1].amin(-1)
    jumps = motion.labels == ACTIONS.index("jump")
    assert float(lowest[~jumps].abs().max()) < 1e-5
    assert float(lowest[jumps].min()) > -1e-5
    assert float(lowest[jumps].amax(1).median()) > 0.1  # they leave the ground
    slide = positions[:, 1:, FEET][..., ::2] - positions[:, :-1, FEET][..., ::2]
    slide = slide.norm(dim=-1).amin(-1) * FPS  # the stillest foot, metres a second
    walks = (motion.labels == 0) | (motion.labels == 1)
    assert float(slide[walks].max()) < 1e-3


def test_walkers_travel_forward_at_a_human_pace(motion):
    heading = Rotation.from_quat(motion.rotations[:, 0, 0].numpy(), scalar_first=True)
    forward = torch.from_numpy(heading.apply([1.0, 0, 0])).float()
    walks = motion.labels == ACTIONS.index("walk")
    travelled = ((motion.root[:, -1] - motion.root[:, 0]) * forward).sum(-1) / (59 / FPS)
    assert 0.2 < float(travelled[walks].min()) <= float(travelled[walks].max()) < 2.0
    stands = (motion.labels == ACTIONS.index("wave")) | (motion.labels == ACTIONS.index("squat"))
    assert float((motion.root[stands, -1] - motion.root[stands, 0])[:, ::2].abs().max()) < 1e-6


def test_captions_tell_the_action_and_the_side(motion):
    words = ("walks forward", "turns to", "waves", "squats", "jumps")
    positions = motion.positions
    for i, (caption, label) in enumerate(zip(motion.captions, motion.labels.tolist(), strict=True)):
        assert [w in caption for w in words] == [k == label for k in range(len(words))]
        if ACTIONS[label] == "wave":
            side, other = ("left", "right") if "left" in caption else ("right", "left")
            hand, rest = (JOINTS.index(f"{s}_wrist") for s in (side, other))
            height = (
                positions[i, :, hand, 1].mean() - positions[i, :, JOINTS.index("neck"), 1].mean()
            )
            assert float(height) > 0.1 and bool((positions[i, :, hand, 1] > 1.1).all())
            assert float(positions[i, :, rest, 1].max()) < 1.1
        if ACTIONS[label] == "turn":
            # x forward, y up, z right: a positive turn about y leads from x towards -z, the left.
            half = torch.atan2(
                motion.rotations[i, [0, 20], 0, 2], motion.rotations[i, [0, 20], 0, 0]
            )
            turned = torch.sin(2 * (half[1] - half[0]))
            assert ("left" in caption) == (float(turned) > 0)


def test_motions_are_reproducible_and_smooth(motion):
    again = sample_motions(200, frames=60, seed=1)
    assert torch.equal(again.root, motion.root) and torch.equal(again.rotations, motion.rotations)
    speed = (motion.positions[:, 1:] - motion.positions[:, :-1]).norm(dim=-1) * FPS
    assert float(speed.max()) < 12  # metres a second, wrists of a waving hand included


def test_every_action_comes_up(motion):
    assert int(motion.labels.bincount(minlength=len(ACTIONS)).min()) > 15


@pytest.mark.parametrize(
    "call",
    [
        lambda: sample_motions(0),
        lambda: sample_motions(1, frames=1),
        lambda: forward_kinematics(torch.zeros(3), torch.zeros(5, 4)),
    ],
)
def test_bad_input(call):
    with pytest.raises(ValueError, match="got"):
        call()
