"""TopK sparse autoencoder: equal to its published equations, written out sample by sample."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.nn.sae import TopKSAE, geometric_median, unit_rows, without_parallel_gradient
from gentok.training.loop import fit

D, F, K = 6, 20, 3


@pytest.fixture
def sae():
    torch.manual_seed(0)
    model = TopKSAE(D, F, K, aux_k=4, dead_after=5)
    with torch.no_grad():
        model.bias.normal_()
        model.encoder.weight.normal_()
        model.encoder.bias.normal_()
    return model


def kept_by_hand(sae, x):
    """{feature: value} of one sample, from the equations and a full sort."""
    w, b_e, b = sae.encoder.weight, sae.encoder.bias, sae.bias
    a = [max(0.0, (w[i] @ (x - b) + b_e[i]).item()) for i in range(F)]
    return {i: a[i] for i in sorted(range(F), key=lambda i: -a[i])[:K]}


def test_forward_equals_the_equations(sae):
    x = torch.randn(7, D)
    features, out = sae.encode(x), sae(x)
    for n in range(7):
        kept = kept_by_hand(sae, x[n])
        by_hand = sae.bias + sum(value * sae.dictionary[i] for i, value in kept.items())
        torch.testing.assert_close(out[n], by_hand, rtol=1e-5, atol=1e-6)
        assert {i for i, v in enumerate(features[n].tolist()) if v} == {
            i for i, v in kept.items() if v
        }
    torch.testing.assert_close(sae.decode(features), out, rtol=1e-5, atol=1e-6)


def test_any_leading_axes(sae):
    x = torch.randn(2, 3, D)
    torch.testing.assert_close(sae(x).flatten(0, 1), sae(x.flatten(0, 1)))


def test_sparse_and_dense_decoders_have_equal_gradients(sae):
    x = torch.randn(9, D)
    a = sae.activations(x)
    values, indices = a.topk(K)
    sparse = sae.combine(values, indices).square().sum()
    dense = (
        (sae.scatter(values, indices) @ without_parallel_gradient(sae.dictionary)).square().sum()
    )
    parameters = [sae.dictionary, sae.encoder.weight, sae.bias]
    for one, two in zip(
        torch.autograd.grad(sparse, parameters, retain_graph=True),
        torch.autograd.grad(dense, parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_autocast_takes_the_dense_way_and_agrees(sae):
    values, indices = sae.encode_sparse(torch.randn(9, D))
    with torch.autocast("cpu", torch.bfloat16):
        dense = sae.combine(values, indices)
        sae.loss({"x": torch.randn(9, D)})[0].backward()
    assert dense.dtype == torch.bfloat16
    torch.testing.assert_close(dense.float(), sae.combine(values, indices), rtol=0.02, atol=0.05)
    assert sae.dictionary.grad.isfinite().all()


def test_gradient_has_no_component_along_an_entry(sae):
    sae.loss({"x": torch.randn(50, D)})[0].backward()
    grad = sae.dictionary.grad
    assert grad.norm() > 0.1
    assert (grad * sae.dictionary).sum(-1).abs().max() < 1e-5


def test_entries_stay_at_length_one_through_training():
    torch.manual_seed(0)
    x = torch.randn(64, D)
    result = fit(
        TopKSAE(D, F, K),
        lambda step: {"x": x},
        steps=20,
        lr=0.05,
        ema=0.9,
        progress=False,
        clip=1.0,
    )
    for model in (result.model, result.ema):
        lengths = model.dictionary.norm(dim=-1)
        torch.testing.assert_close(lengths, torch.ones(F), rtol=0, atol=1e-5)
    assert result.history[-1]["mse"] < 0.6 * result.history[0]["mse"]


def test_starts_tied_with_unit_entries_and_zero_encoder_bias():
    model = TopKSAE(D, F, K)
    assert torch.equal(model.encoder.weight, model.dictionary)
    torch.testing.assert_close(model.dictionary.norm(dim=-1), torch.ones(F))
    assert not model.encoder.bias.any() and not model.bias.any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(3, 30))
def test_geometric_median_has_the_least_distance_sum(seed, count):
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)).double()
    median = geometric_median(points, max_iterations=2000, tolerance=1e-10)

    def total(p):
        return (points - p).norm(dim=1).sum()

    for direction in torch.cat([torch.eye(3), -torch.eye(3)]).double():
        assert total(median) <= total(median + 0.01 * direction) + 1e-6


def test_geometric_median_resists_an_outlier():
    points = torch.randn(101, 2, generator=torch.Generator().manual_seed(0))
    points[0] = 1e4
    assert geometric_median(points).norm() < 1
    assert points.mean(0).norm() > 50
    model = TopKSAE(2, F, K)
    model.start_at(points)
    assert torch.equal(model.bias, geometric_median(points))


def test_geometric_median_leaves_a_point_that_is_none():
    """The mean of these is the point 0, from where Weiszfeld's own rule never moves."""
    points = torch.tensor([-3.0, 0, 1, 1, 1])[:, None]
    assert geometric_median(points).tolist() == [pytest.approx(1, abs=1e-4)]
    assert geometric_median(torch.full((4, 2), 7.0)).tolist() == [7, 7]
    cross = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert geometric_median(torch.cat([cross, torch.zeros(1, 2)])).tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["one row", "nothing left"])
