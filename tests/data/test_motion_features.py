"""Features of motion: there and back, and blind to where a person stands and faces."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.data import Motion, sample_motions
from gentok.data.motion import FEET, multiply, quaternion, rotate
from gentok.data.motion_features import (
    feature_scale,
    feature_slices,
    features_to_positions,
    headings,
    motion_features,
    resample,
)


@pytest.fixture(scope="module")
def motion():
    return sample_motions(30, frames=41, seed=3)


def moved(motion: Motion, angle: float, place: tuple[float, float]) -> Motion:
    """The same clip elsewhere, facing elsewhere."""
    turn = quaternion(torch.tensor(angle), "y")
    root = rotate(turn, motion.root) + torch.tensor([place[0], 0.0, place[1]])
    rotations = motion.rotations.clone()
    rotations[..., 0, :] = multiply(turn.expand_as(rotations[..., 0, :]), rotations[..., 0, :])
    return Motion(root, rotations, motion.fps)


def test_widths_are_the_published_ones():
    assert feature_slices(22)["contacts"].stop == 263
    assert feature_slices(21)["contacts"].stop == 251
    at = feature_slices(22)
    assert (at["positions"], at["rotations"]) == (slice(4, 67), slice(67, 193))


def test_there_and_back(motion):
    """Positions come back up to the clip's own start and heading, which the features drop."""
    features = motion_features(motion)
    assert features.shape == (30, 40, 215)
    positions = motion.positions[:, :-1]
    back = quaternion(-headings(positions[:, 0]), "y")[:, None, None]  # (n, 1, 1, 4)
    start = positions[:, :1, :1] * torch.tensor([1.0, 0.0, 1.0])
    wanted = rotate(back, positions - start)
    torch.testing.assert_close(features_to_positions(features), wanted, rtol=0, atol=2e-5)


@settings(deadline=None, max_examples=15)
@given(st.floats(-3, 3), st.tuples(st.floats(-5, 5), st.floats(-5, 5)))
def test_features_do_not_see_place_and_heading(angle, place):
    motion = sample_motions(4, frames=12, seed=1)
    again = motion_features(moved(motion, angle, place))
    at = feature_slices()["contacts"]  # a threshold may flip by rounding
    torch.testing.assert_close(
        again[..., : at.start], motion_features(motion)[..., : at.start], rtol=0, atol=2e-5
    )


def test_velocities_are_differences_of_positions(motion):
    """A second way to the same numbers: differences of the rebuilt positions, turned to face +x."""
    features, at = motion_features(motion), feature_slices()
    positions = features_to_positions(features)
    heading = headings(positions)[:, :-1]
    step = positions[:, 1:] - positions[:, :-1]
    local = rotate(quaternion(-heading, "y")[:, :, None], step)
    torch.testing.assert_close(
        features[:, :-1, at["velocities"]], local.flatten(-2), rtol=0, atol=5e-5
    )
    turned = (heading[:, 1:] - heading[:, :-1] + math.pi).remainder(2 * math.pi) - math.pi
    torch.testing.assert_close(features[:, :-2, 0], turned, rtol=0, atol=5e-5)


def test_a_walker_moves_forward_and_rests_on_one_foot(motion):
    features, at = motion_features(motion), feature_slices()
    walks = motion.labels == 0
    assert (features[walks][..., at["ground_velocity"]][..., 0].mean(1) > 0.005).all()
    contacts = features[..., at["contacts"]]
    assert set(contacts.unique().tolist()) == {0.0, 1.0}
    assert (contacts[walks].amax(-1) == 1).float().mean() > 0.95
    assert contacts.shape[-1] == len(FEET)


def test_scale_is_one_number_a_group_and_minds_the_root(motion):
    features, at = motion_features(motion), feature_slices()
    mean, spread = feature_scale(features)
    plain = features.flatten(0, 1).std(0)
    torch.testing.assert_close(mean, features.mean((0, 1)))
    for name, divisor in (("positions", 1), ("velocities", 1), ("height", 5), ("contacts", 5)):
        torch.testing.assert_close(
            spread[at[name]], (plain[at[name]].mean() / divisor).expand_as(spread[at[name]])
        )
    assert (spread > 0).all()


def test_resampling_keeps_frames_that_coincide(motion):
    half = resample(motion, motion.fps / 2)
    torch.testing.assert_close(half.root, motion.root[:, ::2], rtol=0, atol=1e-5)
    torch.testing.assert_close(half.positions, motion.positions[:, ::2], rtol=0, atol=1e-4)
    double = resample(motion, motion.fps * 2)
    torch.testing.assert_close(double.root[:, ::2], motion.root, rtol=0, atol=1e-5)
    middle = (motion.root[:, 1:] + motion.root[:, :-1]) / 2
    torch.testing.assert_close(double.root[:, 1::2], middle, rtol=0, atol=1e-5)
    assert torch.allclose(double.rotations.norm(dim=-1), torch.ones(()), atol=1e-5)


def test_opposite_quaternions_are_one_rotation(motion):
    flipped = motion.rotations.clone()
    flipped[:, 1::2] *= -1
    again = resample(Motion(motion.root, flipped, motion.fps), 33.0)
    wanted = resample(motion, 33.0)
    torch.testing.assert_close(again.positions, wanted.positions, rtol=0, atol=1e-5)


def test_bad_input(motion):
    with pytest.raises(ValueError, match="at least 2 frames, got 1"):
        motion_features(Motion(motion.root[:, :1], motion.rotations[:, :1], 20.0))
    with pytest.raises(ValueError, match=r"12 J - 1"):
        features_to_positions(torch.zeros(1, 3, 216))
    with pytest.raises(ValueError, match="num_joints must be at least 2"):
        feature_slices(1)
    with pytest.raises(ValueError, match="fps must be above 0"):
        resample(motion, 0.0)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_the_scale_of_too_little_is_refused(rows):
    features = torch.zeros(rows, 35)
    features[2:] = torch.nan
    with pytest.raises(ValueError, match="two finite rows"):
        feature_scale(features)
