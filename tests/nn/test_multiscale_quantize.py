"""Multi-scale residual quantization: the algorithm spelled out, and its identity."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.nn.multiscale_quantize import MultiscaleQuantizer

SEQUENCE = (1, 4, 9, 16)
GRID = ((1, 1), (2, 2), (3, 3), (4, 4))
K, D = 12, 3


def quantizer(scales, seed=0):
    torch.manual_seed(seed)
    module = MultiscaleQuantizer(K, D, scales)
    module.codebook.data.normal_()
    return module


def spelled_out(module, z, scales):
    """VAR's algorithm 1 with torch's own resampling, a latent and a scale at a time."""
    total, residual, codes, loss = torch.zeros_like(z), z.clone(), [], 0.0
    for scale in scales:
        size = (scale,) if isinstance(scale, int) else scale
        full = (scales[-1],) if isinstance(scale, int) else scales[-1]
        image = residual.transpose(1, 2).reshape(len(z), D, *full)
        down = F.interpolate(image, size=size, mode="area").flatten(2).transpose(1, 2)
        chosen = torch.cdist(down.reshape(-1, D), module.codebook).argmin(-1).view(len(z), -1)
        vectors = module.codebook[chosen].transpose(1, 2).reshape(len(z), D, *size)
        if size != full:
            mode = "linear" if len(size) == 1 else "bicubic"
            vectors = F.interpolate(vectors, size=full, mode=mode)
        step = vectors.flatten(2).transpose(1, 2)
        total, residual = total + step, residual - step
        codes.append(chosen)
        loss = loss + 1.25 * (total - z).square().mean()
    return total, residual, codes, loss / len(scales)


@pytest.mark.parametrize("scales", [SEQUENCE, GRID, ((1, 2), (2, 3), (4, 5)), (7,)])
def test_it_is_the_published_algorithm(scales):
    module = quantizer(scales)
    z = torch.randn(5, module.lengths[-1], D)
    z_q, codes, loss = module(z)
    total, _, their_codes, their_loss = spelled_out(module, z, scales)
    assert all(torch.equal(a, b) for a, b in zip(codes, their_codes, strict=True))
    assert [c.shape for c in codes] == [(5, n) for n in module.lengths]
    assert all(c.dtype == torch.int64 for c in codes)
    torch.testing.assert_close(z_q, total, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss, their_loss)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([SEQUENCE, GRID]))
def test_latents_are_the_sum_of_the_scales_and_the_residual(seed, scales):
    module = quantizer(scales, seed).double()
    z = torch.randn(2, 16, D, dtype=torch.float64)
    residual, total = z, torch.zeros_like(z)
    codes = module.encode(z)
    for s in range(1, len(codes) + 1):
        step = module.lookup(codes[:s]) - (module.lookup(codes[: s - 1]) if s > 1 else 0)
        # Each scale quantizes the average of what the coarser ones left.
        pooled = module._down(residual, module.scales[s - 1])
        nearest = torch.cdist(pooled.flatten(0, 1), module.codebook).argmin(-1)
        assert torch.equal(nearest, codes[s - 1].flatten())
        residual, total = residual - step, total + step
        torch.testing.assert_close(z, total + residual)
    torch.testing.assert_close(module(z)[0], total)


def test_gradients_reach_latents_straight_and_codes_through_the_loss():
    module, weight = quantizer(SEQUENCE), torch.randn(2, 16, D)
    z = torch.randn(2, 16, D, requires_grad=True)
    (module(z)[0] * weight).sum().backward()
    torch.testing.assert_close(z.grad, weight)
    assert module.codebook.grad is None or module.codebook.grad.abs().max() == 0
    z_q, codes, loss = module(z)
    loss.backward()
    used = torch.cat([c.flatten() for c in codes]).unique()
    assert (module.codebook.grad[used].abs().sum(-1) > 0).all()


def test_loss_pulls_both_ways_with_the_stated_weights():
    """One scale: codebook term + 0.25 commitment, each with its own gradient."""
    module = quantizer((4,))
    z = torch.randn(3, 4, D, requires_grad=True)
    _, (codes,), loss = module(z)
    loss.backward()
    gap = z.detach() - module.codebook.detach()[codes]
    torch.testing.assert_close(z.grad, 0.25 * 2 * gap / gap.numel())
    expected = torch.zeros(K, D).index_add(0, codes.flatten(), -2 * gap.flatten(0, 1) / gap.numel())
    torch.testing.assert_close(module.codebook.grad, expected)


@pytest.mark.parametrize("scales", [SEQUENCE, GRID])
def test_generator_inputs_are_the_same_in_training_and_sampling(scales):
    module = quantizer(scales)
    codes = module.encode(torch.randn(2, 16, D))
    taught = module.next_inputs(codes)
    assert [x.shape[1] for x in taught] == [4, 9, 16]  # none follows the last scale
    for s in range(1, 4):
        sampled = module.next_inputs(codes[:s])[-1]
        torch.testing.assert_close(sampled, taught[s - 1])
    torch.testing.assert_close(taught[-1], module.lookup(codes[:3]))  # at full length


def test_more_scales_describe_better_after_seeding():
    torch.manual_seed(0)
    z = torch.randn(64, 16, D).cumsum(1) / 4
    module = MultiscaleQuantizer(64, D, SEQUENCE)
    module.codebook.data.normal_(0, 1e-3)
    module.seed(z)
    module.seed(z)  # the second time the residuals are those of real codes
    codes = module.encode(z)
    errors = [(z - module.lookup(codes[:s])).square().mean().item() for s in range(1, 5)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.5 * errors[0]
    assert torch.cat([c.flatten() for c in codes]).unique().numel() > 32


def test_seeding_moves_the_named_codes_alone():
    module, rows = quantizer(SEQUENCE), torch.zeros(K, dtype=torch.bool)
    rows[[2, 7]] = True
    before = module.codebook.detach().clone()
    module.seed(torch.randn(3, 16, D), rows)
    assert torch.equal(module.codebook[~rows], before[~rows])
    assert (module.codebook[rows] != before[rows]).all()


def test_a_pass_in_training_changes_nothing():
    module = quantizer(GRID)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    z = torch.randn(2, 16, D)
    module.train()(z)
    module.encode(z)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(module(z)[1], module.eval()(z)[1], strict=True))


def test_codes_do_not_depend_on_autocast():
    module = MultiscaleQuantizer(3, 1, (2,))
    module.codebook.data.copy_(torch.tensor([[100.0], [100.25], [100.5]]))
    z = torch.tensor([[[100.24], [100.6]]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z_q, codes, loss = module(z)
    assert codes[0].tolist() == [[1, 2]] and z_q.dtype == loss.dtype == torch.float32


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: MultiscaleQuantizer(K, D, ()), "scales"),
        (lambda: MultiscaleQuantizer(K, D, (1, (2, 2))), "axes"),
        (lambda: MultiscaleQuantizer(K, D, (4, 4)), "grow"),
        (lambda: MultiscaleQuantizer(K, D, (0, 4)), "at least 1"),
        (lambda: quantizer(SEQUENCE)(torch.zeros(2, 15, D)), "16"),
        (lambda: quantizer(SEQUENCE)(torch.zeros(0, 16, D)), "at least one"),
        (lambda: quantizer(SEQUENCE)(torch.zeros(2, 16, D).long()), "floating"),
        (lambda: quantizer(SEQUENCE).lookup([]), "1 to 4"),
        (lambda: quantizer(SEQUENCE).lookup([torch.zeros(2, 2).long()]), r"\(B, 1\)"),
        (lambda: quantizer(SEQUENCE).lookup([torch.full((2, 1), K)]), r"\[0, 12\)"),
        (lambda: quantizer(SEQUENCE).seed(torch.zeros(1, 16, D), torch.zeros(K)), "bool"),
    ],
)
def test_bad_input_is_refused(call, word):
    with pytest.raises(ValueError, match=word):
        call()


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_latents_that_are_not_finite_are_refused(value):
    quantizer = MultiscaleQuantizer(8, 3, (1, 4))
    z = torch.zeros(1, 4, 3)
    z[0, 2, 1] = value
    with pytest.raises(ValueError, match="finite|NaN"):
        quantizer(z)
