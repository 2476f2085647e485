"""Preference optimisation of flows: the formula, its gradient, and what shared noise is for."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.process.preference import flow_error, flow_preference_loss, preference_loss

ERRORS = st.floats(0.0, 4.0)


@settings(deadline=None, max_examples=30)
@given(w=ERRORS, lose=ERRORS, ref_w=ERRORS, ref_l=ERRORS, beta=st.floats(0.1, 20))
def test_loss_is_the_published_formula(w, lose, ref_w, ref_l, beta):
    errors = [torch.tensor([e], dtype=torch.float64) for e in (w, lose, ref_w, ref_l)]
    loss, parts = preference_loss(*errors, beta)
    inside = beta * ((ref_w - w) - (ref_l - lose))
    assert loss.item() == pytest.approx(-math.log(1 / (1 + math.exp(-inside))), abs=1e-6)
    assert parts["margin"].item() == pytest.approx(inside / beta, abs=1e-9)


def test_starts_at_log_two_and_pushes_the_two_errors_apart():
    w, lose = (torch.rand(5, requires_grad=True) for _ in range(2))
    loss, _ = preference_loss(w, lose, w.detach(), lose.detach(), beta=3.0)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
    torch.testing.assert_close(w.grad, torch.full((5,), 0.5 * 3.0 / 5))  # fall: gradient positive
    torch.testing.assert_close(lose.grad, -w.grad)


def test_flow_error_is_the_mean_square_of_the_velocity_error():
    torch.manual_seed(0)
    x, noise, t = torch.randn(3, 2, 4), torch.randn(3, 2, 4), torch.rand(3)
    seen = {}

    def velocity(x_t, time):
        seen["x_t"], seen["t"] = x_t, time
        return x_t * 2

    error = flow_error(velocity, x, noise, t)
    x_t = t[:, None, None] * x + (1 - t[:, None, None]) * noise
    torch.testing.assert_close(seen["x_t"], x_t)
    assert torch.equal(seen["t"], t)
    expected = F.mse_loss(2 * x_t, x - noise, reduction="none").mean((1, 2))
    torch.testing.assert_close(error, expected)


def test_winner_and_loser_meet_the_same_noise_at_the_same_time():
    seen = []

    def model(x_t, t):
        seen.append((x_t, t))
        return torch.zeros_like(x_t)

    x, noise, t = torch.randn(4, 3), torch.randn(4, 3), torch.rand(4)
    flow_preference_loss(model, model, x, x, t, noise, 1.0)
    assert len(seen) == 4 and all(torch.equal(a, seen[0][0]) for a, _ in seen)
    seen.clear()
    own = torch.randn(4, 3)
    flow_preference_loss(model, model, x, x, t, noise, 1.0, loser_noise=own)
    assert not torch.equal(seen[0][0], seen[1][0]) and torch.equal(seen[0][1], seen[1][1])


def test_no_gradient_reaches_the_reference_and_equal_samples_give_none():
    weight, held = (torch.ones(3, requires_grad=True) for _ in range(2))
    winner, loser, noise, t = *torch.randn(3, 8, 3), torch.rand(8)
    loss, _ = flow_preference_loss(
        lambda x, t: weight * x, lambda x, t: held * x, winner, loser, t, noise, 5.0
    )
    loss.backward()
    assert held.grad is None and weight.grad.any()
    weight.grad = None
    flow_preference_loss(
        lambda x, t: weight * x, lambda x, t: held * x, winner, winner, t, noise, 5.0
    )[0].backward()
    assert not weight.grad.any(), "what winner and loser share must cancel"


def test_training_moves_a_flow_towards_the_winners():
    """A velocity with one free number learns to fit winners better, losers worse."""
    torch.manual_seed(0)
    shift = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([shift], lr=0.1)
    for _ in range(50):
        winner, loser = 1 + 0.1 * torch.randn(32, 1), -1 + 0.1 * torch.randn(32, 1)
        noise, t = torch.randn(32, 1), torch.rand(32)
        loss, parts = flow_preference_loss(
            lambda x, t: shift - 0 * x, lambda x, t: 0 * x, winner, loser, t, noise, 1.0
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert shift.item() > 0.5 and parts["accuracy"] == 1
    assert parts["gain_winner"] > parts["gain_loser"]


def test_bad_input():
    errors = [torch.zeros(2)] * 4
    with pytest.raises(ValueError, match="beta must be above 0, got 0"):
        preference_loss(*errors, 0)
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="winner and loser must have one shape"):
        flow_preference_loss(None, None, x, x[:1], torch.zeros(2), x, 1.0)
