"""TopK vSAE: its three modes against the published equations, and what the authors' sizes are."""

import dataclasses

import pytest
import torch

from gentok.interpret.vsae.model import (
    PRESETS,
    VSAE,
    TopKConfig,
    VSAEConfig,
    build,
    build_topk,
    example,
)
from gentok.measure import count_flops, count_parameters
from gentok.nn.sae import TopKSAE
from gentok.training.loop import fit

SMALL = VSAEConfig(dim=6, num_features=20, k=3, kl_warmup=10)


def make(**changes):
    torch.manual_seed(0)
    model = build(dataclasses.replace(SMALL, **changes))
    with torch.no_grad():  # a start at length 0.1 would hide mistakes of scale
        model.encoder.weight.normal_()
        model.encoder.bias.normal_()
        model.dictionary.normal_()
        model.bias.normal_()
    return model


PUBLISHED = [name for name in PRESETS if name.startswith(("pythia", "gelu"))]


@pytest.mark.parametrize("name", PRESETS)
def test_published_parameter_counts(name):
    config = PRESETS[name]
    with torch.device("meta"):
        model = build(config)
    d, f = config.dim, config.num_features
    assert count_parameters(model) == (2 * d * f + f + d) + (config.variance == "learned") * (
        d * f + f
    )
    if name in PUBLISHED:
        assert count_parameters(model) == config.published_params


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_topk_autoencoder_beside_it_has_no_fewer_parameters(name):
    """8,397,312 at Pythia's size: encoder, dictionary and two biases, as the vSAE without W_v."""
    config = PRESETS[name]
    with torch.device("meta"):
        topk = build_topk(TopKConfig(config.dim, config.num_features, config.k))
    assert count_parameters(topk) == (8_397_312 if config.num_features == 8192 else 2_099_712)
    assert (topk.aux_weight, topk.dead_after, topk.aux_k) == (1 / 32, 10_000_000, 256)
    assert (config.aux_weight, config.dead_after) == (0.0, 10_000_000)


def test_published_sizes_are_those_of_the_sheet():
    assert PRESETS["pythia-70m-k64"].published_params == 8_397_312
    assert PRESETS["pythia-70m-k512-learned"].published_params == 12_599_808
    fractions = [PRESETS[f"pythia-70m-k{k}"].k / 8192 for k in (64, 128, 256, 512)]
    assert fractions == [0.0078125, 0.015625, 0.03125, 0.0625]
    assert {PRESETS[f"gelu-1l-k{k}"].num_features for k in (64, 128, 256, 512)} == {2048}


def test_example_runs_on_the_meta_device():
    config = PRESETS["pythia-70m-k256"]
    with torch.device("meta"):
        model = build(config)
    # Encoder: one product of 512 x 8192. The lookup of the decoder is no matrix product.
    assert count_flops(model.loss, example(config)) == 2 * 512 * 8192


def test_starts_tied_at_length_a_tenth_with_zero_biases():
    model = build(SMALL)
    assert torch.equal(model.encoder.weight, model.dictionary)
    torch.testing.assert_close(model.dictionary.norm(dim=-1), torch.full((20,), 0.1))
    assert not model.encoder.bias.any() and not model.bias.any()
    learned = build(dataclasses.replace(SMALL, variance="learned"))
    assert (learned.log_variance.bias == -2).all()


@pytest.mark.parametrize("relu", [True, False])
def test_evaluation_equals_the_equations(relu):
    model = make(relu=relu, variance="unit").eval()
    x = torch.randn(7, 6)
    out, features = model(x), model.encode(x)
    for n in range(7):
        mu = [(w @ x[n] + b).item() for w, b in zip(*model.encoder.parameters(), strict=True)]
        mu = [max(0.0, m) for m in mu] if relu else mu
        kept = sorted(range(20), key=lambda i: -abs(mu[i]))[:3]
        by_hand = model.bias + sum(mu[i] * model.dictionary[i] for i in kept)
        torch.testing.assert_close(out[n], by_hand, rtol=1e-5, atol=1e-5)
        assert [features[n, i].item() for i in kept] == pytest.approx([mu[i] for i in kept])
    if not relu:
        assert (features < 0).any(), "a kept value must keep its sign"


