"""Probes, SCR and TPP on data in which the right answer is known by construction."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from gentok.measure import scr, sparse_probe, tpp
from gentok.measure.probes import fit_probe


def rng(seed):
    return torch.Generator().manual_seed(seed)


def rotation(width, seed=0):
    return torch.linalg.qr(torch.randn(width, width, generator=rng(seed), dtype=torch.float64))[0]


def test_probe_equals_scikit_learn_on_balanced_standardised_data():
    x = torch.randn(200, 3, generator=rng(0), dtype=torch.float64)
    positive = torch.arange(200) % 2 == 0
    x = x + positive[:, None] * torch.tensor([1.0, 0.3, 0.0])
    x = (x - x.mean(0)) / x.std(0, correction=0)
    probe = fit_probe(x, positive, positive.long())
    peer = LogisticRegression(max_iter=1000).fit(x.numpy(), positive.numpy())
    np.testing.assert_allclose(probe.weight, peer.coef_[0], rtol=1e-4, atol=1e-5)
    assert probe.bias == pytest.approx(peer.intercept_[0], abs=1e-4)
    assert probe.accuracy(x, positive, positive.long()) == peer.score(x.numpy(), positive.numpy())


def test_probe_does_not_depend_on_units_or_on_how_often_a_group_occurs():
    x = torch.randn(300, 2, generator=rng(0), dtype=torch.float64)
    positive = x[:, 0] + 0.5 * torch.randn(300, generator=rng(1), dtype=torch.float64) > 1
    probe = fit_probe(x, positive, positive.long())
    scaled = fit_probe(x * torch.tensor([1e-3, 1e3]) + 5, positive, positive.long())
    test = torch.randn(50, 2, generator=rng(2), dtype=torch.float64)
    torch.testing.assert_close(
        test @ probe.weight + probe.bias,
        (test * torch.tensor([1e-3, 1e3]) + 5) @ scaled.weight + scaled.bias,
        rtol=1e-3,
        atol=1e-3,
    )
    always_no = probe._replace(weight=torch.zeros(2, dtype=torch.float64), bias=-1.0)
    assert positive.double().mean() < 0.3
    assert always_no.accuracy(x, positive, positive.long()) == 0.5, "not balanced over groups"


def features_of_classes(n, classes, seed, width=20):
    """Feature c is on in 90 % of the items of class c and 10 % of others; the rest is noise."""
    labels = torch.arange(n) % classes
    features = torch.rand(n, width, generator=rng(seed))
    fires = torch.rand(n, classes, generator=rng(seed + 100))
    own = torch.nn.functional.one_hot(labels, classes).bool()
    features[:, :classes] = torch.where(own, fires < 0.9, fires < 0.1).float()
    return features, labels


@pytest.mark.parametrize("classes", [2, 4])
def test_one_feature_knows_ninety_percent(classes):
    train, test = features_of_classes(4000, classes, 0), features_of_classes(4000, classes, 1)
    scores = sparse_probe(*train, *test, ks=(1, 2, 20))
    assert scores[1] == pytest.approx(0.9, abs=0.015)
    assert scores[20] >= scores[1] - 0.01


def test_ranking_takes_the_size_of_the_difference_whatever_its_sign():
    train, labels = features_of_classes(2000, 3, 0)
    train = train[:, [5, 6, 0]]
    flipped = train * torch.tensor([1.0, 1.0, -1.0])
    assert sparse_probe(train, labels, train, labels, ks=(1,)) == sparse_probe(
        flipped, labels, flipped, labels, ks=(1,)
    )


def two_concepts(n, seed, strength=(1.0, 1.5)):
    """Activations in which direction 0 carries the target and direction 1 a spurious label."""
    target, spurious = torch.arange(n) % 2, torch.arange(n) // 2 % 2
    latent = torch.randn(n, 6, generator=rng(seed), dtype=torch.float64)
    latent[:, 0] += strength[0] * (2 * target - 1)
    latent[:, 1] += strength[1] * (2 * spurious - 1)
    return latent @ rotation(6), target, spurious


def encode(x):
    """The true dictionary: a positive and a negative feature for each direction."""
    latent = x @ rotation(6).T
    return torch.cat([latent.relu(), (-latent).relu()], dim=1)


def decode(f):
    return (f[:, :6] - f[:, 6:]) @ rotation(6)


def test_cutting_out_the_spurious_direction_removes_the_bias():
    train, test = two_concepts(8000, 0), two_concepts(8000, 1)
    found = scr(encode, decode, train, test, ns=(2, 4))
    two = found[2]
    # Both labels are read from direction 0 and 1; the clean probe reads 0 alone: P(z < 1).
    assert two["clean"] == pytest.approx(0.5 * (1 + math.erf(1 / math.sqrt(2))), abs=0.01)
    assert two["original"] < 0.7
    assert two["score"] == pytest.approx(1, abs=0.05)
    # The next two features are noise or the target's own: no gain beyond the two that matter.
    assert found[4]["score"] <= two["score"] + 0.02


def test_cutting_out_nothing_or_everything():
    train, test = two_concepts(400, 0), two_concepts(400, 1)
    found = scr(encode, decode, train, test, ns=(0, 12))
    assert found[0]["score"] == 0 and found[0]["changed"] == found[0]["original"]
    # Without any feature the probe gives one answer for all items: chance.
    assert found[12]["changed"] == 0.5


def test_a_dictionary_that_mixes_the_concepts_cannot_separate_them():
    train, test = two_concepts(8000, 0), two_concepts(8000, 1)
    quarter = torch.eye(6, dtype=torch.float64)
    quarter[:2, :2] = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]) / math.sqrt(2)
    mixed = scr(
        lambda x: encode(x @ rotation(6).T @ quarter @ rotation(6)),
        lambda f: decode(f) @ rotation(6).T @ quarter.T @ rotation(6),
        train,
        test,
        ns=(2,),
    )
    assert mixed[2]["score"] < 0.6


def test_what_the_dictionary_misses_stays():
    train, test = two_concepts(400, 0), two_concepts(400, 1)

    def nothing(x):
        return torch.zeros(len(x), 12, dtype=x.dtype)

    assert scr(nothing, decode, train, test, ns=(5,))[5]["score"] == 0


def test_scr_without_a_gap_is_nan():
    train, test = two_concepts(400, 0, (5.0, 0.0)), two_concepts(400, 1, (5.0, 0.0))
    assert math.isnan(scr(encode, decode, train, test, ns=(2,))[2]["score"])


def classes_in_activations(n, seed):
    """Class c < 4 is a step of 1 along direction c; class 4 is none of these."""
    labels = torch.arange(n) % 5
    latent = 0.1 * torch.randn(n, 6, generator=rng(seed), dtype=torch.float64)
    latent[torch.arange(n), labels] += (labels < 4).double()
    return latent @ rotation(6), labels


def test_a_clean_dictionary_perturbs_one_class_alone():
    train, test = classes_in_activations(800, 0), classes_in_activations(800, 1)
    found = tpp(encode, decode, train, test, ns=(1,))[1]
    # Without its feature a class is never recognised: its probe's accuracy falls from 1 to 1/2, for
    # four classes of five. Its items now look like class 4, whose probe errs on 1/4 of the others.
    assert found["intended"] == pytest.approx(4 / 5 * 1 / 2, abs=0.01)
    assert found["unintended"] == pytest.approx(4 / 5 * (1 / 4 * 1 / 2) / 4, abs=0.005)
    assert found["total"] == pytest.approx(found["intended"] - found["unintended"])


def test_a_feature_shared_by_two_classes_perturbs_both():
    train, test = classes_in_activations(800, 0), classes_in_activations(800, 1)
    both = rotation(6)[:2].sum(0, keepdim=True)  # all that this dictionary knows, on for 0 and 1
    found = tpp(lambda x: x @ both.T, lambda f: f @ both, train, test, ns=(0, 1))
    assert found[0] == {"total": 0, "intended": 0, "unintended": 0}
    # Cut for class 0 or 1 it blinds both probes, and class 4 takes their items for its own: it errs
    # on 2/4 of the others. For the other classes the feature says nothing, and stays.
    assert found[1]["intended"] == pytest.approx(2 / 5 * 1 / 2, abs=0.01)
    assert found[1]["unintended"] == pytest.approx(2 / 5 * (1 / 2 + 2 / 4 * 1 / 2) / 4, abs=0.005)


def test_bad_input_is_refused():
    x, target, spurious = two_concepts(40, 0)
    with pytest.raises(ValueError, match="all four combinations"):
        scr(encode, decode, (x, target, target), (x, target, spurious))
    with pytest.raises(ValueError, match="integer labels"):
        tpp(encode, decode, (x, target.float()), (x, target))
    with pytest.raises(ValueError, match="same classes"):
        tpp(encode, decode, (x, target), (x, target + 1))
    with pytest.raises(ValueError, match="ks must lie in 1..6"):
        sparse_probe(x, target, x, target, ks=(1, 7))
