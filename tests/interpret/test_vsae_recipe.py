"""`gentok train vsae` and `gentok sample vsae`, as the command line calls them."""

import pytest
import torch

from gentok.interpret.vsae.model import PRESETS, VSAE, VSAEConfig
from gentok.interpret.vsae.recipe import sample, train
from gentok.training.profiles import profile
from gentok.training.stages import stage

CONFIG = VSAEConfig(dim=16, num_features=64, k=4, kl_warmup=2)


@pytest.mark.slow
def test_train_then_sample(tmp_path, monkeypatch):
    monkeypatch.delenv("GENTOK_PROFILE", raising=False)
    monkeypatch.setitem(PRESETS, "tiny", CONFIG)
    out = tmp_path / "vsae.safetensors"
    model = train("tiny", profile("smoke"), out=out, resume=False, seed=1)
    assert isinstance(model, VSAE) and not model.training
    assert out.is_file() and stage(out, "language_model").is_file()

    again = train("tiny", profile("smoke"), out=out, resume=True, seed=1)
    for one, two in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two), "a finished run must come back as it was"

    sample(out, tmp_path / "features.txt", n=3, seed=0)
    text = (tmp_path / "features.txt").read_text(encoding="utf-8")
    assert text.count("feature ") == 3 and "of 64 features fire" in text
    assert "[[" in text, "the firing token must be marked"
