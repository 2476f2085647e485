"""`gentok train axial` and `gentok sample axial`, as small as they go."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from gentok.tokens.axial import recipe
from gentok.tokens.axial.model import PRESETS, AxialTransformer
from gentok.training.checkpoint import load_checkpoint
from gentok.training.profiles import Profile

SMOKE = Profile("smoke", (0,), "cpu")
SMALL = replace(PRESETS["tiny"], dim=16, num_heads=2)


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, planes="stacked", channels=1)])
def test_train_resume_and_sample(tmp_path, monkeypatch, config):
    monkeypatch.setitem(PRESETS, "tiny", config)
    out = tmp_path / "axial.safetensors"
    network = recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    assert isinstance(network, AxialTransformer) == (config.planes == "sliced")
    assert not network.training and out.is_file()
    again = recipe.train("tiny", SMOKE, out=out, resume=True, seed=0)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    tensors, meta = load_checkpoint(out)
    assert meta["step"] == 4 and any(name.startswith("ema.") for name in tensors)
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in pictures:
        recipe.sample(out, path, n=12, seed=1)
    with Image.open(pictures[0]) as first, Image.open(pictures[1]) as second:
        assert first.size == (640, 128) and first.tobytes() == second.tobytes()


def test_published_presets_ask_for_their_images(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="images of 32 x 32 pixels not found"):
        recipe.train("imagenet-32", SMOKE, out=None, resume=False, seed=0)


def test_sizes_between_have_no_data(monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", replace(SMALL, image_size=6))
    with pytest.raises(ValueError, match="image_size must be 8 for the coloured digits, got 6"):
        recipe.train("tiny", SMOKE, out=None, resume=False, seed=0)
