"""Flow matching: direction of time, sign of the velocity, samplers."""

import pytest
import torch

from gentok.process.flow import (
    direction_loss,
    euler_sample,
    flow_loss,
    interpolate,
    logit_normal_times,
    shift_times,
    velocity,
)


def test_time_runs_from_noise_to_data():
    x, noise = torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(interpolate(x, noise, torch.zeros(2)), noise)
    torch.testing.assert_close(interpolate(x, noise, torch.ones(2)), x)


def test_velocity_is_the_derivative_of_the_path():
    x, noise = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    t = torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64)
    step = (interpolate(x, noise, t + 1e-6) - interpolate(x, noise, t - 1e-6)) / 2e-6
    torch.testing.assert_close(step, velocity(x, noise), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("num_steps", [1, 3])
def test_the_true_velocity_lands_on_the_data(num_steps):
    x, noise = torch.randn(4, 2, 3), torch.randn(4, 2, 3)
    out = euler_sample(lambda x_t, t: x - noise, noise, num_steps)
    torch.testing.assert_close(out, x, atol=1e-6, rtol=1e-5)


def test_gaussian_data_come_out_with_the_right_spread():
    # For data N(0, s^2) the best velocity is known in closed form.
    s, noise = 0.5, torch.randn(50_000, 1, generator=torch.Generator().manual_seed(0))

    def best(x_t, t):
        t = t[:, None]
        variance = t**2 * s**2 + (1 - t) ** 2
        return (t * s**2 - (1 - t)) / variance * x_t

    assert euler_sample(best, noise, 200).std().item() == pytest.approx(s, abs=0.01)


def test_shift_bends_towards_noise_and_keeps_the_ends():
    t = torch.linspace(0, 1, 11)
    assert torch.equal(shift_times(t, 1.0), t)
    bent = shift_times(t, 0.3)
    assert bent[0] == 0 and bent[-1] == 1 and (bent[1:-1] < t[1:-1]).all()
    # SD3 states the bend in the other direction of time with 1/s.
    torch.testing.assert_close(bent, 1 - shift_times(1 - t, 1 / 0.3))


def test_logit_normal_times_have_the_stated_median_and_spread():
    torch.manual_seed(0)
    logits = torch.logit(logit_normal_times(100_000, mean=0.5, std=2.0).double())
    assert logits.mean().item() == pytest.approx(0.5, abs=0.03)
    assert logits.std().item() == pytest.approx(2.0, abs=0.03)


def test_kept_states_lie_on_the_way():
    x, noise = torch.randn(2, 3), torch.randn(2, 3)
    out, states = euler_sample(lambda x_t, t: x - noise, noise, 8, keep=4)
    assert len(states) == 4 and torch.equal(states[-1], out)
    torch.testing.assert_close(states[0], interpolate(x, noise, torch.full((2,), 0.25)))


def test_losses():
    v = torch.randn(2, 3, 4)
    assert flow_loss(v, v) == 0 and direction_loss(v, 2 * v).item() == pytest.approx(0, abs=1e-6)
    assert direction_loss(v, -v).item() == pytest.approx(2, abs=1e-6)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="num_steps"):
        euler_sample(lambda x, t: x, torch.zeros(1, 1), 0)
