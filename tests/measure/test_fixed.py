"""Fixed grids: exact, repeatable, and good stand-ins for expectations."""

import pytest
import torch

from gentok.measure.fixed import fixed_masks, fixed_noise, fixed_times, mean_over_times
from gentok.process.flow import interpolate, velocity


def test_times_are_quantiles():
    assert fixed_times(4).tolist() == [0.125, 0.375, 0.625, 0.875]
    bent = fixed_times(999, lambda q: torch.special.ndtri(q).sigmoid())
    drawn = torch.sigmoid(torch.randn(200_000, generator=torch.Generator().manual_seed(0)))
    assert float(bent[499]) == pytest.approx(0.5, abs=1e-6)
    assert float((bent**2).mean()) == pytest.approx(float((drawn**2).mean()), abs=2e-3)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        fixed_times(0)


def test_noise_depends_on_shape_and_seed_alone():
    torch.manual_seed(1)
    first, state = fixed_noise((3, 2)), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(first, fixed_noise((3, 2)))
    assert not torch.equal(first, fixed_noise((3, 2), seed=1))
    torch.manual_seed(1)
    fixed_noise((3, 2))
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"


def test_masks_hide_exactly_and_are_nested():
    ratios = (0.0, 0.3, 0.5, 1.0)
    masks = fixed_masks(50, 16, ratios)
    assert masks.shape == (4, 50, 16) and masks.dtype == torch.bool
    assert masks.sum(-1).unique(dim=1).flatten().tolist() == [0, 5, 8, 16]
    for small, large in zip(masks[:-1], masks[1:], strict=True):
        assert (small <= large).all()
    assert torch.equal(masks, fixed_masks(50, 16, ratios))
    share = fixed_masks(4000, 16, (0.5,))[0].float().mean(0)
    assert float((share - 0.5).abs().max()) < 0.04, "every place is hidden equally often"
    with pytest.raises(ValueError, match=r"ratios must lie in \[0, 1\]"):
        fixed_masks(1, 4, (1.5,))


def test_a_loss_over_times_is_the_mean_by_hand():
    items, noise = fixed_noise((5, 3)), fixed_noise((5, 3), seed=1)
    times = fixed_times(3)

    def loss(x, eps, t):
        return (interpolate(x, eps, t) - velocity(x, eps)).square().mean(-1)

    found = mean_over_times(loss, items, noise, times)
    slow = [
        sum(float(loss(items[i : i + 1], noise[i : i + 1], t[None])) for t in times) / 3
        for i in range(5)
    ]
    assert found.tolist() == pytest.approx(slow, rel=1e-5)
    with pytest.raises(ValueError, match="one shape"):
        mean_over_times(loss, items, noise[:2], times)
