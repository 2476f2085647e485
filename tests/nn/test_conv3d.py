"""Causal 3-D convolution, frame norms and the shuffles, against diffusers and by their laws."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.nn.conv3d import (
    CausalConv3d,
    VideoGroupNorm,
    average_channels,
    pixel_shuffle_3d,
    pixel_unshuffle_3d,
    repeat_channels,
)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(3, 1, 1), ((3, 3, 3), (2, 2, 2), 1), (1, 1, 0), ((3, 1, 1), (2, 1, 1), (1, 0, 0))],
)
def test_equals_the_causal_convolution_of_diffusers(kernel, stride, padding):
    torch.manual_seed(0)
    ours = CausalConv3d(4, 6, kernel, stride)
    theirs = WanCausalConv3d(4, 6, kernel, stride=stride, padding=padding)
    theirs.load_state_dict(ours.conv.state_dict())
    x = torch.randn(2, 4, 9, 8, 8)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=15)
@given(frame=st.integers(0, 8), stride=st.sampled_from([1, 2]))
def test_later_frames_never_change_earlier_outputs(frame, stride):
    torch.manual_seed(0)
    layer, x = CausalConv3d(2, 3, stride=stride), torch.randn(1, 2, 9, 4, 4)
    changed = x.clone()
    changed[:, :, frame] += 1
    same = (layer(x) == layer(changed)).flatten(3).all(-1).flatten(0, 1).all(0)  # (T',)
    first = -(-frame // stride)  # an output frame t sees inputs up to t * stride
    assert same[:first].all() and not same[first:].all()


def test_seventeen_frames_become_nine_and_five():
    down = CausalConv3d(2, 2, stride=2)
    x = torch.zeros(1, 2, 17, 32, 32)
    assert down(x).shape[2:] == (9, 16, 16) and down(down(x)).shape[2:] == (5, 8, 8)
    assert down(down(x[:, :, :1])).shape[2] == 1, "a picture is a video of one frame"


def test_even_kernels_in_space_are_refused():
    with pytest.raises(ValueError, match="must be odd in space, got"):
        CausalConv3d(2, 2, (3, 2, 3))


def test_frame_norm_is_group_norm_of_single_frames():
    torch.manual_seed(0)
    norm, x = VideoGroupNorm(8, 4), torch.randn(2, 8, 5, 3, 3)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    frames = [F.group_norm(x[:, :, t], 4, norm.weight, norm.bias) for t in range(5)]
    torch.testing.assert_close(norm(x), torch.stack(frames, 2), rtol=1e-4, atol=1e-5)
    norm.per_frame = False
    whole = F.group_norm(x, 4, norm.weight, norm.bias)
    torch.testing.assert_close(norm(x), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("per_frame", [True, False])
def test_only_the_frame_norm_hides_other_frames(per_frame):
    torch.manual_seed(0)
    norm, x = VideoGroupNorm(8, 4, per_frame), torch.randn(1, 8, 3, 4, 4)
    changed = x.clone()
    changed[:, :, 2] *= 3
    moved = not torch.equal(norm(x)[:, :, 0], norm(changed)[:, :, 0])
    assert moved != per_frame


@settings(deadline=None, max_examples=20)
@given(
    factor=st.integers(1, 3),
    frames=st.integers(1, 3),
    side=st.integers(1, 3),
    channels=st.integers(1, 3),
)
def test_shuffle_undoes_unshuffle(factor, frames, side, channels):
    x = torch.randn(2, channels, factor * (frames - 1) + 1, factor * side, factor * side)
    folded = pixel_unshuffle_3d(x, factor)
    assert folded.shape == (2, channels * factor**3, frames, side, side)
    assert torch.equal(pixel_shuffle_3d(folded, factor), x)


def test_one_frame_unshuffles_like_torch_and_the_zero_frame_stands_in_front():
    x = torch.randn(1, 3, 1, 4, 4)
    folded = pixel_unshuffle_3d(x, 2).view(1, 3, 2, 4, 2, 2)  # (B, C, frame, phase, h, w)
    expected = F.pixel_unshuffle(x[:, :, 0], 2).view(1, 3, 4, 2, 2)
    assert torch.equal(folded[:, :, 1], expected) and not folded[:, :, 0].any()


def test_phases_of_a_channel_are_neighbours_so_that_averaging_blurs_it():
    x = torch.randn(1, 2, 3, 4, 4)
    mean = average_channels(pixel_unshuffle_3d(x, 2), 2)  # (1, 2, 2, 2, 2)
    padded = F.pad(x, (0, 0, 0, 0, 1, 0))
    torch.testing.assert_close(mean, F.avg_pool3d(padded, 2), rtol=1e-5, atol=1e-6)


def test_averaging_undoes_repeating():
    x = torch.randn(2, 4, 3, 2, 2)
    repeated = repeat_channels(x, 12)
    assert torch.equal(repeated[:, 0], repeated[:, 2]) and torch.equal(repeated[:, 3], x[:, 1])
    torch.testing.assert_close(average_channels(repeated, 4), x)


def test_sizes_that_do_not_divide_are_named():
    with pytest.raises(ValueError, match=r"factor 2 needs T = 1 \+ a multiple"):
        pixel_unshuffle_3d(torch.zeros(1, 1, 4, 4, 4), 2)
    with pytest.raises(ValueError, match="multiple of 8, got 12"):
        pixel_shuffle_3d(torch.zeros(1, 12, 1, 2, 2), 2)
    with pytest.raises(ValueError, match="must divide 4, got 3"):
        average_channels(torch.zeros(1, 4, 1, 1, 1), 3)
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        repeat_channels(torch.zeros(1, 4, 1, 1, 1), 6)
