"""Position tables and rotary embeddings."""

import math

import numpy as np
import pytest
import torch
from diffusers.models.embeddings import get_2d_sincos_pos_embed, get_timestep_embedding

from gentok.nn.position import (
    AxialRope2d,
    LabelEmbedding,
    TimestepEmbedding,
    check_label,
    sincos_1d,
    sincos_2d,
    timestep_features,
)


def test_time_features_equal_diffusers():
    t = torch.tensor([0.0, 1.0, 37.5, 999.0])
    theirs = get_timestep_embedding(t, 64, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(timestep_features(t, 64), theirs, atol=1e-4, rtol=0)


def test_grid_table_equals_diffusers():
    theirs = get_2d_sincos_pos_embed(48, 6, base_size=6, output_type="np")
    np.testing.assert_allclose(sincos_2d(6, 6, 48), theirs, atol=1e-5)


def test_sines_come_first():
    table = sincos_1d(torch.tensor([math.pi / 2]), 4)
    assert table[0, 0] == pytest.approx(1.0) and table[0, 2] == pytest.approx(0.0, abs=1e-6)


def grid_scores(rope, q, k):
    """Dot products of one query vector and one key vector placed at every pair of positions."""
    tokens = rope.turns.shape[0]
    q, k = (rope(x.expand(1, 1, tokens, -1))[0, 0] for x in (q, k))
    return q @ k.T  # (N, N)


def test_rope_sees_only_the_offset():
    rope = AxialRope2d(4, 5, 16)
    scores = grid_scores(rope, torch.randn(16), torch.randn(16)).view(4, 5, 4, 5)
    seen = {}
    for r, c, s, d in np.ndindex(4, 5, 4, 5):
        value = scores[r, c, s, d].item()
        assert seen.setdefault((s - r, d - c), value) == pytest.approx(value, abs=1e-4)
    assert len({round(v, 3) for v in seen.values()}) > 40, "offsets are not told apart"


def test_rope_keeps_norms_and_the_origin():
    rope, x = AxialRope2d(3, 3, 8), torch.randn(2, 4, 9, 8)
    torch.testing.assert_close(rope(x).norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(rope(x)[:, :, 0], x[:, :, 0])


def test_rope_halves_belong_to_rows_and_columns():
    rope = AxialRope2d(2, 2, 8)
    x = torch.ones(1, 1, 4, 8)
    turned = (rope(x) - x).abs()[0, 0]  # token 1 is one column on, token 2 one row on
    assert turned[1, :4].max() == 0 and turned[1, 4:].max() > 0.1
    assert turned[2, :4].max() > 0.1 and turned[2, 4:].max() == 0


def test_labels_are_dropped_in_training_only():
    table = LabelEmbedding(10, 4, drop=0.5)
    label = torch.zeros(4000, dtype=torch.int64)
    null = (table(label) == table.table.weight[10]).all(-1).float().mean().item()
    assert abs(null - 0.5) < 0.04
    table.eval()
    assert torch.equal(table(label), table.table.weight[0].expand(4000, 4))


def test_timestep_embedding_has_published_parameters():
    # DiT-XL/2: 256 -> 1152 -> 1152 with biases
    count = sum(p.numel() for p in TimestepEmbedding(1152).parameters())
    assert count == 256 * 1152 + 1152 + 1152 * 1152 + 1152


@pytest.mark.parametrize(
    "call",
    [
        lambda: sincos_1d(torch.zeros(1), 3),
        lambda: sincos_2d(2, 2, 6),
        lambda: AxialRope2d(2, 2, 6),
        lambda: check_label(torch.tensor([11]), 10),
        lambda: check_label(torch.tensor([-1]), 10),
        lambda: check_label(torch.tensor([1.0]), 10),
    ],
)
def test_bad_input(call):
    with pytest.raises(ValueError):
        call()
