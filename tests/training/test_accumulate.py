"""`fit` with micro-batches: the whole batch's result, or a plain refusal."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from toy_training import Regression

from gentok.backbones import cvt
from gentok.base import vqgan
from gentok.interpret import vsae
from gentok.nn.ghost_norm import GhostBatchNorm2d
from gentok.nn.quantize import ResidualVQ
from gentok.training.loop import fit

ROWS = 32


def batches(step: int) -> dict:
    """Rows of a step, (32, 5, 4)."""
    return {"x": torch.randn(ROWS, 5, 4, generator=torch.Generator().manual_seed(step))}


class Quantized(nn.Module):
    """An autoencoder with residual codes; its loss is a mean over rows."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = nn.Linear(4, 3), nn.Linear(3, 4)
        self.quantizer = ResidualVQ(2, 8, 3, decay=0.5, dead_threshold=8.0)

    def loss(self, batch, step=0):
        """Squared error and commitment."""
        z_q, _, commitment = self.quantizer(self.encoder(batch["x"]))
        error = F.mse_loss(self.decoder(z_q), batch["x"])
        return error + commitment, {"error": error.detach()}


def trained(model, **options):
    """Its state after a few steps."""
    defaults = {"steps": 5, "lr": 1e-3, "clip": None, "log_every": 1, "progress": False}
    return fit(model, batches, **{**defaults, **options})


def test_32_rows_whole_or_in_4_parts_give_the_same_codebook():
    whole, parts = trained(Quantized()), trained(Quantized(), accumulate=4)
    start, state = Quantized().state_dict(), parts.model.state_dict()
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-5, msg=name)
    revived = (whole.model.quantizer.levels[1].counts == 8.0).any()
    assert revived, "no code died: the harder half of the rule was not tried"
    codes = "quantizer.levels.0.codebook"
    assert not torch.allclose(state[codes], start[codes], atol=0.1)
    errors = [[row["error"] for row in run.history] for run in (whole, parts)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)


def test_an_average_of_state_in_parts_is_that_of_the_whole(tmp_path):
    out = tmp_path / "run.safetensors"
    whole, parts = (trained(Quantized(), ema=0.5, accumulate=n) for n in (1, 2))
    for name, value in whole.ema.state_dict().items():
        torch.testing.assert_close(parts.ema.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    trained(Quantized(), accumulate=2, out=out, steps=3, ema=0.5)
    resumed = trained(Quantized(), accumulate=2, out=out, resume=True, ema=0.5)
    for name, value in parts.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_a_sparse_autoencoder_in_parts():
    def run(accumulate):
        torch.manual_seed(0)
        size = replace(vsae.PRESETS["tiny"], dim=4, num_features=128, k=2, variance="deterministic")
        model = vsae.build(replace(size, dead_after=10_000))
        rows = lambda step: {"x": batches(step)["x"].flatten(0, 1)}  # noqa: E731
        options = {"clip": None, "progress": False, "accumulate": accumulate}
        return fit(model, rows, steps=4, lr=1e-3, **options).model.state_dict()

    whole, parts = run(1), run(4)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-5, msg=name)
    assert whole["idle"].max() >= 160, "no feature stayed silent"


class Normed(Regression):
    """Has a layer that mixes rows."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def loss(self, batch, step=0):
        """Mean square of the normalised rows."""
        x = self.norm(batch["x"].mT[..., None])  # (B, 4, 5, 1)
        return self.net(x.mean((2, 3))).square().mean(), {}


def test_batch_norm_is_refused_and_ghost_norm_is_not():
    with pytest.raises(ValueError, match=r"accumulate: norm \(BatchNorm2d\) normalises by"):
        trained(Normed(nn.BatchNorm2d(4)), accumulate=2)
    trained(Normed(nn.BatchNorm2d(4)))
    whole, parts = (trained(Normed(GhostBatchNorm2d(4)), accumulate=n, lr=1e-9) for n in (1, 4))
    for name, value in whole.model.norm.state_dict().items():
        torch.testing.assert_close(parts.model.norm.state_dict()[name], value, msg=name)


def test_the_vqgan_is_refused_and_cvt_is_not():
    size = replace(vqgan.PRESETS["tiny"], normalize_latents=True)
    images = lambda step: {"image": torch.zeros(4, 3, 32, 32)}  # noqa: E731
    with pytest.raises(ValueError, match=r"accumulate: scale \(BatchNorm2d\)"):
        fit(vqgan.build(size), images, steps=1, accumulate=2)
    torch.manual_seed(0)
    small = replace(cvt.PRESETS["tiny"], num_classes=3)
    labelled = lambda step: {  # noqa: E731
        "image": torch.randn(4, 3, small.image_size, small.image_size),
        "label": torch.full((4, 3), 1 / 3),
    }
    history = fit(cvt.build(small), labelled, steps=1, accumulate=2, progress=False).history
    assert history[0]["loss"] > 0


class Undeclared(Regression):
    """Moves a buffer without saying so."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def loss(self, batch, step=0):
        """Mean square."""
        self.seen += 1
        return self.net(batch["x"]).square().mean(), {}


def test_state_that_nobody_declared_is_refused():
    with pytest.raises(ValueError, match=r"accumulate: seen moves with every micro-batch; mark"):
        trained(Undeclared(), accumulate=2)
    assert trained(Undeclared()).model.seen == 5


def test_spectral_norm_may_follow_the_weights_in_every_part():
    class Normal(Regression):
        def __init__(self):
            super().__init__()
            spectral_norm(self.net[0])

        def loss(self, batch, step=0):
            """Mean square."""
            return self.net(batch["x"]).square().mean(), {}

    assert len(trained(Normal(), accumulate=2).history) == 5
