"""Stochastic depth: whole items, the right mean, the right rates."""

import pytest
import torch

from gentok.nn.stochastic_depth import DropPath, drop_rates


def test_whole_items_are_dropped_and_the_mean_stays():
    torch.manual_seed(0)
    layer, x = DropPath(0.25).train(), torch.ones(4000, 3, 2)
    y = layer(x)
    torch.testing.assert_close(y.unique(), torch.tensor([0, 4 / 3]))
    assert torch.equal(y, y[:, :1, :1].expand_as(y)), "whole items are dropped"
    assert abs(y.mean() - 1) < 0.05
    assert torch.equal(layer.eval()(x), x)


def test_rates_rise_linearly():
    assert drop_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3]) and drop_rates(0.3, 1) == [0]


def test_no_rate_draws_no_random_number():
    state = torch.get_rng_state()
    DropPath(0.0).train()(torch.ones(2, 3))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_bad_rates(rate):
    with pytest.raises(ValueError, match=r"rate must lie in \[0, 1\)"):
        DropPath(rate)