def test_deterministic_mode_never_samples_and_the_others_do():
    x = torch.randn(5, 6)
    for variance, same in (("deterministic", True), ("unit", False), ("learned", False)):
        model = make(variance=variance).train()
        assert torch.equal(model(x), model(x)) == same, variance
        model.eval()
        assert torch.equal(model(x), model(x)), variance


@pytest.mark.parametrize("variance", ["unit", "learned"])
def test_samples_have_the_stated_moments(variance):
    model = make(variance=variance).train()
    mu, log_variance = model.posterior(torch.randn(1, 6).expand(20_000, 6))
    z = model.sample(mu, log_variance)
    sigma = torch.ones(20) if log_variance is None else (0.5 * log_variance[0]).exp()
    torch.testing.assert_close(z.mean(0), mu[0], rtol=0, atol=0.06)
    torch.testing.assert_close(z.std(0), sigma, rtol=0.05, atol=0)


@pytest.mark.parametrize("kl_on", ["all", "selected"])
@pytest.mark.parametrize("variance", ["deterministic", "unit", "learned"])
def test_kl_equals_torch_distributions(variance, kl_on):
    model = make(variance=variance, kl_on=kl_on)
    mu, log_variance = model.posterior(0.1 * torch.randn(4, 6))
    _, indices = model.select(mu)
    sigma = torch.ones_like(mu) if log_variance is None else (0.5 * log_variance).exp()
    each = torch.distributions.kl_divergence(
        torch.distributions.Normal(mu, sigma), torch.distributions.Normal(0.0, 1.0)
    )
    each = each.gather(1, indices) if kl_on == "selected" else each
    torch.testing.assert_close(model.kl(mu, log_variance, indices), each.sum(1).mean())


@pytest.mark.parametrize("variance", ["deterministic", "unit", "learned"])
def test_means_beyond_ten_cost_no_more(variance):
    """The released code clamps what it squares at 10, with a fixed variance, too."""
    model = make(variance=variance, relu=False)
    mu = torch.tensor([[3.0, -40.0, 25.0] + 17 * [0.0]])
    log_variance = torch.zeros_like(mu) if variance == "learned" else None
    cost = model.kl(mu, log_variance, torch.tensor([[0, 1, 2]]))
    assert float(cost) == 0.5 * (9 + 100 + 100)


def test_log_variance_is_clamped():
    model = make(variance="learned")
    with torch.no_grad():
        model.log_variance.weight.mul_(1e3)
    _, log_variance = model.posterior(torch.randn(50, 6))
    assert log_variance.min() == -6 and log_variance.max() == 2


def test_kl_weight_rises_linearly():
    model = make(kl_weight=4.0)
    assert [model.kl_factor(step) for step in (0, 5, 10, 99)] == [0, 2, 4, 4]
    x = {"x": torch.randn(8, 6)}
    loss, parts = model.loss(x, step=5)
    torch.testing.assert_close(loss, parts["mse"] + 2 * parts["kl"])


def test_deterministic_mode_is_topk_with_an_l2_penalty():
    """The sheet's claim C3 (A): exact, up to what the two treat differently besides."""
    model = make(kl_weight=0.7, kl_warmup=0)
    twin = TopKSAE(6, 20, 3, aux_weight=0, l2_weight=0.7)
    with torch.no_grad():
        # The TopK autoencoder wants entries of length 1 and subtracts its bias from the input.
        model.dictionary /= model.dictionary.norm(dim=-1, keepdim=True)
        twin.dictionary.copy_(model.dictionary)
        twin.bias.copy_(model.bias)
        twin.encoder.weight.copy_(model.encoder.weight)
        twin.encoder.bias.copy_(model.encoder.bias + model.encoder.weight @ model.bias)
    x = {"x": torch.randn(30, 6)}
    loss, other = model.loss(x)[0], twin.loss(x)[0]
    torch.testing.assert_close(loss, other, rtol=1e-5, atol=1e-5)
    loss.backward()
    other.backward()
    torch.testing.assert_close(
        model.encoder.weight.grad + 0,
        twin.encoder.weight.grad - _bias_part(twin),
        rtol=1e-4,
        atol=1e-4,
    )
    grad, unit = model.dictionary.grad, model.dictionary.detach()
    tangent = grad - (grad * unit).sum(-1, keepdim=True) * unit
    torch.testing.assert_close(tangent, twin.dictionary.grad, rtol=1e-4, atol=1e-4)


