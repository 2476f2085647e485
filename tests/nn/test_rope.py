import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb, get_1d_rotary_pos_embed
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.nn.position import AxialRope2d
from gentok.nn.rope import Rope, grid_positions


def test_grid_is_in_raster_order():
    assert grid_positions(2, 2).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert grid_positions(3).tolist() == [[0], [1], [2]]
    assert grid_positions(2, 3, 4).shape == (24, 3)


@settings(deadline=None, max_examples=20)
@given(
    dims=st.sampled_from([(8,), (4, 4), (4, 2, 2), (16, 8, 8)]),
    interleaved=st.booleans(),
    shift=st.integers(-50, 50),
)
def test_products_see_only_offsets_and_norms_stay(dims, interleaved, shift):
    torch.manual_seed(0)
    rope = Rope(dims, interleaved=interleaved)
    positions = torch.randint(0, 20, (6, len(dims)))
    q, k = torch.randn(2, 1, 3, 6, sum(dims), dtype=torch.float64)
    here = rope(q, positions) @ rope(k, positions).transpose(-1, -2)
    there = rope(q, positions + shift) @ rope(k, positions + shift).transpose(-1, -2)
    assert torch.allclose(here, there, atol=1e-9)
    assert torch.allclose(rope(q, positions).norm(dim=-1), q.norm(dim=-1))


@pytest.mark.parametrize("interleaved", [True, False])
def test_equals_diffusers_on_one_axis(interleaved):
    x, positions = torch.randn(2, 3, 7, 16), torch.arange(7)
    if interleaved:
        table = get_1d_rotary_pos_embed(16, positions, use_real=True, repeat_interleave_real=True)
        theirs = apply_rotary_emb(x, table)
    else:
        table = get_1d_rotary_pos_embed(16, positions, use_real=True, repeat_interleave_real=False)
        theirs = apply_rotary_emb(x, table, use_real_unbind_dim=-2)
    assert torch.allclose(Rope((16,), interleaved=interleaved)(x, positions), theirs, atol=1e-5)


def test_two_axes_equal_the_image_table():
    x = torch.randn(2, 3, 12, 16)
    ours = Rope((8, 8))(x, grid_positions(3, 4))
    assert torch.allclose(ours, AxialRope2d(3, 4, 16)(x), atol=1e-5)


def test_layouts_are_a_permutation_of_each_other():
    x, positions = torch.randn(1, 1, 5, 12), torch.randint(0, 9, (5, 2))
    order = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7, 8, 10, 9, 11])  # interleaved place -> half place
    halves = Rope((8, 4), interleaved=False)(x, positions)
    pairs = Rope((8, 4))(x[..., order], positions)
    assert torch.allclose(halves[..., order], pairs, atol=1e-6)


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match="axis_dims must be even"):
        Rope((3,))
    with pytest.raises(ValueError, match="do not fit 8 channels"):
        Rope((4, 2))(torch.randn(1, 1, 2, 8), grid_positions(1, 2))


def test_narrow_types_turn_in_the_tables_precision():
    x = torch.randn(1, 2, 6, 8)
    for rope, where in ((AxialRope2d(2, 3, 8), ()), (Rope((4, 4)), (grid_positions(2, 3),))):
        narrow = rope(x.bfloat16(), *where)
        assert narrow.dtype == torch.bfloat16
        torch.testing.assert_close(narrow.float(), rope(x, *where), atol=0.03, rtol=0.02)
        wide = rope(x.double(), *where)
        assert wide.dtype == torch.float64
        torch.testing.assert_close(wide.float(), rope(x, *where))


def test_table_survives_a_change_of_type():
    rope, x = AxialRope2d(2, 3, 8), torch.randn(1, 2, 6, 8)
    expected = rope(x)
    assert torch.allclose(rope.to(torch.float64)(x.double()).float(), expected, atol=1e-6)


def test_gradient_turns_back():
    rope = AxialRope2d(2, 3, 8)
    x = torch.randn(1, 2, 6, 8, requires_grad=True)
    (g,) = torch.autograd.grad(rope(x), x, rope(torch.ones(1, 2, 6, 8)))
    torch.testing.assert_close(g, torch.ones_like(g))  # a rotation's transpose is its inverse
