"""Denoising diffusion: closed forms against chains, distributions and diffusers' schedulers."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from scipy import integrate, stats

from gentok.process.ddpm import (
    GaussianDiffusion,
    diffuse,
    posterior_mean,
    posterior_variance,
    target,
    to_data,
    to_noise,
)
from gentok.process.diffusion_sampling import (
    ancestral_sample,
    ancestral_step,
    ddim_sample,
    ddim_step,
)
from gentok.process.diffusion_schedules import (
    cosine_betas,
    even_steps,
    last_steps,
    linear_betas,
    scaled_linear_betas,
)
from gentok.process.learned_variance import (
    binned_log_likelihood,
    gaussian_kl,
    range_log_variance,
    variational_bound,
)

THEIR_PREDICTION = {"noise": "epsilon", "data": "sample", "velocity": "v_prediction"}
THEIR_VARIANCE = {"small": "fixed_small", "large": "fixed_large", "learned": "learned_range"}


def peer(cls, betas, **config):
    """diffusers' scheduler over our betas, its table in double precision, as ours is."""
    scheduler = cls(
        num_train_timesteps=len(betas), trained_betas=betas.tolist(), clip_sample=False, **config
    )
    scheduler.alphas_cumprod = (1 - betas).cumprod(0)
    return scheduler


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (linear_betas(1000), {"beta_schedule": "linear"}),
        (
            scaled_linear_betas(1000),
            {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        ),
        (cosine_betas(1000), {"beta_schedule": "squaredcos_cap_v2"}),
    ],
)
def test_betas_equal_diffusers(ours, theirs):
    torch.testing.assert_close(ours.float(), DDPMScheduler(**theirs).betas, atol=1e-7, rtol=1e-5)


def test_kept_steps_are_the_papers():
    # CAM-Seg: round(i 999 / 99); DDMI: linspace(-1, 999, S + 1) cut to integers.
    assert even_steps(1000, 100)[::-1] == [round(i * 999 / 99) for i in range(100)]
    for count in (30, 50, 200):
        grid = torch.linspace(-1, 999, count + 1, dtype=torch.float64)[1:]
        assert last_steps(1000, count)[::-1] == (grid + 1e-9).long().tolist()
    assert even_steps(1000, 1) == last_steps(1000, 1) == [999]
    assert even_steps(10, 10) == last_steps(10, 10) == list(range(9, -1, -1))


