"""A small training that uses all that a checkpoint must keep, and a script to run it in a process.

It has noise, dropout, a buffer that training moves, and two players. Run as a script it trains
under whatever launched it: ``python toy_training.py OUT STEPS [resume]``.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from gentok.nn.gather import once_a_step
from gentok.nn.player import Player, frozen
from gentok.training.checkpoint import load_checkpoint
from gentok.training.loop import fit


@dataclass(frozen=True)
class Inner:
    """A nested configuration."""

    sizes: tuple[int, ...] = (8, 8)


@dataclass(frozen=True)
class ToyConfig:
    """Width and an inner configuration."""

    width: int = 8
    inner: Inner = Inner()


class Game(nn.Module):
    """A denoiser against a critic."""

    def __init__(self, config: ToyConfig = ToyConfig()):
        super().__init__()
        self.config = config
        self.net = nn.Sequential(
            nn.Linear(4, config.width), nn.Tanh(), nn.Dropout(0.1), nn.Linear(config.width, 4)
        )
        self.critic = nn.Linear(4, 1)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def players(self):
        """The denoiser first, then the critic."""
        return [
            Player("net", list(self.net.parameters()), self.net_loss),
            Player("critic", list(self.critic.parameters()), self.critic_loss),
        ]

    def net_loss(self, batch, step):
        """Denoise, and please the critic."""
        x = batch["x"]
        y = self.net(x + 0.1 * torch.randn_like(x))
        if self.training:
            self.mean.lerp_(y.detach().mean(0), 0.1)
            self.seen += len(x)
        with frozen(self.critic):
            adversarial = -self.critic(y).mean()
        mse = F.mse_loss(y, x)
        return mse + 0.01 * adversarial, {"mse": mse.detach()}

    def critic_loss(self, batch, step):
        """Tell data from output."""
        x = batch["x"]
        real, fake = self.critic(x), self.critic(self.net(x).detach())
        return F.softplus(-real).mean() + F.softplus(fake).mean(), {}


class Regression(nn.Module):
    """Least squares: a loss that is a plain mean over rows, without noise."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))

    def loss(self, batch, step=0):
        """Mean squared error."""
        mse = F.mse_loss(self.net(batch["x"]), batch["y"])
        return mse, {"rmse": mse.detach().sqrt()}


class Blocks(nn.Module):
    """Least squares by a network with a list of blocks, as transformers have, and a buffer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        blocks = (nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU()) for _ in range(3))
        self.blocks = nn.ModuleList(blocks)
        self.stem, self.head = nn.Linear(4, 8), nn.Linear(8, 1)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def loss(self, batch, step=0):
        """Mean squared error."""
        self.count(batch["x"])
        x = self.stem(batch["x"])
        for block in self.blocks:
            x = x + block(x)
        mse = F.mse_loss(self.head(x), batch["y"])
        return mse, {"rmse": mse.detach().sqrt()}

    @once_a_step
    def count(self, rows):
        """Steps so far; a step of two micro-batches is one."""
        self.seen += 1


def train_blocks(out, steps, resume=False):
    """Train it the one way that sharded and whole runs compare."""
    options = {"ema": 0.9, "accumulate": 2, "log_every": 1, "schedule": "constant", "clip": 1.0}
    return fit(Blocks(), batches, steps=steps, lr=1e-2, out=out, resume=resume, **options)


def train_regression(out, steps, draw):
    """Train it the one way that one and two processes compare."""
    options = {"ema": 0.9, "accumulate": 2, "log_every": 1, "clip": 1.0}
    return fit(Regression(), draw, steps=steps, lr=1e-2, out=out, **options)


def batches(step: int, rows: int = 8) -> dict:
    """The batch of a step, a function of the step alone."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(rows, 4, generator=generator)
    return {"x": x, "y": x.square().sum(1, keepdim=True), "name": ["row"] * rows}


class OwnRows:
    """The same batches from a source that reads a process's rows alone."""

    def __call__(self, step):
        """The whole batch."""
        raise AssertionError("a process among several asked for all rows")

    def part(self, step, index, count):
        """Part ``index`` of ``count``."""
        whole = batches(step)
        size = len(whole["x"]) // count
        return {name: rows[index * size : (index + 1) * size] for name, rows in whole.items()}


def game(seed: int = 0) -> Game:
    """A fresh game."""
    torch.manual_seed(seed)
    return Game()


def train_game(out, steps, resume=False, **options):
    """Train the game the one way that all tests compare."""
    defaults = {"ema": 0.9, "schedule": "cosine", "warmup": 3, "log_every": 1, "clip": 1.0}
    options = {**defaults, **options}
    return fit(game(), batches, steps=steps, lr=1e-2, out=out, resume=resume, seed=7, **options)


def same_run(a, b):
    """Assert that two checkpoints hold the same run, bit for bit, apart from the clock."""
    (tensors_a, meta_a), (tensors_b, meta_b) = load_checkpoint(a), load_checkpoint(b)
    assert tensors_a.keys() == tensors_b.keys()
    for name in tensors_a:
        assert torch.equal(tensors_a[name], tensors_b[name]), name
    curves = [[{**row, "seconds": 0} for row in meta["history"]] for meta in (meta_a, meta_b)]
    assert curves[0] == curves[1]
    assert meta_a["step"] == meta_b["step"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    path, count = Path(sys.argv[1]), int(sys.argv[2])
    if "blocks" in sys.argv:
        model = train_blocks(path, count, resume="resume" in sys.argv).model
        held = sum(p.to_local().numel() for p in model.parameters())
        sys.stdout.write(f"here {held}\n")  # in one piece: two processes write to one pipe
    elif "in_turn" in sys.argv:  # one start of the processes for all kinds
        train_regression(path / "regression.safetensors", count, batches)
        train_regression(path / "own_rows.safetensors", count, OwnRows())
        train_game(path / "game.safetensors", count, save_every=3)
    else:
        train_game(path, count, resume="resume" in sys.argv, save_every=3)
