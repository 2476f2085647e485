"""Reconstruction and dictionary metrics against scikit-learn, brute force and known cases."""

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import cosine_similarity

from gentok.measure import (
    alive_fraction,
    cosine,
    explained_variance,
    l0,
    loss_recovered,
    nearest_neighbour_cosines,
)
from gentok.measure import sae as module


def activations(seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(200, 6, generator=rng, dtype=torch.float64) * torch.arange(1, 7) + 3


def test_explained_variance_equals_the_variance_weighted_r2():
    x = activations()
    x_hat = 0.7 * x + 0.3 * activations(1)
    expected = r2_score(x.numpy(), x_hat.numpy(), multioutput="variance_weighted")
    assert explained_variance(x, x_hat) == pytest.approx(expected)
    assert explained_variance(x, x) == 1
    assert explained_variance(x, x.mean(0).expand_as(x)) == pytest.approx(0)


@pytest.mark.parametrize("x", [torch.full((5, 3), 2.5), torch.randn(1, 3), torch.zeros(4, 2)])
def test_nothing_is_explained_where_nothing_varies(x):
    with pytest.raises(ValueError, match="activations that differ"):
        explained_variance(x, x + 0.1)


def test_cosine():
    x, y = activations(), activations(1)
    expected = np.diag(cosine_similarity(x.numpy(), y.numpy())).mean()
    assert cosine(x, y) == pytest.approx(expected)
    assert cosine(x, 5 * x) == pytest.approx(1)


def test_l0_and_alive():
    features = torch.tensor([[0.0, 2.0, 0.0, -1.0], [0.0, 1.0, 0.0, 0.0]])
    assert l0(features) == 1.5
    assert alive_fraction(features) == 0.5


def test_nearest_neighbours_equal_brute_force(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 7)  # several chunks, the last one short
    directions = torch.randn(40, 8, generator=torch.Generator().manual_seed(0)).double()
    similarity = cosine_similarity(directions.numpy())
    np.fill_diagonal(similarity, -2)
    np.testing.assert_allclose(nearest_neighbour_cosines(directions), similarity.max(1), rtol=1e-12)


def test_copies_are_found_and_orthogonal_directions_are_not():
    found = nearest_neighbour_cosines(torch.cat([torch.eye(4), 3 * torch.eye(4)[:1]]))
    torch.testing.assert_close(found, torch.tensor([1.0, 0, 0, 0, 1.0]))


def test_loss_recovered():
    assert loss_recovered(10.0, 4.0, 4.0) == 1
    assert loss_recovered(10.0, 10.0, 4.0) == 0
    assert loss_recovered(10.0, 5.5, 4.0) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="must exceed"):
        loss_recovered(4.0, 4.0, 4.0)


@pytest.mark.parametrize("measure", [explained_variance, cosine])
def test_bad_shapes_are_refused(measure):
    with pytest.raises(ValueError, match="one shape"):
        measure(torch.zeros(3, 4), torch.zeros(3, 5))


def test_one_direction_has_no_neighbour():
    with pytest.raises(ValueError, match="F >= 2"):
        nearest_neighbour_cosines(torch.zeros(1, 3))
