"""RAE's discriminator: local normalisation, circular sight, augmentation that gradients pass."""

import math

import pytest
import torch
from torch import nn

from gentok.latents.rae.discriminator import (
    FeatureDiscriminator,
    LocalBatchNorm,
    TokenHead,
    diff_augment,
    quantise,
)


def test_local_batch_norm_is_batch_norm_of_each_group():
    torch.manual_seed(0)
    norm, x = LocalBatchNorm(6), torch.randn(16, 6, 10) * 3 + 2
    peer = nn.BatchNorm1d(6).train()
    expected = torch.cat([peer(x[:8]), peer(x[8:])])
    torch.testing.assert_close(norm(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.eval()(x[:8]), expected[:8], rtol=1e-4, atol=1e-5)
    assert norm(x[:3]).shape == (3, 6, 10)


def test_real_and_made_batches_do_not_touch():
    torch.manual_seed(0)
    norm, x = LocalBatchNorm(4), torch.randn(16, 4, 5)
    moved = x.clone()
    moved[8:] += 5
    assert torch.equal(norm(moved)[:8], norm(x)[:8])


def test_head_by_its_formula():
    torch.manual_seed(0)
    head = TokenHead(6).eval()  # spectral norms rest
    tokens = torch.randn(4, 12, 6)
    x = head.mix(tokens.transpose(1, 2))
    expected = head.judge((x + head.look(x)) / math.sqrt(2))[:, 0]
    torch.testing.assert_close(head(tokens), expected)
    for block in (head.mix[0], head.look[0], head.judge):
        largest = torch.linalg.matrix_norm(block.weight.flatten(1), ord=2)
        assert float(largest) == pytest.approx(1.0, abs=0.2)
    # The sight of nine tokens closes around the end.
    turned = head.look[0](x.roll(3, dims=2))
    torch.testing.assert_close(turned, head.look[0](x).roll(3, dims=2), rtol=1e-4, atol=1e-5)


def test_a_head_a_layer_side_by_side():
    net = FeatureDiscriminator(6, 3).eval()
    layers = [torch.randn(4, n, 6) for n in (5, 5, 5)]
    out = net(layers)
    assert out.shape == (4, 15)
    assert torch.equal(out[:, 5:10], net.heads[1](layers[1]))
    with pytest.raises(ValueError):
        net(layers[:2])


def test_eight_bits():
    x = torch.linspace(-1.2, 1.2, 999)
    q = quantise(x)
    assert q.unique().numel() == 256 and q.min() == -1 and q.max() == 1
    assert (q - x.clamp(-1, 1)).abs().max() <= 1 / 255 + 1e-6


def test_augmentation_differs_by_image_and_lets_gradients_pass():
    torch.manual_seed(0)
    x = (torch.rand(1, 3, 16, 16) * 2 - 1).expand(6, -1, -1, -1).clone().requires_grad_()
    y = diff_augment(x)
    assert y.shape == x.shape
    assert not torch.allclose(y[0], y[1])
    y.square().sum().backward()
    assert all(float(g.abs().sum()) > 0 for g in x.grad)


def test_translation_moves_by_whole_pixels_and_fills_with_zeros(monkeypatch):
    from gentok.latents.rae.discriminator import _translate

    torch.manual_seed(1)
    x = torch.rand(40, 3, 16, 16) + 1
    y = _translate(x, 0.125)
    offsets = set()
    for image, moved in zip(x, y, strict=True):
        padded = nn.functional.pad(image, (2, 2, 2, 2))
        fits = [
            (r, c)
            for r in range(5)
            for c in range(5)
            if torch.equal(padded[:, r : r + 16, c : c + 16], moved)
        ]
        assert len(fits) == 1
        offsets.add(fits[0])
    assert len(offsets) > 10
