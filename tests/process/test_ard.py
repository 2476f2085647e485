"""The prior of automatic relevance determination, against scipy and brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from gentok.process.ard import (
    gamma_posterior,
    gaussian_log_prob,
    kl_to_axes,
    kl_to_student,
    student_log_prob,
)


def samples(n=50, axes=3, seed=0):
    z = torch.randn(n, axes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return z * torch.tensor([0.1, 1.0, 4.0][:axes], dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.floats(0.1, 5), st.floats(0.1, 5))
def test_the_posterior_is_bayes_rule_on_a_grid(n, a0, b0):
    """Prior times likelihood, normalised numerically, is the density of Gamma(a, b)."""
    z = samples(n, 1, seed=n)
    a, b = gamma_posterior(z, a0, b0)
    posterior = stats.gamma(float(a), scale=1 / float(b[0]))
    grid = posterior.ppf(np.linspace(0.001, 0.999, 50))
    log_joint = stats.gamma(a0, scale=1 / b0).logpdf(grid)
    log_joint += stats.norm(0, grid[:, None] ** -0.5).logpdf(z[:, 0].numpy()).sum(1)
    gap = log_joint - posterior.logpdf(grid)
    np.testing.assert_allclose(gap, gap[0], rtol=0, atol=1e-6 * max(1, abs(gap[0])))


def test_the_variance_is_the_second_moment_about_zero():
    z = samples(1000) + 2.0
    a, b = gamma_posterior(z)
    torch.testing.assert_close(b / a, z.square().mean(0), rtol=1e-12, atol=0)
    assert (b / a > 1.5 * z.var(0)).any(), "it is not the variance about the mean"


@pytest.mark.parametrize("n", [2, 7, 4000])
def test_the_predictive_prior_is_scipys_student(n):
    a, b = gamma_posterior(samples(n), 0.5, 0.2)
    z = torch.linspace(-8, 8, 33, dtype=torch.float64)[:, None].expand(-1, 3)
    scale = (b / a).sqrt().numpy()
    expected = stats.t(df=2 * float(a), loc=0, scale=scale).logpdf(z.numpy())
    np.testing.assert_allclose(student_log_prob(z, a, b), expected, rtol=1e-9, atol=1e-9)


def test_the_student_is_the_gaussian_averaged_over_precisions():
    """The integral that gives the predictive prior, done numerically."""
    a, b = gamma_posterior(samples(6, 1))
    precision = stats.gamma(float(a), scale=1 / float(b[0]))
    for z in (-0.3, 0.0, 0.2):

        def density(t, z=z):
            return stats.norm(0, t**-0.5).pdf(z) * precision.pdf(t)

        found = integrate.quad(density, 0, np.inf, limit=200)[0]
        ours = float(student_log_prob(torch.tensor([z], dtype=torch.float64), a, b))
        assert np.exp(ours) == pytest.approx(found, rel=1e-6)


def test_in_single_precision_many_samples_lose_nothing():
    """lgamma(a + 1/2) - lgamma(a) is a small difference of large numbers."""
    z = samples(100_000)
    a, b = gamma_posterior(z)
    exact = student_log_prob(z[:50], a, b)
    close = student_log_prob(z[:50].float(), a.float(), b.float())
    torch.testing.assert_close(close.double(), exact, rtol=0, atol=1e-4)


def test_with_many_samples_it_is_the_gaussian_and_with_few_it_is_not():
    def gap(n):
        a, b = gamma_posterior(samples(n))
        z = (b / a).sqrt() * torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
        return (student_log_prob(z, a, b) - gaussian_log_prob(z, b / a)).abs().max()

    assert gap(10_000) < 3e-3 < 0.1 < gap(5)


def test_kl_is_torchs():
    mean, logvar, variance = torch.randn(5, 3), torch.randn(5, 3), torch.rand(3) + 0.2
    posterior = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    prior = torch.distributions.Normal(torch.zeros(3), variance.sqrt())
    expected = torch.distributions.kl_divergence(posterior, prior)
    torch.testing.assert_close(kl_to_axes(mean, logvar, variance), expected)
    at_home = kl_to_axes(torch.zeros(1, 3), variance.log()[None], variance)
    torch.testing.assert_close(at_home, torch.zeros(1, 3), atol=1e-6, rtol=0)


def test_the_students_kl_is_unbiased():
    """Its mean over samples is the integral of q log(q / p)."""
    mean, logvar = torch.tensor([[0.7]]).double(), torch.tensor([[-1.0]]).double()
    a, b = gamma_posterior(samples(4, 1, seed=3) * 10)
    q = stats.norm(0.7, np.exp(-0.5))
    p = stats.t(df=2 * float(a), scale=float((b / a).sqrt()))
    exact = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -12, 12)[0]
    z = torch.from_numpy(q.rvs((200_000, 1), random_state=0))
    found = kl_to_student(mean, logvar, z, a, b)
    assert float(found.mean()) == pytest.approx(exact, abs=5 * float(found.std()) / 200_000**0.5)


def test_with_many_samples_the_estimate_hardly_scatters():
    a, b = gamma_posterior(samples(1000))
    variance = 0.25 * b / a  # of a posterior that knows half of the axis' spread
    mean, logvar = torch.zeros(5000, 3).double(), variance.log().expand(5000, 3)
    noise = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0)).double()
    z = variance.sqrt() * noise
    ours = kl_to_student(mean, logvar, z, a, b)
    plain = gaussian_log_prob(z, variance) - student_log_prob(z, a, b)
    assert (ours.std(0) < 0.01 * plain.std(0)).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((torch.zeros(3),), r"z must be \(N, L\)"),
        ((torch.zeros(0, 3),), r"z must be \(N, L\)"),
        ((torch.zeros(2, 3), -1.0), "a0 and b0 must be 0 or more"),
    ],
)
def test_bad_input(arguments, says):
    with pytest.raises(ValueError, match=says):
        gamma_posterior(*arguments)
