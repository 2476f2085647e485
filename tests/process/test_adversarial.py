"""Hinge losses, the adaptive weight and guidance."""

import pytest
import torch
from torch import nn

from gentok.process.adversarial import (
    adaptive_weight,
    discriminator_hinge,
    generator_hinge,
    gradient_ratio,
)
from gentok.process.guidance import guide


def test_hinge_at_known_logits():
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-2.0, 1.0])
    assert discriminator_hinge(real, fake).item() == pytest.approx(0.5 * (0.5 + 1.0))
    assert generator_hinge(fake).item() == pytest.approx(0.5)


def test_sure_discriminator_gets_no_gradient():
    real = torch.tensor([1.5], requires_grad=True)
    discriminator_hinge(real, torch.tensor([-1.5])).backward()
    assert real.grad.item() == 0


def test_adaptive_weight_balances_the_gradients():
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 4), torch.randn(8, 4)
    out = layer(x)
    rec, adv = out.square().mean(), 1e-2 * out.sum()
    weight = adaptive_weight(rec, adv, layer.weight)
    (g_rec,) = torch.autograd.grad(rec, layer.weight, retain_graph=True)
    (g_adv,) = torch.autograd.grad(weight * adv, layer.weight)
    assert g_adv.norm().item() == pytest.approx(g_rec.norm().item(), rel=1e-2)
    assert not weight.requires_grad


def test_adaptive_weight_is_bounded():
    layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    out = layer(x)
    assert adaptive_weight(1e9 * out.sum(), 0.0 * out.sum(), layer.weight) == 1e4


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-9])
def test_means_with_a_divided_cap_are_sums_over_the_values(scale):
    """(sum + w_sum adv) / V = mean + w_mean adv, whether the cap binds or not."""
    torch.manual_seed(0)
    layer, values = nn.Linear(4, 6), 48
    out = layer(torch.randn(8, 4))
    mean, adv = out.square().mean(), scale * out.sum()
    of_sums = gradient_ratio(values * mean, adv, layer.weight, largest=1e4)
    of_means = gradient_ratio(mean, adv, layer.weight, largest=1e4 / values)
    assert float(of_means) == pytest.approx(float(of_sums) / values, rel=1e-5)
    assert float(of_sums) == float(adaptive_weight(values * mean, adv, layer.weight))
    assert (float(of_sums) == 1e4) == (scale < 1e-8)
    assert not of_means.requires_grad


def test_guidance_ends():
    c, u = torch.randn(3), torch.randn(3)
    torch.testing.assert_close(guide(c, u, 1.0), c)
    torch.testing.assert_close(guide(c, u, 0.0), u)
    torch.testing.assert_close(guide(c, u, 2.0), c + (c - u))
