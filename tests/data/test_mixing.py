"""Mixed images and labels: pure functions of the step that say what they did."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.data.mixing import erased, mixed


def constant(step: int) -> dict:
    """Image i of the batch holds the number i everywhere; its class is i."""
    values = torch.arange(6.0)[:, None, None, None]
    return {"image": values.expand(6, 3, 16, 12).clone(), "label": torch.arange(6)}


@given(st.integers(0, 500), st.sampled_from([(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)]))
@settings(max_examples=60, deadline=None)
def test_labels_say_what_the_images_hold(step, kinds):
    batch = mixed(constant, 6, mixup=kinds[0], cutmix=kinds[1], smoothing=0.0)(step)
    image, label = batch["image"], batch["label"]
    torch.testing.assert_close(label.sum(1), torch.ones(6))
    # The mean pixel of image i is w i + (1 - w)(5 - i), and so is the mean class of its label.
    torch.testing.assert_close(label @ torch.arange(6.0), image.mean((1, 2, 3)))
    partners = (label > 0).nonzero()
    assert all(int(c) in (int(r), 5 - int(r)) for r, c in partners)


def test_the_two_kinds():
    soft = mixed(constant, 6, cutmix=0.0)
    hard = mixed(constant, 6, mixup=0.0)
    for step in range(20):
        faded, pasted = soft(step)["image"], hard(step)["image"]
        assert torch.equal(faded, faded[:, :1, :1, :1].expand_as(faded))
        assert set(pasted[0].flatten().tolist()) <= {0.0, 5.0}
        assert torch.equal(pasted[:, 0], pasted[:, 2])
    both = mixed(constant, 6)
    kinds = [float(both(step)["image"][0].std() > 0.01) for step in range(300)]
    assert 0.35 < sum(kinds) / 300 < 0.6, "a fair coin, but for rectangles that are empty or all"


def test_smoothing_alone():
    label = mixed(constant, 6, mixup=0.0, cutmix=0.0, smoothing=0.12)(0)["label"]
    expected = torch.full((6, 6), 0.02) + 0.88 * torch.eye(6)
    torch.testing.assert_close(label, expected)


def test_weights_follow_their_distribution():
    """Beta(0.8, 0.8) has mean 1/2 and variance 1 / (4 (2 a + 1))."""
    draw = mixed(constant, 6, cutmix=0.0, smoothing=0.0)
    weights = torch.tensor([float(draw(step)["label"][0, 0]) for step in range(1500)])
    assert abs(weights.mean() - 0.5) < 0.03
    assert abs(weights.var() - 1 / (4 * 2.6)) < 0.01


def test_steps_are_pure_and_sources_untouched():
    kept = constant(0)
    draw = erased(mixed(lambda step: kept, 6, seed=3), 0.5, seed=3)
    first, again, other = draw(7), draw(7), draw(8)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["image"], other["image"])
    assert all(torch.equal(kept[name], constant(0)[name]) for name in kept)


def test_erased_rectangles():
    plain = {"image": torch.full((400, 3, 32, 32), 9.0), "label": torch.zeros(400).long()}
    image = erased(lambda step: plain, 0.25)(0)["image"]
    gone = image[:, 0] != 9.0  # (B, H, W)
    share = gone.float().mean((1, 2))
    hit = share > 0
    assert abs(hit.float().mean() - 0.25) < 0.07
    assert share[hit].min() > 0.01 and share[hit].max() < 0.36
    for mask in gone[hit][:20]:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns), "a rectangle"
    assert image[image != 9.0].abs().max() <= 1


def test_bad_input():
    with pytest.raises(ValueError, match="smoothing in .* got 0.8, 1.0, 1.0"):
        mixed(constant, 6, smoothing=1.0)
    with pytest.raises(ValueError, match="mixup and cutmix must be 0 or more"):
        mixed(constant, 6, mixup=-1)
    with pytest.raises(ValueError, match="probability must lie in"):
        erased(constant, 1.5)
