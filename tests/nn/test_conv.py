"""Convolutional blocks: shapes, published counts and the written-out attention."""

import pytest
import torch

from gentok.nn.conv import AttentionBlock2d, ConvDecoder, ConvEncoder, Downsample, ResBlock
from gentok.nn.discriminator import PatchDiscriminator


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("multipliers", "attention", "encoder", "decoder"),
    [
        # blocks.md sections 1 and 2: KL-f8 with 4 latent channels; VQGAN f16 with codes of 256
        ((1, 2, 4, 4), (), (8, 34_163_592), (4, 49_490_179)),
        ((1, 1, 2, 2, 4), (4,), (256, 29_298_176), (256, 42_449_795)),
    ],
)
def test_published_parameter_counts(multipliers, attention, encoder, decoder):
    with torch.device("meta"):
        enc = ConvEncoder(3, encoder[0], 128, multipliers, 2, attention)
        dec = ConvDecoder(decoder[0], 3, 128, multipliers, 2, attention)
    assert count(enc) == encoder[1] and count(dec) == decoder[1]


@pytest.mark.parametrize(("layers", "params"), [(3, 2_765_633), (2, 663_361)])
def test_patch_discriminator_counts(layers, params):
    with torch.device("meta"):
        discriminator = PatchDiscriminator(3, 64, layers)
    # Published counts include the biases of no convolution that a norm follows.
    assert count(discriminator) == params


def test_shapes_there_and_back():
    enc = ConvEncoder(3, 8, 8, (1, 2, 2), 1, (2,), groups=4)
    dec = ConvDecoder(4, 3, 8, (1, 2, 2), 1, (2,), groups=4)
    moments = enc(torch.randn(2, 3, 16, 24))
    assert moments.shape == (2, 8, 4, 6) and enc.factor == 4
    assert dec(moments[:, :4]).shape == (2, 3, 16, 24)


def test_attention_formula():
    block, x = AttentionBlock2d(8, groups=4), torch.randn(2, 8, 3, 4)
    tokens = block.norm(x).flatten(2).transpose(1, 2)
    q, k, v = block.qkv(tokens).chunk(3, dim=-1)
    out = (q @ k.transpose(1, 2) * 8**-0.5).softmax(-1) @ v
    expected = x + block.proj(out).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-4)


def test_downsampling_pads_right_and_bottom():
    layer = Downsample(1)
    layer.conv.weight.data.zero_()[0, 0, 0, 0] = 1.0  # reads the window's top-left pixel
    layer.conv.bias.data.zero_()
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert layer(x).flatten().tolist() == [0.0, 2.0, 8.0, 10.0]


def test_residual_block_starts_from_its_skip():
    block, x = ResBlock(4, 4, groups=2), torch.randn(1, 4, 5, 5)
    block.conv2.weight.data.zero_()
    block.conv2.bias.data.zero_()
    assert torch.equal(block(x), x)


def test_discriminator_judges_patches():
    logits = PatchDiscriminator(3, 8, 2)(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 1, 6, 6)
