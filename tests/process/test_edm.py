"""EDM: preconditioning and samplers against closed forms and diffusers' EDMEulerScheduler."""

import math

import pytest
import torch
from diffusers import EDMEulerScheduler

from gentok.process.edm import Preconditioner, edm_sample, karras_sigmas, lognormal_sigmas


def optimal(std):
    """Best denoiser for data N(0, std^2)."""
    return lambda x, sigma: x * (std**2 / (std**2 + sigma**2))[:, None]


def test_preconditioning_equals_diffusers():
    ours, theirs = Preconditioner(0.9), EDMEulerScheduler(sigma_data=0.9)
    x, sigma = torch.randn(4, 3), torch.tensor([0.01, 0.5, 3.0, 60.0])

    def network(scaled, noise):
        torch.testing.assert_close(scaled, theirs.precondition_inputs(x, sigma[:, None]))
        torch.testing.assert_close(noise, theirs.precondition_noise(sigma))
        return scaled.sin() + noise[:, None]

    output = network(theirs.precondition_inputs(x, sigma[:, None]), sigma.log() / 4)
    expected = theirs.precondition_outputs(x, output, sigma[:, None])
    torch.testing.assert_close(ours.denoise(network, x, sigma), expected)


def test_inputs_and_targets_have_unit_variance_and_the_loss_weight_is_even():
    """The three demands that define the scales (appendix B.6)."""
    torch.manual_seed(0)
    edm, n = Preconditioner(0.7), 400_000
    clean, eps = 0.7 * torch.randn(n), torch.randn(n)
    for level in (0.05, 0.7, 20.0):
        sigma = torch.tensor(level)
        c_skip, c_out, c_in, _ = edm.scales(sigma)
        noisy = clean + level * eps
        assert (c_in * noisy).var().item() == pytest.approx(1, abs=0.01)
        assert ((clean - c_skip * noisy) / c_out).var().item() == pytest.approx(1, abs=0.01)
        assert (edm.weight(sigma) * c_out**2).item() == pytest.approx(1, rel=1e-5)


def test_the_weighted_error_is_the_networks_own():
    edm, x, sigma = Preconditioner(), torch.randn(3, 2), torch.tensor([0.1, 1.0, 10.0])
    noisy, output = x + sigma[:, None] * torch.randn(3, 2), torch.randn(3, 2)
    denoised = edm.denoise(lambda scaled, noise: output, noisy, sigma)
    c_skip, c_out, _, _ = (scale[:, None] for scale in edm.scales(sigma))
    expected = (output - (x - c_skip * noisy) / c_out).square()
    torch.testing.assert_close(
        edm.weighted_error(denoised, x, sigma), expected, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("count", [1, 2, 18, 40])
def test_noise_levels_equal_diffusers(count):
    scheduler = EDMEulerScheduler()
    scheduler.set_timesteps(count)
    ours = karras_sigmas(count)
    torch.testing.assert_close(ours.float(), scheduler.sigmas, atol=0, rtol=1e-6)
    assert ours[0].item() == pytest.approx(80) and ours[-1] == 0


@pytest.mark.parametrize("churn", [0.0, 3.0, 40.0])
def test_euler_steps_equal_diffusers(churn):
    scheduler, edm, count = EDMEulerScheduler(sigma_data=0.5), Preconditioner(0.5), 10
    scheduler.set_timesteps(count)
    outputs = torch.randn(count, 4, 3)
    settings = {"s_churn": churn, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.003}
    noise = torch.randn(4, 3)
    theirs = noise * 80.0
    torch.manual_seed(1)
    for i, t in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(theirs, t)
        theirs = scheduler.step(outputs[i], t, theirs, **settings).prev_sample
    calls = iter(outputs)
    torch.manual_seed(1)
    ours = edm_sample(
        lambda x, sigma: edm.denoise(lambda scaled, c_noise: next(calls), x, sigma),
        noise,
        karras_sigmas(count),
        heun=False,
        churn=churn,
        churn_range=(0.05, 50.0),
        churn_noise=1.003,
    )
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


def exact(noise, std):
    """The flow of the probability-flow equation for data N(0, std^2)."""
    return 80 * noise * std / math.sqrt(std**2 + 80**2)


def test_heun_is_of_second_order_and_euler_of_first():
    noise = torch.randn(64, 1, dtype=torch.float64)
    for heun, order in [(True, 2), (False, 1)]:
        errors = [
            (edm_sample(optimal(0.5), noise, karras_sigmas(n), heun) - exact(noise, 0.5)).norm()
            for n in (64, 128)
        ]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


def test_heun_asks_twice_a_step_but_the_last():
    seen = []

    def denoiser(x, sigma):
        seen.append(sigma[0].item())
        return torch.zeros_like(x)

    edm_sample(denoiser, torch.randn(2, 1), karras_sigmas(30))
    assert len(seen) == 59 and min(seen) > 0  # MicroDiT's count; never asked at no noise


def test_churn_keeps_the_distribution():
    torch.manual_seed(0)
    noise = torch.randn(20_000, 1)
    still = edm_sample(optimal(0.5), noise, karras_sigmas(60))
    stirred = edm_sample(optimal(0.5), noise, karras_sigmas(250), churn=20.0)
    assert stirred.std().item() == pytest.approx(0.5, abs=0.01)
    corr = torch.corrcoef(torch.stack([still[:, 0], stirred[:, 0]]))[0, 1]
    assert torch.corrcoef(torch.stack([still[:, 0], noise[:, 0]]))[0, 1] > 0.999 and corr < 0.9


def test_the_state_is_double_and_the_denoiser_is_not():
    def denoiser(x, sigma):
        assert x.dtype == sigma.dtype == torch.float32
        return torch.zeros_like(x)

    assert edm_sample(denoiser, torch.randn(2, 1), karras_sigmas(5)).dtype == torch.float32


def test_training_levels_have_the_stated_logarithms():
    torch.manual_seed(0)
    logs = lognormal_sigmas(100_000, mean=-0.6, std=1.2).log()
    assert logs.mean().item() == pytest.approx(-0.6, abs=0.02)
    assert logs.std().item() == pytest.approx(1.2, abs=0.02)


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: karras_sigmas(0), "num_steps"),
        (lambda: karras_sigmas(5, 2.0, 1.0), "sigma_min"),
        (lambda: Preconditioner(0.0), "sigma_data"),
    ],
)
def test_bad_input_is_refused(call, word):
    with pytest.raises(ValueError, match=word):
        call()
