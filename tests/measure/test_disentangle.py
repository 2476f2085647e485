"""Measures of disentanglement on latents whose answer is known."""

import numpy as np
import pytest
import torch

from gentok.measure.disentangle import factors_read, mutual_information_gap, random_rotation


def factors(n=3000, count=3, seed=0):
    return torch.rand(n, count, generator=torch.Generator().manual_seed(seed))


def test_an_axis_a_factor_has_a_gap_near_one_and_a_rotation_takes_it():
    values = factors()
    assert mutual_information_gap(values[:, [2, 0, 1]] * 5 - 1, values) > 0.95
    turned = values @ random_rotation(3)
    assert mutual_information_gap(turned, values) < 0.4


def test_a_factor_on_two_axes_has_no_gap():
    values = factors(count=1)
    assert mutual_information_gap(torch.cat([values, -values], 1), values) == pytest.approx(0)


def test_the_gap_is_that_of_a_table_of_counts():
    rng = np.random.default_rng(0)
    z, v = rng.integers(0, 4, (500, 2)), rng.integers(0, 3, (500, 1))
    z[:, 0] = (z[:, 0] + v[:, 0]) % 4  # some of it is known
    known = []
    for axis in z.T:
        joint = np.zeros((4, 3))
        np.add.at(joint, (axis, v[:, 0]), 1 / 500)
        outer = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        known.append((joint[joint > 0] * np.log(joint[joint > 0] / outer[joint > 0])).sum())
    p = np.bincount(v[:, 0]) / 500
    expected = (max(known) - min(known)) / -(p * np.log(p)).sum()
    found = mutual_information_gap(torch.from_numpy(z), torch.from_numpy(v), bins=12)
    assert found == pytest.approx(expected)


def test_what_is_there_is_read_and_what_is_not_is_not():
    values = factors()
    z = torch.stack([values[:, 0].square(), values[:, 1] + 3], 1)
    read = factors_read(z, values)
    assert min(read[:2]) > 0.95 and read[2] < 0.1


def test_a_rotation_keeps_lengths():
    turn = random_rotation(4, seed=1)
    torch.testing.assert_close(turn @ turn.T, torch.eye(4), atol=1e-5, rtol=0)
    assert torch.equal(turn, random_rotation(4, seed=1))
    assert not torch.equal(turn, random_rotation(4, seed=2))


def test_bad_input():
    with pytest.raises(ValueError, match="expected latents"):
        mutual_information_gap(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="between two axes"):
        mutual_information_gap(torch.zeros(3, 1), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="4 items or more"):
        factors_read(torch.zeros(3, 2), torch.zeros(3, 2))
