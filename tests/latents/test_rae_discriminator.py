"""RAE's discriminator: local normalisation, circular sight, augmentation that gradients pass."""

import math

import pytest
import torch
from torch import nn

from gentok.latents.rae.discriminator import (
    ConvBlock,
    FeatureDiscriminator,
    TokenHead,
    diff_augment,
    quantise,
)


def test_normalisation_is_of_each_sample_alone_with_the_public_eps():
    torch.manual_seed(0)
    norm, x = ConvBlock(6, 1)[1], torch.randn(5, 6, 10) * 1e-3
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    mean = x.mean(2, keepdim=True)
    var = ((x - mean) ** 2).mean(2, keepdim=True)
    expected = (x - mean) / (var + 1e-6).sqrt() * norm.weight[:, None] + norm.bias[:, None]
    torch.testing.assert_close(norm(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.eval()(x[:1]), expected[:1], rtol=1e-4, atol=1e-5)


def test_a_sample_does_not_touch_another():
    torch.manual_seed(0)
    head, tokens = TokenHead(6).eval(), torch.randn(4, 9, 6)
    moved = tokens.clone()
    moved[1:] += 5
    torch.testing.assert_close(head(moved)[0], head(tokens)[0])


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


def test_colours_change_after_the_shift():
    """The border that moves in takes part in the change of colours, as in the public code."""
    torch.manual_seed(0)
    y = diff_augment(torch.zeros(64, 3, 16, 16) + 0.5)
    corners = y[:, :, 0, 0]
    assert (corners.abs() > 0.05).any()
    assert (corners == 0).sum() == 0


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
