"""The Gumbel-softmax quantizer: its distribution, gradients, schedules and divergence."""

import math

import pytest
import torch
import torch.nn.functional as F

from gentok.nn.gumbel_quantize import (
    GumbelQuantizer,
    cosine_temperature,
    exponential_temperature,
    kl_to_uniform,
)

K, D = 6, 3


def test_hard_choices_follow_the_softmax():
    torch.manual_seed(0)
    quantizer = GumbelQuantizer(K, K, straight_through=True)
    quantizer.codebook.data.copy_(torch.eye(K))
    logits = torch.randn(K)
    for temperature in (1.0, 0.3):  # the choice does not depend on it
        chosen = quantizer(logits.expand(40_000, K), temperature)[0].mean(0)
        torch.testing.assert_close(chosen, logits.softmax(-1), atol=0.01, rtol=0)


def test_soft_choices_have_the_moments_of_torch():
    torch.manual_seed(0)
    quantizer = GumbelQuantizer(K, K)
    quantizer.codebook.data.copy_(torch.eye(K))
    logits = torch.randn(K).expand(40_000, K)
    for temperature in (1.0, 0.5):
        ours = quantizer(logits, temperature)[0]
        theirs = F.gumbel_softmax(logits, temperature)
        torch.testing.assert_close(ours.sum(-1), torch.ones(40_000))
        torch.testing.assert_close(ours.mean(0), theirs.mean(0), atol=0.01, rtol=0)
        torch.testing.assert_close(ours.var(0), theirs.var(0), atol=0.01, rtol=0)


def test_low_temperature_hardens_the_mixture():
    torch.manual_seed(0)
    quantizer = GumbelQuantizer(K, K)
    quantizer.codebook.data.copy_(torch.eye(K))
    logits = torch.randn(500, K)
    largest = [quantizer(logits, tau)[0].amax(-1).mean() for tau in (2.0, 0.5, 0.05)]
    assert largest[0] < largest[1] < largest[2] and largest[2] > 0.97


def test_straight_through_has_the_value_of_one_code_and_the_gradient_of_the_mixture():
    logits, weight = torch.randn(20, K), torch.randn(20, D)
    results = {}
    for hard in (False, True):
        quantizer = GumbelQuantizer(K, D, straight_through=hard)
        quantizer.codebook.data.copy_(torch.randn(K, D, generator=torch.Generator().manual_seed(1)))
        leaf = logits.clone().requires_grad_()
        torch.manual_seed(0)
        z_q = quantizer(leaf, 0.7)[0]
        (z_q * weight).sum().backward()
        results[hard] = z_q.detach(), leaf.grad, quantizer.codebook.detach()
    torch.testing.assert_close(results[True][1], results[False][1])
    distance = torch.cdist(results[True][0], results[True][2]).amin(-1)
    assert distance.max() < 1e-5, "not a row of the codebook"
    assert not torch.allclose(results[True][0], results[False][0], atol=1e-2)


def test_every_code_gets_gradient_from_the_mixture():
    quantizer = GumbelQuantizer(K, D)
    quantizer(torch.randn(50, K))[0].sum().backward()
    assert (quantizer.codebook.grad.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("hard", [False, True])
def test_evaluation_is_the_likeliest_code_and_changes_nothing(hard):
    quantizer = GumbelQuantizer(K, D, straight_through=hard).eval()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    logits = torch.randn(2, 4, K)
    z_q, codes, _ = quantizer(logits, 5.0)
    assert torch.equal(codes, logits.argmax(-1)) and codes.dtype == torch.int64
    assert torch.equal(z_q, quantizer.codebook[codes])
    assert torch.equal(z_q, quantizer(logits)[0]) and torch.equal(z_q, quantizer.lookup(codes))
    quantizer.train()(logits)
    assert all(torch.equal(before[name], value) for name, value in quantizer.state_dict().items())


def test_divergence_from_uniform_equals_torch():
    logits = 3 * torch.randn(2, 5, K)
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=logits),
        torch.distributions.Categorical(logits=torch.zeros(K)),
    )
    torch.testing.assert_close(kl_to_uniform(logits), theirs, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(GumbelQuantizer(K, D)(logits)[2], theirs, atol=1e-6, rtol=1e-5)
    assert kl_to_uniform(torch.zeros(K)).item() == pytest.approx(0, abs=1e-6)
    certain = kl_to_uniform(F.one_hot(torch.tensor(2), K) * 1e4).item()
    assert certain == pytest.approx(math.log(K), abs=1e-5)


def test_autocast_does_not_round_the_mixture():
    torch.manual_seed(0)
    quantizer, logits = GumbelQuantizer(64, 8), torch.randn(30, 64)
    torch.manual_seed(1)
    expected = quantizer(logits, 0.5)[0]
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z_q, codes, kl = quantizer(logits, 0.5)
    assert torch.equal(z_q, expected) and kl.dtype == torch.float32
    assert quantizer(logits.bfloat16())[0].dtype == torch.float32


def test_temperatures_fall_to_their_ends():
    assert cosine_temperature(0, 100) == 1.0 and cosine_temperature(500, 100) == 1 / 16
    assert cosine_temperature(50, 100) == pytest.approx((1 + 1 / 16) / 2)
    falling = [cosine_temperature(i, 100) for i in range(101)]
    assert falling == sorted(falling, reverse=True)
    assert exponential_temperature(0, 0.01) == 1.0
    assert exponential_temperature(30, 0.01) == pytest.approx(math.exp(-0.3))
    assert exponential_temperature(10_000, 0.01) == 0.5


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: GumbelQuantizer(K, D)(torch.zeros(2, K + 1)), "logits"),
        (lambda: GumbelQuantizer(K, D)(torch.zeros(2, K), 0.0), "temperature"),
        (lambda: GumbelQuantizer(K, D)(torch.zeros(2, K), float("nan")), "temperature"),
        (lambda: GumbelQuantizer(K, D)(torch.zeros(0, K)), "at least one"),
        (lambda: GumbelQuantizer(K, D)(torch.zeros(2, K).long()), "floating"),
        (lambda: GumbelQuantizer(K, D).lookup(torch.tensor([K])), r"\[0, 6\)"),
        (lambda: cosine_temperature(0, 0), "num_steps"),
    ],
)
def test_bad_input_is_refused(call, word):
    with pytest.raises(ValueError, match=word):
        call()
