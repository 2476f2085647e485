"""The Gaussian posterior against torch.distributions."""

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from gentok.process.gaussian import DiagonalGaussian


def posterior():
    torch.manual_seed(0)
    return DiagonalGaussian.from_moments(torch.randn(3, 8, 2, 2, dtype=torch.float64))


def test_kl_equals_torch():
    q = posterior()
    ours = Independent(Normal(q.mean, q.std), 3)
    prior = Independent(Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean)), 3)
    torch.testing.assert_close(q.kl(), kl_divergence(ours, prior))


def test_kl_of_the_prior_is_zero_and_otherwise_positive():
    assert DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 3)).kl().tolist() == [0.0, 0.0]
    assert (posterior().kl() > 0).all()


def test_samples_have_the_stated_moments():
    torch.manual_seed(0)
    q = DiagonalGaussian(torch.full((200_000, 1), 2.0), torch.full((200_000, 1), 3.0).log() * 2)
    z = q.sample()
    assert z.mean().item() == pytest.approx(2.0, abs=0.03)
    assert z.std().item() == pytest.approx(3.0, abs=0.02)
    assert torch.equal(q.mode(), q.mean)


def test_gradient_reaches_mean_and_variance():
    moments = torch.randn(2, 4, requires_grad=True)
    DiagonalGaussian.from_moments(moments).sample().square().sum().backward()
    assert (moments.grad != 0).all()


def test_logvar_is_clamped():
    q = DiagonalGaussian.from_moments(torch.tensor([[0.0, 50.0], [0.0, -50.0]]))
    assert q.logvar.flatten().tolist() == [20.0, -30.0]


def test_odd_channels_are_refused():
    with pytest.raises(ValueError, match="even number"):
        DiagonalGaussian.from_moments(torch.zeros(1, 3))
