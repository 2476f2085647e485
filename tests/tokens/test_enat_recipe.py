"""`gentok train enat` and `gentok sample enat`, as small as they go."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from gentok.tokens.enat import recipe
from gentok.tokens.enat.model import ENAT, PRESETS
from gentok.training.checkpoint import load_checkpoint
from gentok.training.profiles import Profile
from gentok.training.stages import stage

SMOKE = Profile("smoke", (0,), "cpu")
SMALL = replace(PRESETS["tiny"], dim=16, encoder_depth=1)


@pytest.mark.slow
def test_train_resume_and_sample(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    out = tmp_path / "enat.safetensors"
    network = recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    assert isinstance(network, ENAT) and not network.training
    assert out.is_file() and stage(out, "tokenizer").is_file()
    again = recipe.train("tiny", SMOKE, out=out, resume=True, seed=0)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    tensors, meta = load_checkpoint(out)
    assert meta["step"] == 4 and any(name.startswith("ema.") for name in tensors)
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in pictures:
        recipe.sample(out, path, n=12, seed=1)
    with Image.open(pictures[0]) as first, Image.open(pictures[1]) as second:
        assert first.size == (320, 64) and first.tobytes() == second.tobytes()


def test_large_presets_ask_for_their_images(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="images for 256 tokens"):
        recipe.train("enat-l-256", SMOKE, out=None, resume=False, seed=0)


def test_sampling_without_the_tokenizer_names_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        recipe.sample(tmp_path / "absent.safetensors", tmp_path / "a.png", n=1, seed=0)