def test_aux_loss_where_nothing_varies_is_zero_with_zero_gradients(sae, kind):
    sae.idle[:6] = 5
    torch.manual_seed(1)
    residual = torch.randn(1, D) if kind == "one row" else torch.zeros(5, D)
    a = torch.rand(len(residual), F, requires_grad=True)
    loss = sae.aux_loss(residual, a, a)
    loss.backward()
    assert loss == 0 and torch.equal(a.grad, torch.zeros_like(a))
    assert all(p.grad is None or p.grad.isfinite().all() for p in sae.parameters())


def test_aux_loss_equals_the_equation(sae):
    x = torch.randn(11, D)
    sae.idle[[1, 4, 7, 9, 12, 15]] = 5  # dead: six features, of which aux_k = 4 are revived
    a = sae.activations(x)
    values, indices = a.topk(K)
    residual = x - sae.combine(values, indices) - sae.bias
    errors = []
    for n in range(11):
        dead = sorted([1, 4, 7, 9, 12, 15], key=lambda i: -a[n, i].item())[:4]
        guess = sum(a[n, i] * sae.dictionary[i] for i in dead)  # no bias
        errors.append((residual[n] - guess).square().sum().item())
    variance = residual.var(0, correction=0).sum()
    expected = sum(errors) / 11 / variance.item()
    assert sae.aux_loss(residual, a, a).item() == pytest.approx(expected, rel=1e-4)


def test_aux_loss_teaches_dead_features_only(sae):
    sae.idle[:] = 0
    sae.idle[[2, 3]] = 5
    x = torch.randn(30, D)
    a = sae.activations(x)
    residual = (x - sae.bias).detach().requires_grad_()
    sae.aux_loss(residual, a, a).backward()
    taught = sae.encoder.weight.grad.norm(dim=-1).nonzero()[:, 0].tolist()
    assert taught == [2, 3]
    assert residual.grad is None, "the residual must be a constant"


def test_aux_loss_is_zero_while_nothing_is_dead(sae):
    loss, parts = sae.loss({"x": torch.randn(4, D)})
    assert parts["aux"] == 0 and loss == parts["mse"]


def test_features_are_dead_after_the_stated_number_of_samples(sae):
    x = torch.randn(1, D).expand(2, D)
    fired = set(kept_by_hand(sae, x[0]))
    for _ in range(3):  # 6 samples, dead_after = 5
        sae.loss({"x": x})
    assert set((~sae.dead).nonzero()[:, 0].tolist()) == fired
    before = sae.idle.clone()
    sae.eval()
    sae.loss({"x": x})
    assert torch.equal(sae.idle, before), "evaluation must not count"


def test_threshold_keeps_what_topk_keeps_on_the_batch_it_was_set_by(sae):
    x = torch.randn(1, D)
    sae.loss({"x": x})
    smallest = min(value for value in kept_by_hand(sae, x[0]).values() if value > 0)
    assert float(sae.threshold) == pytest.approx(smallest, rel=1e-5)
    sae.threshold.mul_(0.999)
    torch.testing.assert_close(sae.encode(x, use_threshold=True), sae.encode(x))


def test_scaled_biases_give_the_same_autoencoder_in_other_units(sae):
    x = torch.randn(8, D)
    scaled = copy.deepcopy(sae)
    scaled.scale_biases(7.0)
    torch.testing.assert_close(scaled(7 * x), 7 * sae(x), rtol=1e-4, atol=1e-4)


def test_l2_weight_penalises_all_activations(sae):
    x = torch.randn(8, D)
    sae.aux_weight, sae.l2_weight = 0.0, 0.3
    loss, parts = sae.loss({"x": x})
    l2 = 0.5 * sum(v**2 for v in sae.activations(x).flatten().tolist()) / 8
    assert (loss - parts["mse"]).item() == pytest.approx(0.3 * l2, rel=1e-4)


@pytest.mark.parametrize(
    ("sizes", "word"), [((4, 8, 9), "k must"), ((4, 8, 0), "k must"), ((0, 8, 2), "dim")]
)
def test_bad_sizes(sizes, word):
    with pytest.raises(ValueError, match=word):
        TopKSAE(*sizes)


def test_bad_width(sae):
    with pytest.raises(ValueError, match=r"expected activations \(\.\.\., 6\)"):
        sae(torch.randn(3, D + 1))


def test_a_row_of_zeros_has_no_direction_and_no_nan():
    rows = unit_rows(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    torch.testing.assert_close(rows, torch.tensor([[0.0, 0.0], [0.6, 0.8]]))
