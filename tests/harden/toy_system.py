"""The toy game in the place of a system: trained, sampled and evaluated by the real command."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from toy_training import Game, ToyConfig, train_game

from gentok import cli
from gentok.book import registry
from gentok.training.loading import load_model

STEPS = 6
SPEAK_JSON = ("list", "info", "evaluate", "claims", "doctor")


@dataclass(frozen=True)
class Config(ToyConfig):
    """The toy's configuration with a published count."""

    published_params: int | None = 81


class Model(Game):
    """The toy with a loss of its own."""

    def loss(self, batch, step=0):
        """Only the first player's."""
        return self.net_loss(batch, step)


def train(preset, profile, *, out, resume, seed):
    """As a recipe does."""
    return train_game(out, STEPS, resume=resume).model


def sample(checkpoint, out, *, n, seed):
    """As a recipe does."""
    model = load_model(checkpoint, ToyConfig, Game)
    Path(out).write_text(f"{n} {sum(p.sum().item() for p in model.parameters())}")


def evaluate(checkpoint, *, n, data=None):
    """As a recipe does."""
    return {"loss": load_model(checkpoint, ToyConfig, Game).critic.weight.sum().item()}


SYSTEM = SimpleNamespace(
    PRESETS={"tiny": Config(), "large": Config(width=10_000)},
    build=Model,
    example=lambda config, batch_size=1, device="meta": {
        "x": torch.empty(batch_size, 4, device=device)
    },
)
RECIPE = SimpleNamespace(train=train, sample=sample, evaluate=evaluate)


def take_the_place_of(monkeypatch, slugs):
    """Let the command find the toy under these names."""
    load, recipe = registry.load, registry.recipe
    monkeypatch.setattr(registry, "load", lambda s: SYSTEM if s in slugs else load(s))
    monkeypatch.setattr(registry, "recipe", lambda s: RECIPE if s in slugs else recipe(s))


def one_line(capfd, words, codes=(0, 2)):
    """Run the command; whatever comes, it ends as documented. Returns the exit code and output."""
    code = cli.run([str(word) for word in words])
    sys.stdout.flush(), sys.stderr.flush()
    out, err = capfd.readouterr()
    said = [line for line in err.splitlines() if line.startswith("gentok: error:")]
    assert code in codes, (words, code, err)
    assert "Traceback" not in out + err, (words, err)
    assert "--debug shows where" not in err, (words, err)
    assert len(said) == (code == 2), (words, code, err)
    if code == 2:
        assert err.splitlines()[-1] == said[0] and len(said[0]) > len("gentok: error: ") + 5
    speaks = words[0] in SPEAK_JSON and not {"--help", "--version"} & set(words)
    if code == 0 and "--json" in words and speaks:
        json.loads(out)
    return code, out, err
