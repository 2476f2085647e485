"""Continuous noise levels: schedules, and the sampler against closed forms and the discrete one."""

import math

import pytest
import torch

from gentok.process.continuous_diffusion import (
    cosine_gamma,
    gamma_sample,
    linear_gamma,
    sigmoid_gamma,
)
from gentok.process.ddpm import GaussianDiffusion
from gentok.process.diffusion_sampling import ddim_sample

SCHEDULES = [cosine_gamma, sigmoid_gamma, linear_gamma]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_fall_from_signal_to_noise(schedule):
    gamma = schedule(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert (gamma.diff() < 0).all() and (gamma > 0).all() and (gamma <= 1).all()
    assert gamma[0].item() == pytest.approx(1, abs=1e-6) and gamma[-1] < 1e-6


def test_schedules_are_the_papers():
    t = torch.tensor([0.25, 0.5], dtype=torch.float64)
    expected = [math.cos((u + 0.0002) * math.pi / (2 * 1.00025)) ** 2 for u in t.tolist()]
    torch.testing.assert_close(cosine_gamma(t), torch.tensor(expected).double())
    assert sigmoid_gamma(t)[1].item() == pytest.approx(0.5)  # symmetric about the middle
    low, high = 1 / (1 + math.exp(3)), 1 / (1 + math.exp(-3))
    quarter = (high - 1 / (1 + math.exp(1.5))) / (high - low)
    assert sigmoid_gamma(t)[0].item() == pytest.approx(quarter)
    assert linear_gamma(t).tolist() == [0.75, 0.5]


def best_noise(mean, std):
    def network(x, gamma, carried):
        share = gamma[:, None]
        eps = (1 - share).sqrt() * (x - share.sqrt() * mean) / (share * std**2 + 1 - share)
        return eps, carried

    return network


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_gaussian_data_come_out_with_the_right_moments(schedule, stochastic):
    torch.manual_seed(0)
    network = best_noise(0.5, 0.3)
    out = gamma_sample(
        network, torch.randn(10_000, 1), 200, schedule, stochastic=stochastic, clip=None
    )
    assert out.mean().item() == pytest.approx(0.5, abs=0.02)
    assert out.std().item() == pytest.approx(0.3, abs=0.03)


def test_it_is_ddim_on_the_same_levels():
    """The last state's x_0 is what a discrete chain of the same shares ends in."""
    gammas = cosine_gamma(torch.linspace(1, 0, 9, dtype=torch.float64))[:-1].flip(0)
    betas = 1 - gammas / torch.cat([torch.ones(1, dtype=torch.float64), gammas[:-1]])
    diffusion = GaussianDiffusion(betas)
    noise, network = torch.randn(5, 3, dtype=torch.float64), best_noise(0.2, 0.5)
    discrete = ddim_sample(
        diffusion, lambda x, t: network(x, diffusion.alpha_bar(t), None)[0], noise, range(7, -1, -1)
    )
    torch.testing.assert_close(gamma_sample(network, noise, 8, clip=None), discrete)


def test_predictions_agree():
    noise, seen = torch.randn(4, 3, dtype=torch.float64), []
    eps_of = best_noise(0.2, 0.5)
    for prediction in ("noise", "data", "velocity"):

        def network(x, gamma, carried, prediction=prediction):
            eps, share = eps_of(x, gamma, None)[0], gamma[:, None]
            x0 = (x - (1 - share).sqrt() * eps) / share.sqrt()
            v = share.sqrt() * eps - (1 - share).sqrt() * x0
            return {"noise": eps, "data": x0, "velocity": v}[prediction], None

        seen.append(gamma_sample(network, noise, 6, prediction=prediction, clip=1.0))
    torch.testing.assert_close(seen[0], seen[1])
    torch.testing.assert_close(seen[0], seen[2])
    assert seen[0].abs().max() <= 1


def test_what_the_network_hands_back_comes_again():
    def network(x, gamma, carried):
        return torch.zeros_like(x), 1 if carried is None else carried + 1

    counts = []

    def counting(x, gamma, carried):
        counts.append((carried, round(gamma[0].item(), 6)))
        return network(x, gamma, carried)

    gamma_sample(counting, torch.zeros(2, 1), 4, linear_gamma)
    assert counts == [(None, 0.0), (1, 0.25), (2, 0.5), (3, 0.75)]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="num_steps"):
        gamma_sample(best_noise(0, 1), torch.zeros(1, 1), 0)
    with pytest.raises(ValueError, match="prediction"):
        gamma_sample(best_noise(0, 1), torch.zeros(1, 1), 3, prediction="eps")