def test_closed_form_is_the_chain_of_single_steps():
    betas = cosine_betas(6)
    diffusion = GaussianDiffusion(betas)
    scale, variance = 1.0, 0.0
    for t, beta in enumerate(betas.tolist()):
        scale, variance = scale * math.sqrt(1 - beta), variance * (1 - beta) + beta
        x0, noise = torch.randn(3, 2, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
        expected = scale * x0 + math.sqrt(variance) * noise
        torch.testing.assert_close(diffusion.q_sample(x0, noise, torch.full((3,), t)), expected)


@pytest.mark.parametrize("t, s", [(4, 3), (5, 1), (2, 0), (5, -1)])
def test_posterior_is_bayes_rule(t, s):
    """q(x_s | x_t, x_0) ~ q(x_t | x_s) q(x_s | x_0), multiplied out on a fine grid."""
    diffusion = GaussianDiffusion(linear_betas(6, 0.1, 0.4))
    now, before, x0, x_t = diffusion.alpha_bar(t), diffusion.alpha_bar(s), 0.7, -0.4
    mean = posterior_mean(torch.tensor([x0]), torch.tensor([x_t]), now, before).item()
    variance = posterior_variance(now, before)
    if s == -1:
        assert mean == pytest.approx(x0, abs=1e-6) and variance == 0
        return
    grid = torch.linspace(-6, 6, 20001, dtype=torch.float64).numpy()
    jump = now / before
    density = stats.norm.pdf(x_t, math.sqrt(jump) * grid, math.sqrt(1 - jump))
    density *= stats.norm.pdf(grid, math.sqrt(before) * x0, math.sqrt(1 - before))
    mass = integrate.trapezoid(density, grid)
    their_mean = integrate.trapezoid(density * grid, grid) / mass
    assert mean == pytest.approx(their_mean, abs=1e-6)
    spread = integrate.trapezoid(density * (grid - their_mean) ** 2, grid) / mass
    assert variance == pytest.approx(spread, abs=1e-6)


@pytest.mark.parametrize("prediction", ["noise", "data", "velocity"])
def test_a_perfect_prediction_gives_data_and_noise_back(prediction):
    diffusion = GaussianDiffusion(linear_betas(50), prediction)
    x0, noise, t = torch.randn(5, 3, 2), torch.randn(5, 3, 2), torch.tensor([0, 7, 20, 33, 49])
    share = diffusion.alpha_bar(t)
    x_t = diffuse(x0, noise, share)
    wanted = target(x0, noise, share, prediction)
    torch.testing.assert_close(to_data(wanted, x_t, share, prediction), x0, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(to_noise(x0, x_t, share), noise, atol=1e-4, rtol=1e-4)
    assert diffusion.simple_loss(wanted, x0, noise, t).abs().max() == 0
    off = diffusion.simple_loss(wanted + 2, x0, noise, t)
    torch.testing.assert_close(off, torch.full((5,), 4.0))


def test_velocity_equals_diffusers():
    betas, x0, noise = linear_betas(100), torch.randn(4, 3), torch.randn(4, 3)
    t = torch.tensor([0, 10, 50, 99])
    theirs = peer(DDPMScheduler, betas).get_velocity(x0, noise, t)
    ours = target(x0, noise, GaussianDiffusion(betas).alpha_bar(t), "velocity")
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def linspaced(scheduler, count):
    """Their falling steps and ours, which must agree."""
    scheduler.set_timesteps(count)
    return scheduler.timesteps.tolist()


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
@pytest.mark.parametrize("prediction", ["noise", "data", "velocity"])
def test_ancestral_steps_equal_diffusers(prediction, variance):
    torch.manual_seed(0)
    betas = cosine_betas(100)
    ours = GaussianDiffusion(betas, prediction, variance)
    theirs = peer(
        DDPMScheduler,
        betas,
        prediction_type=THEIR_PREDICTION[prediction],
        variance_type=THEIR_VARIANCE[variance],
        timestep_spacing="linspace",
    )
    steps = linspaced(theirs, 12)
    assert steps == even_steps(100, 12)
    x = torch.randn(2, 3, 4)
    for t, s in zip(steps, [*steps[1:], -1], strict=True):
        output = torch.randn(2, 6 if variance == "learned" else 3, 4)
        torch.manual_seed(t)
        # They draw noise of the shape of the prediction.
        noise = torch.randn(2, 3, 4)
        torch.manual_seed(t)
        expected = theirs.step(output, t, x).prev_sample
        x = ancestral_step(ours, output, x, t, s, noise)
        torch.testing.assert_close(x, expected.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prediction", ["noise", "data", "velocity"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_ddim_steps_equal_diffusers(prediction, eta, clip):
    torch.manual_seed(0)
    betas = scaled_linear_betas(100)
    ours = GaussianDiffusion(betas, prediction)
    theirs = peer(
        DDIMScheduler,
        betas,
        prediction_type=THEIR_PREDICTION[prediction],
        timestep_spacing="trailing",
    )
    theirs.register_to_config(clip_sample=clip is not None)
    steps = linspaced(theirs, 10)
    assert steps == last_steps(100, 10)
    x = torch.randn(2, 3, 4)
    for t, s in zip(steps, [*steps[1:], -1], strict=True):
        output, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
        expected = theirs.step(
            output,
            t,
            x,
            eta=eta,
            variance_noise=noise if eta else None,
            use_clipped_model_output=clip is not None,
        ).prev_sample
        x = ddim_step(ours, output, x, t, s, noise, eta, clip)
        torch.testing.assert_close(x, expected.float(), atol=2e-5, rtol=1e-5)


def test_ddim_with_the_whole_noise_has_the_ancestral_moments():
    diffusion = GaussianDiffusion(linear_betas(50))
    x, output, noise = torch.randn(4, 3), torch.randn(4, 3), torch.randn(4, 3)
    for t, s in [(49, 40), (20, 19), (3, 0), (0, -1)]:
        a = ancestral_step(diffusion, output, x, t, s, noise)
        b = ddim_step(diffusion, output, x, t, s, noise, eta=1.0)
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def best_noise(diffusion, mean, std, doubled=False):
    """The best noise prediction for data N(mean, std^2), in closed form."""

    def network(x, t):
        share = diffusion.alpha_bar(t).view(-1, 1)
        centred = x - share.sqrt() * mean
        eps = ((1 - share).sqrt() / (share * std**2 + 1 - share) * centred).to(x.dtype)
        return torch.cat([eps, torch.ones_like(eps)], 1) if doubled else eps

    return network


@pytest.mark.parametrize(
    "sampler, variance",
    [
        (ancestral_sample, "large"),
        (ancestral_sample, "learned"),
        (ddim_sample, "small"),
    ],
)
def test_gaussian_data_come_out_with_the_right_moments(sampler, variance):
    torch.manual_seed(0)
    diffusion = GaussianDiffusion(linear_betas(1000), variance=variance)
    network = best_noise(diffusion, 1.5, 0.4, doubled=variance == "learned")
    out = sampler(diffusion, network, torch.randn(20_000, 1), even_steps(1000, 150))
    assert out.mean().item() == pytest.approx(1.5, abs=0.02)
    assert out.std().item() == pytest.approx(0.4, abs=0.02)


def test_temperature_narrows_and_zero_is_deterministic():
    diffusion = GaussianDiffusion(linear_betas(100))
    noise, network = torch.randn(2000, 1), best_noise(diffusion, 0.0, 1.0)
    steps = even_steps(100, 20)
    cold = ancestral_sample(diffusion, network, noise, steps, temperature=0.0)
    assert torch.equal(cold, ancestral_sample(diffusion, network, noise, steps, temperature=0.0))
    warm = ancestral_sample(diffusion, network, noise, steps)
    assert cold.std() < 0.8 * warm.std()


def test_the_network_is_told_the_original_step():
    diffusion, seen = GaussianDiffusion(linear_betas(1000)), []

    def network(x, t):
        seen.append(t.unique().item())
        return torch.zeros_like(x)

    ddim_sample(diffusion, network, torch.randn(3, 1), last_steps(1000, 4))
    assert seen == [999, 749, 499, 249]


def test_log_variance_spans_its_range():
    diffusion = GaussianDiffusion(linear_betas(50), variance="learned")
    t = torch.tensor([1, 10, 49])
    now, before = diffusion.alpha_bar(t), diffusion.alpha_bar(t - 1)
    ends = [range_log_variance(diffusion, torch.full((3, 1), v), t, t - 1) for v in (-1.0, 1.0)]
    small = posterior_variance(now, before).float()[:, None]
    large = (1 - now / before).float()[:, None]
    torch.testing.assert_close(ends[0].exp(), small, atol=0, rtol=1e-5)
    torch.testing.assert_close(ends[1].exp(), large, atol=0, rtol=1e-5)


def test_gaussian_kl_equals_torch():
    a, b, c, d = torch.randn(4, 10).unbind()
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(a, (0.5 * b).exp()),
        torch.distributions.Normal(c, (0.5 * d).exp()),
    )
    torch.testing.assert_close(gaussian_kl(a, b, c, d), theirs, atol=1e-5, rtol=1e-5)


def test_the_bins_of_all_levels_hold_the_whole_mass():
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)
    mean, log_variance = torch.tensor(0.3).double(), torch.tensor(-2.0).double()
    mass = binned_log_likelihood(levels, mean, log_variance).exp()
    assert mass.sum().item() == pytest.approx(1, abs=1e-9)
    normal = stats.norm(0.3, math.exp(-1.0))
    inner = normal.cdf(levels[7].item() + 1 / 255) - normal.cdf(levels[7].item() - 1 / 255)
    assert mass[7].item() == pytest.approx(inner, rel=1e-6)


def test_the_bound_is_the_kl_of_the_two_steps_in_bits():
    torch.manual_seed(0)
    diffusion = GaussianDiffusion(cosine_betas(40), variance="learned")
    x0, t = torch.randn(3, 2, 4, dtype=torch.float64), torch.tensor([1, 17, 39])
    x_t = diffusion.q_sample(x0, torch.randn_like(x0), t)
    output = torch.randn(3, 4, 4, dtype=torch.float64)
    bound = variational_bound(diffusion, output, x0, x_t, t)
    for i, step in enumerate(t.tolist()):
        now, before = diffusion.alpha_bar(step), diffusion.alpha_bar(step - 1)
        beta, small = 1 - now / before, posterior_variance(now, before)
        guess = (x_t[i] - (1 - now) ** 0.5 * output[i, :2]) / now**0.5
        f = (output[i, 2:] + 1) / 2
        std = (0.5 * (f * math.log(beta) + (1 - f) * math.log(small))).exp()
        model = torch.distributions.Normal(posterior_mean(guess, x_t[i], now, before), std)
        truth = torch.distributions.Normal(
            posterior_mean(x0[i], x_t[i], now, before), torch.tensor(small).double() ** 0.5
        )
        kl = torch.distributions.kl_divergence(truth, model).mean() / math.log(2)
        torch.testing.assert_close(bound[i], kl, atol=1e-9, rtol=1e-7)


def test_the_first_step_is_judged_by_likelihood():
    diffusion = GaussianDiffusion(linear_betas(40), variance="learned")
    x0, t = torch.zeros(1, 1, 1), torch.tensor([0])
    x_t = diffusion.q_sample(x0, torch.randn(1, 1, 1), t)
    output = torch.cat([to_noise(x0, x_t, diffusion.alpha_bar(t)), torch.zeros(1, 1, 1)], 1)
    bits = variational_bound(diffusion, output, x0, x_t, t).item()
    betas = linear_betas(40)
    # beta-tilde of the first step is 0: that of the second takes its place.
    second = betas[1] * betas[0] / (1 - (1 - betas[0]) * (1 - betas[1]))
    std = (betas[0] * second).item() ** 0.25
    normal = stats.norm(0, std)
    expected = -math.log2(normal.cdf(1 / 255) - normal.cdf(-1 / 255))
    assert bits == pytest.approx(expected, rel=1e-4)


def test_the_bound_trains_the_variance_alone():
    diffusion = GaussianDiffusion(linear_betas(40), variance="learned")
    x0, t = torch.randn(4, 3, 2), torch.tensor([0, 1, 20, 39])
    x_t = diffusion.q_sample(x0, torch.randn_like(x0), t)
    output = torch.randn(4, 6, 2, requires_grad=True)
    variational_bound(diffusion, output, x0, x_t, t).sum().backward()
    assert output.grad[:, :3].abs().max() == 0
    assert (output.grad[:, 3:].abs().amax((1, 2)) > 0).all() and output.grad.isfinite().all()
    plain = torch.randn(4, 6, 2, requires_grad=True)
    diffusion.simple_loss(plain, x0, torch.randn_like(x0), t).sum().backward()
    assert plain.grad[:, 3:].abs().max() == 0 and plain.grad[:, :3].abs().min() > 0


def test_half_precision_samples_keep_the_schedule():
    """1 - alpha-bar is 1e-4 at the first step, which bfloat16 would round to 0."""
    diffusion = GaussianDiffusion(linear_betas(1000))
    noise, t = torch.randn(1, 4).bfloat16(), torch.tensor([0])
    x_t = diffusion.q_sample(torch.zeros(1, 4).bfloat16(), noise, t)
    torch.testing.assert_close(x_t, 0.01 * noise.float(), atol=0, rtol=1e-5)


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: GaussianDiffusion(torch.tensor([0.5])), "betas"),
        (lambda: GaussianDiffusion(torch.tensor([0.5, 1.0])), "betas"),
        (lambda: GaussianDiffusion(linear_betas(9), "eps"), "prediction"),
        (lambda: GaussianDiffusion(linear_betas(9), variance="fixed"), "variance"),
        (lambda: GaussianDiffusion(linear_betas(9)).alpha_bar(9), r"\[-1, 9\)"),
        (
            lambda: GaussianDiffusion(linear_betas(9), variance="learned").split(torch.zeros(1, 3)),
            "twice",
        ),
        (lambda: linear_betas(1), "num_steps"),
        (lambda: even_steps(10, 11), "num_kept"),
        (lambda: last_steps(10, 0), "num_kept"),
        (
            lambda: GaussianDiffusion(linear_betas(9)).simple_loss(
                torch.zeros(2, 4), torch.zeros(2, 3), torch.zeros(2, 3), 0
            ),
            "predicted",
        ),
        (
            lambda: variational_bound(
                GaussianDiffusion(linear_betas(9)), *[torch.zeros(1, 1)] * 3, torch.tensor([1])
            ),
            "learned",
        ),
        (
            lambda: ddim_sample(
                GaussianDiffusion(linear_betas(9)), lambda x, t: x, torch.zeros(1, 1), [1, 2]
            ),
            "fall",
        ),
        (
            lambda: ddim_step(
                GaussianDiffusion(linear_betas(9)), *[torch.zeros(1, 1)] * 2, 3, 2, eta=0.5
            ),
            "noise",
        ),
        (
            lambda: ddim_step(
                GaussianDiffusion(linear_betas(9)), *[torch.zeros(1, 1)] * 2, 3, 2, eta=1.5
            ),
            "eta",
        ),
    ],
)
def test_bad_input_is_refused(call, word):
    with pytest.raises(ValueError, match=word):
        call()