def _bias_part(twin):
    """What subtracting the bias from the input adds to the encoder's gradient."""
    return -twin.encoder.bias.grad[:, None] * twin.bias[None, :]


def test_negative_firing_counts_as_alive():
    model = make(relu=False, dead_after=1).train()
    x = torch.randn(40, 6)
    model.loss({"x": x})
    fired = (model.encode(x) != 0).any(0)
    only_negative = fired & (model.encode(x).amax(0) <= 0)
    assert torch.equal(~model.dead, fired)
    assert only_negative.any(), "the example must hold a unit that only fires negatively"


def test_aux_loss_goes_by_magnitude():
    model = make(relu=False, aux_weight=1.0, dead_after=1, kl_weight=0.0)
    model.idle[:] = 0
    model.idle[[2, 5, 6, 11]] = 1
    model.aux_k = 1
    x = torch.randn(9, 6)
    mu, _ = model.posterior(x)
    residual = torch.randn(9, 6)
    guess = torch.zeros(9, 6)
    for n in range(9):
        best = max([2, 5, 6, 11], key=lambda i: abs(mu[n, i].item()))
        guess[n] = mu[n, best].detach() * model.dictionary[best].detach()
    expected = (residual - guess).square().sum(1).mean() / residual.var(0, correction=0).sum()
    torch.testing.assert_close(model.aux_loss(residual, mu, mu.abs()), expected)
    _, parts = model.loss({"x": x})
    assert "aux" in parts


@pytest.mark.parametrize("variance", ["deterministic", "unit", "learned"])
def test_every_parameter_gets_a_gradient(variance):
    model = make(variance=variance, kl_warmup=0)
    model.loss({"x": torch.randn(64, 6)})[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_learns_a_dictionary_of_one_sparse_data():
    directions = torch.eye(6)
    x = directions[torch.randint(6, (256,), generator=torch.Generator().manual_seed(0))]
    torch.manual_seed(0)
    model = build(VSAEConfig(dim=6, num_features=24, k=2, kl_weight=1e-4, kl_warmup=0))
    result = fit(model, lambda step: {"x": x}, steps=300, lr=1e-2, progress=False, clip=1.0)
    assert (result.model(x) - x).square().sum(1).mean() < 0.01


def test_kl_pressure_makes_features_die():
    """The paper's main finding, on the smallest data that shows it."""
    from gentok.interpret.vsae.superposition import Superposition

    toy, alive = Superposition(num_directions=64, dim=16, mean_active=3), {}
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        model = build(VSAEConfig(dim=16, num_features=128, k=4, kl_weight=weight, kl_warmup=30))
        fit(model, toy.batches(128, seed=0), steps=300, lr=3e-3, progress=False, clip=1.0)
        alive[weight] = toy.measure(model, 2048)["alive"]
    assert alive[1.0] < alive[0.0] - 0.1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"variance": "none"}, "variance must be one of"),
        ({"kl_on": "none"}, "kl_on must be one of"),
        ({"kl_weight": -1.0}, "kl_weight"),
        ({"kl_warmup": -1}, "kl_warmup"),
        ({"k": 99}, "k must be between 1 and num_features=20, got 99"),
    ],
)
def test_bad_settings(change, word):
    with pytest.raises(ValueError, match=word):
        VSAE(dataclasses.replace(SMALL, **change))


def test_bad_width():
    with pytest.raises(ValueError, match=r"expected activations"):
        make()(torch.randn(3, 5))
