"""Finite scalar quantization beside vector-quantize-pytorch, and its grid."""

import math

import pytest
import torch
from vector_quantize_pytorch import FSQ as TheirFSQ

from gentok.nn.fsq import FSQ, LEVELS


@pytest.mark.parametrize("levels", [*LEVELS.values(), (3,), (4, 7)])
def test_codes_values_and_gradients_equal_the_package(levels):
    torch.manual_seed(0)
    ours, theirs = FSQ(levels), TheirFSQ(list(levels))
    z = 3 * torch.randn(4, 50, len(levels))
    mine, yours = z.clone().requires_grad_(), z.clone().requires_grad_()
    z_q, codes = ours(mine)
    their_z_q, their_codes = theirs(yours)
    torch.testing.assert_close(z_q, their_z_q)
    assert torch.equal(codes, their_codes.long()) and codes.dtype == torch.int64
    weight = torch.randn_like(z)
    (z_q * weight).sum().backward()
    (their_z_q * weight).sum().backward()
    torch.testing.assert_close(mine.grad, yours.grad)
    torch.testing.assert_close(ours.lookup(codes), theirs.indices_to_codes(their_codes))


@pytest.mark.parametrize("target, levels", LEVELS.items())
def test_published_levels_make_about_the_codes_asked_for(target, levels):
    assert math.prod(levels) == FSQ(levels).codebook_size
    assert 0.9 < math.prod(levels) / target < 1.2


@pytest.mark.parametrize("levels", [(3, 4), (8, 5, 5, 5)])
def test_every_code_is_reached_and_read_back(levels):
    fsq = FSQ(levels)
    codes = torch.arange(fsq.codebook_size)
    vectors = fsq.lookup(codes)
    assert vectors.unique(dim=0).shape == (fsq.codebook_size, len(levels))
    assert vectors.abs().max() == 1
    for channel, level in enumerate(levels):
        assert len(vectors[:, channel].unique()) == level
    # Latents whose bounded value lies on the grid point of each code.
    half = (torch.tensor(levels) - 1) * (1 + 1e-3) / 2
    offset = 0.5 * (torch.tensor(levels) % 2 == 0)
    z = torch.atanh((vectors * (torch.tensor(levels) // 2) + offset) / half)
    z = z - torch.atanh(offset / half)
    z_q, again = fsq(z)
    assert torch.equal(again, codes)
    torch.testing.assert_close(z_q, vectors)


def test_nought_stays_nought():
    z_q, _ = FSQ((8, 5))(torch.zeros(1, 2))
    torch.testing.assert_close(z_q, torch.zeros(1, 2), atol=1e-6, rtol=0)


def test_codes_do_not_depend_on_autocast_or_mode():
    fsq, z = FSQ((8, 8, 8, 6, 5)), torch.randn(500, 5)
    expected = fsq(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z_q, codes = fsq.eval()(z)
    assert torch.equal(codes, expected[1]) and torch.equal(z_q, expected[0])
    half = z.bfloat16()
    assert torch.equal(fsq(half)[1], fsq(half.float())[1])
    assert fsq(half)[0].dtype == torch.float32


def test_large_codebooks_keep_their_digits():
    """2.4e9 codes are beyond int32 and float32."""
    fsq = FSQ((6,) * 12)
    codes = torch.tensor([fsq.codebook_size - 1, 123456789, 0])
    digits = (fsq.lookup(codes) * 3 + 3).long()
    assert [sum(int(d) * 6**i for i, d in enumerate(row)) for row in digits] == codes.tolist()
    top, code = fsq(torch.full((1, 12), 50.0))
    assert code.item() == fsq.codebook_size - 1 and torch.equal(top, fsq.lookup(code))


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: FSQ(()), "levels"),
        (lambda: FSQ((8, 2)), "at least 3"),
        (lambda: FSQ((9,) * 20), "int64"),
        (lambda: FSQ((8, 5))(torch.zeros(4, 3)), r"\(\.\.\., 2\)"),
        (lambda: FSQ((8, 5))(torch.zeros(0, 2)), "at least one"),
        (lambda: FSQ((8, 5))(torch.zeros(4, 2).long()), "floating"),
        (lambda: FSQ((8, 5)).lookup(torch.tensor([40])), r"\[0, 40\)"),
        (lambda: FSQ((8, 5)).lookup(torch.tensor([-1])), r"\[0, 40\)"),
    ],
)
def test_bad_input_is_refused(call, word):
    with pytest.raises(ValueError, match=word):
        call()


def test_infinite_latents_get_the_outermost_codes_and_nan_none():
    fsq = FSQ([5, 4])
    z = torch.tensor([[torch.inf, -torch.inf], [50.0, -50.0]])
    z_q, codes = fsq(z)
    assert codes[0] == codes[1] and torch.equal(z_q[0], z_q[1])
    with pytest.raises(ValueError, match="got NaN"):
        fsq(torch.tensor([[0.0, torch.nan]]))
