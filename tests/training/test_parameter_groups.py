"""Parameter groups: what decays, at what rate, in which player, and after a resume."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toy_training import Game, Regression, batches, game, same_run

from gentok.training.loop import fit
from gentok.training.parameter_groups import ParameterGroup, check_groups, decay_groups


class Mixed(nn.Module):
    """One parameter of each kind that decay treats in its own way."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(5, 4)
        self.class_token = nn.Parameter(torch.randn(1, 1, 4))
        self.position = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        self.embed = nn.Conv1d(4, 4, 3)
        self.gate = nn.Parameter(torch.randn(4, 4))


def test_matrices_and_kernels_decay_and_nothing_else():
    model = Mixed()
    decayed, spared = decay_groups(model, 0.1)
    assert decayed.names == {"position.0.weight", "embed.weight", "gate"}
    assert spared.names == {
        "table.weight", "class_token", "position.0.bias", "position.1.weight",
        "position.1.bias", "embed.bias",
    }  # fmt: skip
    assert (decayed.weight_decay, spared.weight_decay) == (0.1, 0.0)
    decayed, _ = decay_groups(model, 0.1, spare=())
    assert "class_token" in decayed.names and "table.weight" not in decayed.names
    assert len(decay_groups(nn.Linear(2, 2, bias=False), 0.1)) == 1


class Still(Mixed):
    """A network whose loss does not depend on its weights, so that decay alone moves them."""

    def loss(self, batch, step=0):
        """Zero."""
        return sum((0 * p).sum() for p in self.parameters()), {}


def test_each_group_decays_at_its_own_rate():
    before, model = Still(), Still()
    groups = [
        ParameterGroup({"gate"}, weight_decay=0.5, rate=0.1),
        ParameterGroup({"class_token"}, weight_decay=0.0),
    ]
    fit(
        model, batches, steps=3, lr=0.1, weight_decay=0.2, groups=groups, schedule="linear",
        clip=None, progress=False,
    )  # fmt: skip
    rates = [0.1 * (1 - step / 3) for step in range(3)]
    shrunk = {"gate": math.prod(1 - 0.1 * rate * 0.5 for rate in rates), "class_token": 1.0}
    rest = math.prod(1 - rate * 0.2 for rate in rates)
    for name, value in model.named_parameters():
        expected = dict(before.named_parameters())[name] * shrunk.get(name, rest)
        torch.testing.assert_close(value, expected, msg=name)


def test_groups_equal_a_loop_written_by_hand():
    options = {"lr": 1e-2, "betas": (0.8, 0.95), "weight_decay": 0.1}
    groups = [
        ParameterGroup({"net.0.weight"}, weight_decay=0.3, rate=2.0),
        ParameterGroup({"net.0.bias", "net.2.bias"}, weight_decay=0.0),
    ]
    fitted = fit(Regression(), batches, steps=8, groups=groups, clip=0.5, progress=False, **options)
    model = Regression()
    first, first_bias, last, last_bias = model.parameters()
    plain = torch.optim.AdamW(
        [
            {"params": [first], "lr": 2e-2, "weight_decay": 0.3},
            {"params": [first_bias, last_bias], "weight_decay": 0.0},
            {"params": [last]},
        ],
        **options,
    )
    for step in range(8):
        plain.zero_grad()
        model.loss(batches(step))[0].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)  # of all groups together
        plain.step()
    torch.testing.assert_close(list(fitted.model.parameters()), list(model.parameters()))


def test_one_group_of_all_equals_no_group():
    def trained(**options):
        fitted = fit(game(), batches, steps=4, lr=1e-2, clip=1.0, progress=False, **options)
        return fitted.model.state_dict()

    names = {name for name, _ in Game().named_parameters()}
    plain = trained(weight_decay=0.1)
    grouped = trained(groups=[ParameterGroup(names, weight_decay=0.1)])
    halves = trained(weight_decay=0.1, groups=[ParameterGroup({"net.0.weight"}, 0.1)])
    for name, value in plain.items():
        assert torch.equal(grouped[name], value) and torch.equal(halves[name], value), name


def double(step: int) -> float:
    """A schedule of two steps' length, by a function."""
    return 1 / (1 + step)


def half(step: int) -> float:
    """A weight average whose decay is a function."""
    return 0.5 if step > 3 else 0.0


def train(out, steps, **options):
    """The game with everything that a resume must find again."""
    groups = decay_groups(game(), 0.2)
    groups.append(ParameterGroup({"critic.weight"}, 0.3, rate=3.0))
    groups[0] = ParameterGroup(groups[0].names - {"critic.weight"}, 0.2)
    defaults = {"groups": groups, "schedule": double, "ema": half, "clip": 1.0, "log_every": 1}
    return fit(
        game(), batches, steps=steps, lr=1e-2, out=out, save_every=3, progress=False,
        **{**defaults, **options},
    )  # fmt: skip


def test_resume_with_groups_and_functions_is_exact(tmp_path):
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    train(whole, 10)

    def crash(step, model):
        if step == 7:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(broken, 10, on_step=crash)
    train(broken, 10, resume=True)
    same_run(whole, broken)


def test_resume_refuses_other_groups_and_functions(tmp_path):
    out = tmp_path / "run.safetensors"
    train(out, 3)
    with pytest.raises(ValueError, match=r"cannot resume .*: groups was \[.*now it is None"):
        train(out, 3, groups=None, resume=True)
    with pytest.raises(ValueError, match="groups was"):
        train(out, 3, groups=decay_groups(game(), 0.2), resume=True)
    with pytest.raises(ValueError, match=r"schedule was .*double, now it is .*half"):
        train(out, 3, schedule=half, resume=True)
    with pytest.raises(ValueError, match=r"ema was .*half, now it is 0.5"):
        train(out, 3, ema=0.5, resume=True)
    longer = train(out, 5, resume=True)  # no step's rate looks at the length
    assert [row["step"] for row in longer.history] == list(range(5))


def test_bad_groups():
    model = Regression()
    with pytest.raises(ValueError, match=r"Regression has no parameter 'net.9.weight'"):
        fit(model, batches, steps=1, groups=[ParameterGroup({"net.9.weight"}, 0.0)])
    twice = [ParameterGroup({"net.0.weight"}, 0.0), ParameterGroup({"net.0.weight"}, 0.1)]
    with pytest.raises(ValueError, match=r"'net.0.weight' is in two groups"):
        check_groups(model, twice)
    with pytest.raises(ValueError, match="weight_decay must be at least 0"):
        ParameterGroup(set(), -0.1)
    with pytest.raises(ValueError, match="rate must be above 0"):
        ParameterGroup(set(), 0.1, rate=0.0)


def test_a_frozen_parameter_may_be_in_a_group():
    model = Regression()
    model.net[0].weight.requires_grad_(False)
    before = model.net[0].weight.clone()
    fit(model, batches, steps=2, groups=decay_groups(model, 0.5), progress=False)
    assert torch.equal(model.net[0].weight, before)
    assert F.mse_loss(model.net(batches(0)["x"]), batches(0)["y"]).isfinite()
