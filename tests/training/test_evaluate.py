"""Evaluation during training, and the average of the weights where training looks at it."""

import pytest
import torch
from torch import nn
from toy_training import Game, Regression, ToyConfig, batches, game, same_run, train_game

from gentok.nn.sae import TopKSAE
from gentok.training import loop
from gentok.training.checkpoint import load_checkpoint
from gentok.training.loop import _seed_noise, fit, load_model


def losses_of(history, column="net/loss"):
    return [row[column] for row in history]


def test_evaluation_leaves_no_trace_in_the_training(tmp_path):
    seen = []

    def measure(step, model):
        seen.append((step, model.training, torch.is_grad_enabled(), model))
        torch.rand(step + 1)
        model.net(torch.ones(1, 4))  # has dropout
        return {"mean": model.net[0].weight.mean()}

    plain, looked = tmp_path / "plain.safetensors", tmp_path / "looked.safetensors"
    train_game(plain, 7)
    fitted = train_game(looked, 7, evaluate=measure, evaluate_every=3)
    assert [step for step, *_ in seen] == [2, 5, 6]
    assert all(state[1:3] == (False, False) and state[3] is fitted.ema for state in seen)
    assert [row["step"] for row in fitted.history if "eval/mean" in row] == [2, 5, 6]
    mean = fitted.ema.net[0].weight.mean().item()
    assert fitted.history[-1]["eval/mean"] == mean and isinstance(mean, float)

    (before, _), (after, meta) = load_checkpoint(plain), load_checkpoint(looked)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert losses_of(meta["history"]) == losses_of(fitted.history)


def test_a_step_that_is_evaluated_is_logged(tmp_path):
    options = {"evaluate": lambda step, model: {"x": step}, "evaluate_every": 4, "log_every": 5}
    history = train_game(None, 10, **options).history
    assert [(row["step"], row.get("eval/x")) for row in history] == [
        (0, None), (3, 3.0), (5, None), (7, 7.0), (9, 9.0),
    ]  # fmt: skip


def test_without_an_average_the_model_is_evaluated_and_keeps_its_modes():
    modes = []

    class Watched(Regression):
        def loss(self, batch, step=0):
            modes.append((self.training, self.net.training, self.net[1].training))
            return super().loss(batch, step)

        def train(self, mode=True):
            super().train(mode)
            self.net[1].eval()  # some part is never in training mode
            return self

    model = Watched()
    found = []
    fit(
        model, batches, steps=3, evaluate=lambda s, m: found.append(m) or {}, evaluate_every=1,
        progress=False,
    )  # fmt: skip
    assert found == [model] * 3 and modes == [(True, True, False)] * 3


def test_looking_does_not_touch_weights_that_a_models_own_mode_would_scale():
    torch.manual_seed(0)
    x = torch.randn(16, 4)
    runs = []
    for options in ({}, {"evaluate": lambda step, model: {}, "evaluate_every": 1}):
        torch.manual_seed(1)
        sae = TopKSAE(4, 8, 2)
        runs.append(
            fit(sae, lambda step: {"x": x}, steps=5, lr=0.1, progress=False, **options).model
        )
    assert torch.equal(runs[0].dictionary, runs[1].dictionary)


def test_an_error_while_measuring_restores_the_modes():
    model = Regression()

    def fails(step, model):
        raise KeyError("no data")

    with pytest.raises(KeyError, match="no data"):
        fit(model, batches, steps=3, evaluate=fails, evaluate_every=2, progress=False)
    assert model.training and torch.is_grad_enabled()


def test_resume_repeats_the_noise_of_an_evaluation(tmp_path):
    options = {"evaluate": lambda step, model: {"noise": torch.rand(())}, "evaluate_every": 2}
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    train_game(whole, 8, **options)

    def crash(step, model):
        if step == 5:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train_game(broken, 8, save_every=3, on_step=crash, **options)
    train_game(broken, 8, resume=True, **options)
    same_run(whole, broken)


