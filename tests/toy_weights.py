"""`make weights-all` in a miniature: its command line with two toy systems of a second each."""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from gentok.base.recipe import WEIGHTS
from gentok.book import weights
from gentok.training.loop import fit, load_model
from gentok.training.weights import Weights

STEPS = 1500
over = -1  # the step of a training at which the time is over


@dataclass(frozen=True)
class LineConfig:
    """Nothing to choose."""

    width: int = 3


class Line(nn.Module):
    """Least squares on noise."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.linear = nn.Linear(config.width, 1)

    def loss(self, batch, step=0):
        """With noise of its own, so that a resumed run shows whether it goes on exactly."""
        y = self.linear(batch["x"] + torch.randn_like(batch["x"]))
        return (y - batch["x"].sum(1, keepdim=True)).square().mean(), {}


def batches(step):
    """A function of the step."""
    return {"x": torch.randn(8, 3, generator=torch.Generator().manual_seed(step))}


def hurry(step, model):
    """Let the time run out now, whatever the clock says."""
    if step == over:
        signal.setitimer(signal.ITIMER_REAL, 1e-6)


def train(preset, level, *, out, resume, seed):
    """As a recipe does."""
    print("device", level.device, flush=True)
    torch.manual_seed(seed)
    options = {"ema": 0.99, "out": out, "resume": resume, "seed": seed, "save_every": 50}
    options["on_step"] = hurry
    return fit(Line(LineConfig()).to(level.device), batches, steps=STEPS, **options).ema


TOY = Weights(
    preset="toy",
    parts={"line": (LineConfig, Line)},
    train=train,
    collect=lambda out: {"line": load_model(out, LineConfig, Line)},
    assemble=lambda line: line,
    measure=lambda line, n: {"bias": line.linear.bias.item()},
    data=lambda level, seed: {},
)


def command(folder: Path, words: list[str], time_over: int) -> None:
    """Run the command line in a folder, in a process of its own: its words are kept there."""
    global over
    over = time_over
    os.chdir(folder)
    os.environ["GENTOK_PROFILE"] = "smoke"
    sys.stdout, sys.stderr = (open(name, "w", buffering=1) for name in ("out", "err"))  # noqa: SIM115
    torch.set_num_threads(1)
    # The base tokenizers come first in the list; no system has weights here.
    WEIGHTS.clear()
    WEIGHTS.update({"one": TOY, "two": TOY})
    weights.registry = SimpleNamespace(systems=list)
    sys.exit(weights.main(words))
