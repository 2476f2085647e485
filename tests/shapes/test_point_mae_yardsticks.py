"""What Point-MAE is held against: fixed masks, the constant patch, centres read off tokens."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from gentok.data.clouds import solid_clouds
from gentok.measure import chamfer_distance
from gentok.measure.fixed import fixed_masks
from gentok.shapes import point_mae
from gentok.shapes.point_mae.pictures import cloud_grid, reconstruction_grid
from gentok.shapes.point_mae.yardsticks import constant_patch, leak, masked_chamfer, ridge_r2

SIZE = replace(
    point_mae.PRESETS["tiny"],
    num_points=64,
    num_patches=16,
    patch_size=8,
    dim=24,
    depth=2,
    num_heads=3,
    init_std=0.3,
)


@pytest.fixture(scope="module")
def points():
    return solid_clouds(150, 64, seed=4).points  # more than are passed at a time


def build(**changes):
    torch.manual_seed(0)
    return point_mae.build(replace(SIZE, **changes)).eval()


def test_errors_under_a_fixed_mask_are_those_of_the_patches_it_hides(points):
    model = build()
    (mask,) = fixed_masks(len(points), 16, [10 / 16])
    errors = masked_chamfer(model, points, mask)
    assert errors.shape == (150, 10)
    assert torch.equal(errors, masked_chamfer(model, points, mask)), "no luck of its own"
    i = 130  # by hand, one cloud of the second part
    patches = model.encoder.group(points[i : i + 1])
    hidden = mask[i].nonzero().flatten()
    z = model.encoder.transformer(
        model.encoder.tokenizer(patches.points)[:, ~mask[i]],
        model.encoder.position(patches.centres[:, ~mask[i]]),
    )
    drawn = model.decode(z, patches.centres[:, ~mask[i]], patches.centres[:, mask[i]])[0]
    expected = chamfer_distance(drawn, patches.points[0, hidden])
    torch.testing.assert_close(errors[i], expected, rtol=1e-4, atol=1e-6)


def test_unequal_masks_are_refused(points):
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[0, :3], mask[1, :2] = True, True
    with pytest.raises(ValueError, match=r"needs 3 masked patches, got \[3, 2\]"):
        masked_chamfer(build(), points[:2], mask)


def test_the_constant_patch_beats_every_patch_of_the_set(points):
    patches = build().encoder.group(points).points.flatten(0, 1)
    best = constant_patch(patches)

    def error(patch):
        return float(chamfer_distance(patch.expand_as(patches), patches).mean())

    ball = best.norm(dim=1)
    assert best.shape == (8, 3) and float(ball.max()) < 0.6
    assert error(best) < min(error(patches[i]) for i in range(0, len(patches), 97))
    assert error(best) < 0.75 * error(torch.zeros(8, 3)), "points that crowd in the centre"
    assert torch.equal(best, constant_patch(patches)), "a function of the patches"


def test_ridge_equals_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 5)) * [1, 2, 3, 4, 5] + 1
    y = x[:, :3] @ rng.normal(size=(3, 3)) + rng.normal(size=(80, 3))
    scale = StandardScaler().fit(x[:40])
    # NumPy's spread divides by n, torch's by n - 1: the penalty means the same in units of torch's.
    machine = Ridge(alpha=40 / 39).fit(scale.transform(x[:40]), y[:40])
    rest = y[40:] - machine.predict(scale.transform(x[40:]))
    expected = 1 - (rest**2).sum() / ((y[40:] - y[:40].mean(0)) ** 2).sum()
    assert ridge_r2(torch.tensor(x), torch.tensor(y)) == pytest.approx(expected, abs=1e-6)


def test_mask_tokens_in_the_encoder_leak_where_the_masked_patches_are(points):
    """Both networks are untrained, with the same encoder: what differs is what they are told."""
    (mask,) = fixed_masks(len(points), 16, [10 / 16])
    told, blind = build(shift_mask_tokens=False), build()
    assert leak(told, points, mask) > leak(blind, points, mask) + 0.1
    with torch.no_grad():  # and where nobody is told of any place, nothing can be read
        blind.encoder.position[2].weight.zero_()
        blind.encoder.tokenizer.second[3].weight.zero_()
    assert abs(leak(blind, points, mask)) < 0.05


def test_a_picture_shows_what_was_given_and_what_was_filled_in(points):
    seen = build().reconstruct(points[:2], mask_ratio=0.5)
    figure = reconstruction_grid(seen, points[:2], "Two clouds", ["one", "other"])
    sizes = [len(axes.collections[0].get_offsets()) for axes in figure.axes]
    given, filled = seen.visible[0].flatten(0, 1), seen.predicted[0].flatten(0, 1)
    assert sizes == 2 * [len(given)] + 2 * [len(given) + len(filled)] + 2 * [64]
    colours = figure.axes[2].collections[0].get_facecolors()
    assert len(np.unique(colours[:, :3], axis=0)) == 2, "two colours: given and filled in"
    plt.close(figure)


def test_rows_of_a_picture_have_equally_many_clouds(points):
    with pytest.raises(ValueError, match=r"equally many clouds, got \[1, 2\]"):
        cloud_grid({"a": points[:1], "b": points[:2]}, "Unequal")