def test_bad_evaluation():
    measure = lambda step, model: {}  # noqa: E731
    for options in ({"evaluate": measure}, {"evaluate_every": 3}):
        with pytest.raises(ValueError, match="evaluate and evaluate_every go together"):
            fit(Regression(), batches, steps=1, **options)
    with pytest.raises(ValueError, match="evaluate_every must be at least 1, got 0"):
        fit(Regression(), batches, steps=1, evaluate=measure, evaluate_every=0)


# --- the average --------------------------------------------------------------------------------


class Pupil(Game):
    """A denoiser that learns from the average of its own weights."""

    teacher = ()

    def players(self):
        """One player: the denoiser."""
        return super().players()[:1]

    def set_teacher(self, average):
        """Keep it out of the modules."""
        self.teacher = () if average is None else (average,)

    def net_loss(self, batch, step):
        """Agree with the teacher, too."""
        total, parts = super().net_loss(batch, step)
        with torch.no_grad():
            target = self.teacher[0].net(batch["x"])
        assert not self.teacher[0].training and not self.teacher[0].net[2].training
        return total + (self.net(batch["x"]) - target).square().mean(), parts


def pupil():
    torch.manual_seed(0)
    return Pupil()


def test_the_average_teaches_and_is_the_one_that_the_checkpoint_holds(tmp_path):
    out = tmp_path / "run.safetensors"
    ema = {0: 0.0, 1: 0.25, 2: 0.5}.get
    fitted = fit(
        pupil(), batches, steps=3, lr=1e-2, ema=ema, clip=None, log_every=1, out=out, progress=False
    )
    model, teacher = pupil().train(), pupil().eval()
    model.set_teacher(teacher)
    parameters = list(model.net.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0, fused=True)
    losses = []
    for step in range(3):
        _seed_noise(0, step, 0)
        total, _ = model.net_loss(batches(step), step)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        for mean, value in zip(teacher.net.parameters(), parameters, strict=True):
            mean.data.mul_(ema(step)).add_(value.data, alpha=1 - ema(step))
        losses.append(total.item())
    assert losses_of(fitted.history, "loss") == pytest.approx(losses, rel=1e-5)
    loaded = load_model(out, ToyConfig, Pupil)
    for name, value in fitted.ema.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
        if name.startswith("net."):
            torch.testing.assert_close(value, teacher.state_dict()[name])
    assert fitted.model.teacher == () and fitted.ema.teacher == (), "handed back at the end"


def test_resume_with_a_teacher_is_exact(tmp_path):
    def run(out, steps, **options):
        plan = {"lr": 1e-2, "ema": 0.9, "schedule": "cosine", "clip": 1.0, "log_every": 1}
        return fit(pupil(), batches, steps=steps, out=out, progress=False, **plan, **options)

    def crash(step, model):
        if step == 6:
            raise RuntimeError("power cut")

    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    run(whole, 9)
    with pytest.raises(RuntimeError, match="power cut"):
        run(broken, 9, save_every=3, on_step=crash)
    run(broken, 9, resume=True)
    same_run(whole, broken)


def test_without_an_average_nobody_teaches():
    class Untaught(Regression):
        def set_teacher(self, average):
            raise AssertionError("there is no average")

    fit(Untaught(), batches, steps=1, progress=False)


def test_a_teacher_is_no_part_of_what_is_sharded(monkeypatch):
    model = pupil()
    monkeypatch.setattr(loop.shard, "wanted", lambda: True)
    with (
        pytest.raises(ValueError, match="cannot hand Pupil its average"),
        loop._taught(model, nn.Module()),
    ):
        pass


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_decay_out_of_range_is_named(value):
    with pytest.raises(ValueError, match=r"ema gave the decay .* at step 2; accepted: 0 to 1"):
        fit(game(), batches, steps=4, ema=lambda s: value if s == 2 else 0.5, progress=False)
