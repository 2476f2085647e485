"""Mogo as one thing, and how trained weights are judged."""

from dataclasses import replace
from itertools import islice

import pytest
import torch

from gentok.data import sample_motions
from gentok.data.motion import ACTIONS
from gentok.data.motion_features import features_to_positions
from gentok.measure.motion import sides_of
from gentok.signals.mogo import judging, motion_rvq
from gentok.signals.mogo.model import PRESETS, build
from gentok.signals.mogo.system import TextToMotion


@pytest.fixture(scope="module")
def system():
    torch.manual_seed(0)
    small = replace(PRESETS["tiny"], dim=32, depths=(1, 1, 1, 1))
    tokenizer = motion_rvq.build(replace(motion_rvq.PRESETS["tiny"], width=16))
    tokenizer.quantizer(torch.randn(2, 100, 16))  # starts the codebooks
    return TextToMotion(tokenizer, build(small)).eval()


def test_sampling_is_streaming(system):
    """The frames of a sample are those of the stream, its last ones included."""
    captions = ["a person jumps", "a person walks"]
    torch.manual_seed(1)
    whole = system.sample(3, captions, 7)
    torch.manual_seed(1)
    frames = torch.cat(list(islice(system.stream([*captions, captions[0]]), 7)), dim=1)
    assert whole.shape == (3, 7, 18, 3)
    torch.testing.assert_close(whole, features_to_positions(frames), rtol=1e-3, atol=1e-4)


def test_codes_and_back(system):
    codes = system.encode(torch.randn(2, 8, 215))
    assert codes.shape == (2, 8, 4) and system.decode(codes).shape == (2, 8, 215)
    with pytest.raises(ValueError, match="need captions and frames >= 1"):
        system.sample(1, [], 4)


def test_what_is_asked_for_is_what_the_data_say():
    """All sentences of the judge occur in the data, and the other way round."""
    captions, action = judging.asked(500)
    motion = sample_motions(500, 2, seed=0)
    for k in range(len(ACTIONS)):
        ours = {c for c, a in zip(captions, action, strict=True) if a == k}
        theirs = {c for c, a in zip(motion.captions, motion.labels, strict=True) if a == k}
        assert ours == theirs
    assert torch.bincount(action).tolist() == [100] * 5
    assert sides_of(captions).sum() == 0


def test_an_error_of_joints_is_a_distance():
    features, captions, action = judging.held_out(4)
    assert features.shape == (4, 84, 215) and len(captions) == len(action) == 4
    moved = features.clone()
    moved[..., 4:55:3] += 0.03  # x of every joint
    moved[..., 5:55:3] += 0.04  # and y
    assert judging.joint_error(features, moved) == pytest.approx(50, rel=1e-3)
    positions = features_to_positions(features)
    assert judging.obeys(positions, captions, action) == 1


def test_untrained_weights_are_measured_and_fail(system):
    found = judging.measure(system, 10)
    assert found["judge_accuracy_on_data"] == 1
    assert found["joint_error_mm"] > 50 and found["judge_accuracy"] < 0.6
    assert found == judging.measure(system, 10), "a measurement that depends on luck"
