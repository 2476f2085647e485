"""t-SNE keeps neighbours, is fixed by its seed, and refuses what it cannot do."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from gentok.measure import tsne


def test_clusters_stay_together_and_the_seed_fixes_the_map():
    labels = torch.arange(90) % 3
    features = 0.1 * torch.randn(90, 10, generator=torch.Generator().manual_seed(0))
    features[torch.arange(90), labels] += 1
    points = tsne(features, seed=3, perplexity=10)
    assert points.shape == (90, 2)
    neighbours = KNeighborsClassifier(5).fit(points, labels.numpy())
    assert neighbours.score(points, labels.numpy()) == 1
    np.testing.assert_array_equal(points, tsne(features.numpy(), seed=3, perplexity=10))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="perplexity must lie"):
        tsne(torch.zeros(10, 3), perplexity=10)
    with pytest.raises(ValueError, match=r"\(N, F\)"):
        tsne(torch.zeros(10))


@pytest.mark.parametrize("value", [0.0, 3.5, torch.nan])
def test_features_that_tell_nothing_apart_are_refused(value):
    """Inside scikit-learn they would end the process."""
    with pytest.raises(ValueError, match="finite and differ between items"):
        tsne(torch.full((40, 3), value), perplexity=5)
