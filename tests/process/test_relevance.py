"""Relevance: the decoder's Jacobian by brute force, and the count by hand."""

import pytest
import torch
from torch import nn

from gentok.process.relevance import jacobian_weights, relevant_axes


def decoder():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8),
        nn.Unflatten(1, (2, 2, 2)),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.ConvTranspose2d(2, 3, 4, 2, 1),
        nn.Tanh(),
    ).eval()


def test_weights_are_those_of_the_whole_jacobian():
    model, z = decoder(), torch.randn(5, 4)
    rows = [torch.autograd.functional.jacobian(model, row[None]).flatten(0, 3)[:, 0] for row in z]
    mean = torch.stack(rows).abs().mean(0)  # (P, L)
    torch.testing.assert_close(jacobian_weights(model, z), mean.square().sum(0))


def test_weights_are_those_of_finite_differences():
    model, z, h = decoder().double(), torch.randn(3, 4, dtype=torch.float64), 1e-6
    expected = []
    for axis in torch.eye(4, dtype=torch.float64):
        slope = (model(z + h * axis) - model(z - h * axis)) / (2 * h)
        expected.append(slope.abs().mean(0).square().sum())
    torch.testing.assert_close(
        jacobian_weights(model, z), torch.stack(expected).detach(), rtol=1e-5, atol=1e-8
    )


def test_a_linear_decoder_gives_the_squared_norms_of_its_columns():
    linear = nn.Linear(4, 9)
    weights = jacobian_weights(linear, torch.randn(6, 4))
    torch.testing.assert_close(weights, linear.weight.square().sum(0).detach())


def test_the_mean_is_taken_of_absolute_values_before_squaring():
    """A slope of +1 on one sample and -1 on another counts as 1, not as 0; 0 and 2 count as 1."""
    weights = jacobian_weights(lambda z: z.abs(), torch.tensor([[1.0], [-1.0]]))
    assert float(weights) == 1.0
    weights = jacobian_weights(lambda z: 2 * z.relu(), torch.tensor([[1.0], [-1.0]]))
    assert float(weights) == 1.0


def test_relevant_axes_are_the_smallest_prefix_above_the_share():
    scores = torch.tensor([1.0, 60.0, 0.0, 39.0])
    assert relevant_axes(scores, 0.5).tolist() == [1]
    assert relevant_axes(scores, 0.6).tolist() == [1, 3], "60 % is not above 60 %"
    assert relevant_axes(scores, 0.98).tolist() == [1, 3]
    assert relevant_axes(scores, 0.995).tolist() == [1, 3, 0]


def test_bad_input():
    with pytest.raises(ValueError, match="share must lie between"):
        relevant_axes(torch.ones(2), 1.0)
    for wrong in (
        torch.zeros(3),
        torch.tensor([1.0, -1.0]),
        torch.ones(2, 2),
        torch.tensor([torch.nan]),
    ):
        with pytest.raises(ValueError, match="scores must be"):
            relevant_axes(wrong)
    with pytest.raises(ValueError, match=r"z must be \(N, L\)"):
        jacobian_weights(decoder(), torch.zeros(4))
