"""Linear probes: against scikit-learn's own numbers, and the rule that validation picks."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gentok.signals.mert.probing import LinearProbe, probe_layers


def items(n: int, seed: int, noise: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (n,), generator=rng)
    centres = torch.eye(3, 5) * torch.tensor([1.0, 100.0, 0.01, 1.0, 1.0])
    scale = noise * torch.tensor([0.5, 50.0, 0.005, 1.0, 1.0])
    return centres[label] + scale * torch.randn(n, 5, generator=rng), label


def test_probe_is_a_standardised_logistic_regression():
    (x, label), (y, truth) = items(200, 0), items(200, 1)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    expected = model.fit(x.double().numpy(), label.numpy()).score(y.double().numpy(), truth.numpy())
    assert LinearProbe(x, label).accuracy(y, truth) == pytest.approx(expected, abs=0.011)


def test_validation_picks_the_layer_and_test_is_reported():
    label = torch.arange(90) % 3
    useful, useless = torch.eye(3)[label], torch.zeros(90, 3)
    train = torch.stack([useful, useful, useless], 1)
    valid = torch.stack([useless, useful, useless], 1)
    test = torch.stack([useful, useful.roll(1, 0), useless], 1)  # the picked layer misleads
    found = probe_layers((train, label), (valid, label), (test, label))
    assert found.best == 1
    assert found.layers[0] == 1.0 and found.accuracy == found.layers[1] < 0.5
    assert found.probe.accuracy(useful, label) == 1.0


def test_bad_input_is_refused():
    x, label = items(20, 0)
    with pytest.raises(ValueError, match="need features"):
        LinearProbe(x, label.float())
    with pytest.raises(ValueError, match="two classes"):
        LinearProbe(x, torch.zeros_like(label))
