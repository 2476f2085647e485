"""The trainer against a loop written out by hand, against crashes, and against bad input."""

import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn
from toy_training import (
    Game,
    Regression,
    ToyConfig,
    batches,
    game,
    same_run,
    train_blocks,
    train_game,
)

from gentok.book.records import checkout
from gentok.nn.player import Player, frozen
from gentok.training.checkpoint import load_checkpoint
from gentok.training.loading import load_model
from gentok.training.loop import fit, schedule_factor

TOY = Path(__file__).parents[1] / "toy_training.py"


def losses_of(history, column="loss"):
    """A column of a history."""
    return [row[column] for row in history]


def environment():
    """The environment of a subprocess: one thread, the tests' folder on the path, too."""
    path = os.pathsep.join(filter(None, [str(TOY.parent), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


# --- what the loop computes ---------------------------------------------------------------------


def test_equals_a_loop_written_by_hand():
    steps, lr, warmup, decay = 12, 1e-2, 3, 0.9
    fitted = fit(
        Regression(), batches, steps=steps, lr=lr, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1,
        warmup=warmup, schedule="cosine", clip=0.5, ema=decay, log_every=1,
    )  # fmt: skip

    model = Regression()
    plain = torch.optim.AdamW(model.parameters(), betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1)
    mean = [p.detach().clone() for p in model.parameters()]
    losses = []
    for step in range(steps):
        done = (step - warmup) / (steps - warmup)
        factor = (step + 1) / warmup if step < warmup else math.cos(done * math.pi / 2) ** 2
        plain.param_groups[0]["lr"] = lr * factor
        plain.zero_grad()
        loss, _ = model.loss(batches(step))
        loss.backward()
        norm = sum(p.grad.square().sum() for p in model.parameters()).sqrt()
        for p in model.parameters():
            p.grad *= min(1.0, 0.5 / (norm.item() + 1e-6))
        plain.step()
        weight = min(decay, (1 + step) / (10 + step))
        mean = [
            weight * m + (1 - weight) * p.detach()
            for m, p in zip(mean, model.parameters(), strict=True)
        ]
        losses.append(loss.item())

    assert losses_of(fitted.history) == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(list(fitted.model.parameters()), list(model.parameters()))
    torch.testing.assert_close(list(fitted.ema.parameters()), mean)
    rates = pd.DataFrame(fitted.history)["lr"]
    assert rates.iloc[0] == pytest.approx(lr / warmup) and rates.max() == pytest.approx(lr)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_equals_the_whole_batch(accumulate):
    def gradients(parts):
        """The gradient that the optimiser sees; AdamW itself would hide a wrong scale."""
        model, seen = Regression(), []
        model.net[0].weight.register_post_accumulate_grad_hook(
            lambda p: seen.append(p.grad.clone())
        )
        history = fit(model, batches, steps=5, log_every=1, accumulate=parts, clip=1.0).history
        assert len(seen) == 5 * parts
        return torch.stack(seen[parts - 1 :: parts]), losses_of(history)

    (whole, losses), (parts, losses_of_parts) = gradients(1), gradients(accumulate)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    assert losses_of_parts == pytest.approx(losses, rel=1e-5)


def test_players_move_in_turn_and_alone():
    seen = []

    class Watched(Game):
        def net_loss(self, batch, step):
            seen.append(("net", self.net[0].weight.requires_grad, self.critic.weight.requires_grad))
            return super().net_loss(batch, step)

        def critic_loss(self, batch, step):
            seen.append(
                ("critic", self.net[0].weight.requires_grad, self.critic.weight.requires_grad)
            )
            return super().critic_loss(batch, step)

    history = fit(Watched(), batches, steps=2, log_every=1, clip=1.0).history
    assert seen == [("net", True, False), ("critic", False, True)] * 2
    assert set(history[0]) == {"step", "seconds", "lr", "net/loss", "net/mse", "critic/loss"}


def test_a_players_optimiser_leaves_the_others_alone():
    before = game()
    model = game()
    players = model.players()
    model.players = lambda: players[1:]  # the critic plays by itself
    fit(model, batches, steps=3, clip=1.0)
    assert all(map(torch.equal, model.net.state_dict().values(), before.net.state_dict().values()))
    assert not torch.equal(model.critic.weight, before.critic.weight)


def test_frozen_restores_what_it_found():
    net = nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    with pytest.raises(RuntimeError, match="inside"), frozen(net):
        assert not net.weight.requires_grad
        raise RuntimeError("inside")
    assert net.weight.requires_grad and not net.bias.requires_grad


def test_average_copies_buffers_and_leaves_the_model():
    fitted = train_game(None, 6)
    assert torch.equal(fitted.ema.mean, fitted.model.mean) and fitted.ema.seen == 6 * 8
    assert not torch.equal(fitted.ema.critic.weight, fitted.model.critic.weight)
    assert not fitted.ema.training and not fitted.model.training
    assert fit(game(), batches, steps=1, clip=1.0).ema is not None


def test_a_hook_that_draws_samples_changes_nothing():
    def look(step, model):
        model.eval()
        torch.randn(step + 1)  # the next step's noise must not depend on this

    modes = []

    class Watched(Regression):
        def loss(self, batch, step=0):
            modes.append(self.training)
            return super().loss(batch, step)

    fit(Watched(), batches, steps=3, on_step=look, clip=1.0)
    assert modes == [True] * 3
    looked, plain = train_game(None, 4, on_step=look), train_game(None, 4)
    assert losses_of(looked.history, "net/loss") == losses_of(plain.history, "net/loss")


def test_noise_follows_the_seed_and_the_caller_keeps_its_own():
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    model = Game()  # drawn from the caller's generator
    torch.manual_seed(3)
    first = fit(model, batches, steps=2, log_every=1, clip=1.0).history
    assert torch.equal(torch.randn(2), expected), "fit disturbed the caller's generator"
    losses = {
        seed: fit(game(), batches, steps=2, log_every=1, seed=seed, clip=1.0).history[1]["net/loss"]
        for seed in (0, 1)
    }
    again = fit(game(), batches, steps=2, log_every=1, seed=0, clip=1.0).history[1]["net/loss"]
    assert losses[0] == again != losses[1] and len(first) == 2


def test_every_step_and_every_run_has_noise_of_its_own():
    noise = []

    class Noisy(Regression):
        def loss(self, batch, step=0):
            noise.append(torch.rand(()).item())
            return super().loss(batch, step)

    for seed in (0, 1, 0):
        fit(Noisy(), batches, steps=5, seed=seed, clip=1.0)
    assert len(set(noise)) == 10 and noise[:5] == noise[10:]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_schedules_rise_then_never_rise_again(schedule):
    factors = [schedule_factor(step, 50, 10, schedule) for step in range(50)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[10] == 1 and all(a >= b > 0 for a, b in zip(factors[10:], factors[11:]))  # noqa: B905
    middle = {"constant": 1, "cosine": 0.5, "linear": 0.5}[schedule]
    assert factors[30] == pytest.approx(middle)


def test_bf16_computes_in_bf16_and_keeps_float32_weights():
    kinds = set()

    class Typed(Regression):
        def loss(self, batch, step=0):
            kinds.add(self.net(batch["x"]).dtype)
            return super().loss(batch, step)

    fitted = fit(Typed(), batches, steps=20, precision="bf16", log_every=1, clip=1.0)
    full = fit(Regression(), batches, steps=20, log_every=1, clip=1.0)
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in fitted.model.parameters()} == {torch.float32}
    assert fitted.history[-1]["loss"] == pytest.approx(full.history[-1]["loss"], rel=0.05)
    assert fitted.history[-1]["loss"] != full.history[-1]["loss"]


@pytest.mark.slow
def test_compiled_equals_eager():
    eager = fit(Regression(), batches, steps=3, log_every=1, clip=1.0)
    compiled = fit(Regression(), batches, steps=3, log_every=1, compile=True, clip=1.0)
    assert losses_of(compiled.history) == pytest.approx(losses_of(eager.history), rel=1e-5)
    assert list(eager.model.state_dict()) == list(compiled.model.state_dict())


@pytest.fixture(scope="module")
def in_two(tmp_path_factory):
    """A folder with what two processes trained, one kind after another."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    folder = tmp_path_factory.mktemp("two")
    command = [*launch, str(TOY), str(folder), "6", "in_turn"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regression", "own_rows", "game"])
def test_two_processes_equal_one(in_two, kind):
    tensors, meta = load_checkpoint(in_two / f"{kind}.safetensors")
    assert meta["processes"] == 2
    if kind == "game":  # each process has noise of its own: the players can play, and half the rows
        assert meta["step"] == 6 and tensors["model.seen"] == 6 * 4
        return
    one = fit(Regression(), batches, steps=6, lr=1e-2, ema=0.9, log_every=1, clip=1.0)
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(tensors[f"model.{name}"], value, rtol=1e-5, atol=1e-6)
    assert losses_of(meta["history"]) == pytest.approx(losses_of(one.history), rel=1e-5)


@pytest.mark.slow
def test_sharded_training_equals_whole(tmp_path):
    """The documented command, on CPU processes: slices in training, whole weights on disk."""
    launch = [Path(sys.executable).with_name("accelerate"), "launch", "--use_fsdp"]
    launch += ["--fsdp_version", "2", "--num_processes", "2", "--main_process_port", "0"]
    out = tmp_path / "sharded.safetensors"
    mixed = tmp_path / "mixed.safetensors"
    for steps, resume in (("3", []), ("6", ["resume"])):  # moments and slices survive a resume
        if resume:
            shutil.copy(out, mixed)
        command = [*launch, str(TOY), str(out), steps, "blocks", *resume]
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]
    one = train_blocks(tmp_path / "one.safetensors", 6)
    count = sum(p.numel() for p in one.model.parameters())
    held = [int(line.split()[1]) for line in done.stdout.splitlines() if "here" in line]
    assert len(held) == 2 and sum(held) == count and max(held) < 0.7 * count
    train_blocks(mixed, 6, resume=True)  # begun in slices, ended whole
    sharded, meta = load_checkpoint(out)
    whole, _ = load_checkpoint(tmp_path / "one.safetensors")
    continued, _ = load_checkpoint(mixed)
    assert meta["processes"] == 2 and sharded.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(sharded[name], value, rtol=1e-4, atol=1e-6, msg=name)
        torch.testing.assert_close(continued[name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert losses_of(meta["history"]) == pytest.approx(losses_of(one.history), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["--multi_gpu --num_processes 2", "--use_fsdp"])
def test_the_launcher_starts_two_processes_of_a_recipe(tmp_path, start):
    """The commands of the page on training, on two processes and in the smoke profile."""
    page = (checkout() / "book" / "training.md").read_text(encoding="utf-8")
    line = re.search(rf"^accelerate launch {start} [^`]*?[^\\]$", page, re.M)[0]
    line = re.sub(r"--preset \S+ --profile gpu", "--profile smoke", line.replace("\\\n", ""))
    program, launch, *words = re.sub(r"--num_processes \d+", "--num_processes 2", line).split()
    out = tmp_path / "run.safetensors"
    command = [Path(sys.executable).with_name(program), launch, "--main_process_port", "0"]
    command += [*words, "--out", str(out)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert load_checkpoint(out)[1]["processes"] == 2
    assert done.stdout.count("saved") == 1, "one process writes and speaks"


def test_sharding_needs_processes_and_one_player(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="sharded training needs two processes or more"):
        fit(Regression(), batches, steps=1, clip=1.0)


# --- crashes ------------------------------------------------------------------------------------


def test_resume_after_a_crash_is_exact(tmp_path):
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    train_game(whole, 12)

    def crash(step, model):
        if step == 7:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train_game(broken, 12, save_every=3, on_step=crash)
    assert load_checkpoint(broken)[1]["step"] == 6
    fitted = train_game(broken, 12, resume=True, save_every=3)
    same_run(whole, broken)
    assert [row["step"] for row in fitted.history] == list(range(12))


@pytest.mark.slow
def test_resume_after_kill_is_exact(tmp_path):
    steps, whole, killed = 600, tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    process = subprocess.Popen(
        [sys.executable, str(TOY), str(killed), str(steps)], env=environment()
    )
    deadline = time.monotonic() + 60
    while not killed.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.4))  # a step nobody chose, perhaps in the middle of a save
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    reached = load_checkpoint(killed)[1]["step"]  # whole and readable, whenever the kill came
    assert 0 < reached < steps
    train_game(killed, steps, resume=True, save_every=3)
    train_game(whole, steps)
    same_run(whole, killed)
    assert sorted(os.listdir(tmp_path)) == [killed.name, whole.name], "a temporary file was left"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_request_to_stop_ends_the_step_saves_and_resumes(tmp_path, name):
    number = getattr(signal, name)
    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"
    train_game(whole, 9)
    outside = signal.signal(number, signal.SIG_DFL)  # nohup and shells may have set others

    def interrupt(step, model):
        if step == 4:
            os.kill(os.getpid(), number)
            assert signal.getsignal(number) is signal.SIG_DFL, "a second one must stop at once"

    try:
        with pytest.raises(KeyboardInterrupt, match="5 of 9 steps"):
            train_game(stopped, 9, on_step=interrupt, save_every=100)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, outside)
    assert load_checkpoint(stopped)[1]["step"] == 5
    train_game(stopped, 9, resume=True)
    same_run(whole, stopped)


def test_what_nohup_ignores_stays_ignored(tmp_path):
    outside = signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def hang_up(step, model):
        os.kill(os.getpid(), signal.SIGHUP)

    try:
        assert len(train_game(tmp_path / "a.safetensors", 3, on_step=hang_up).history) == 3
    finally:
        signal.signal(signal.SIGHUP, outside)


def test_interrupt_without_a_checkpoint_stops_at_once():
    def interrupt(step, model):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        raise AssertionError("went on after Ctrl-C")

    # A suite that was started in the background inherits that Ctrl-C is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train_game(None, 9, on_step=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)


def test_full_disk_while_training_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    out = tmp_path / "run.safetensors"
    train_game(out, 4, schedule="constant")
    before = out.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gentok.training.checkpoint.save_file", full)
    with pytest.raises(OSError, match="No space left on device; the earlier checkpoint is intact"):
        train_game(out, 8, schedule="constant", resume=True, save_every=2)
    assert out.read_bytes() == before and os.listdir(tmp_path) == [out.name]


def test_not_a_number_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    class Breaks(Regression):
        def loss(self, batch, step=0):
            loss, parts = super().loss(batch, step)
            return loss * (math.nan if step == 7 else 1), parts

    out = tmp_path / "run.safetensors"
    with pytest.raises(FloatingPointError, match=r"loss is nan at step 7; the last good .*run"):
        fit(Breaks(), batches, steps=20, log_every=1, save_every=3, out=out, clip=1.0)
    tensors, meta = load_checkpoint(out)
    assert meta["step"] == 6 and all(t.isfinite().all() for t in tensors.values())
    # Seen late, because only every 100th step is logged: the weights are checked before a save.
    with pytest.raises(FloatingPointError, match="a weight is not finite after 9 steps"):
        fit(Breaks(), batches, steps=20, log_every=100, save_every=3, out=out, clip=1.0)
    assert load_checkpoint(out)[1]["step"] == 6


# --- resuming the right thing -------------------------------------------------------------------


def test_resume_without_a_checkpoint_starts_at_the_beginning(tmp_path):
    train_game(tmp_path / "a.safetensors", 3, resume=True)
    train_game(tmp_path / "b.safetensors", 3)
    same_run(tmp_path / "a.safetensors", tmp_path / "b.safetensors")


def test_a_constant_run_may_go_on_for_longer(tmp_path):
    long, grown = tmp_path / "long.safetensors", tmp_path / "grown.safetensors"
    train_game(long, 8, schedule="constant", save_every=4)
    train_game(grown, 4, schedule="constant", save_every=4)
    train_game(grown, 8, schedule="constant", save_every=4, resume=True)
    same_run(long, grown)


def test_resume_of_a_finished_run_returns_it_and_says_so(tmp_path, capfd):
    out = tmp_path / "run.safetensors"
    first = train_game(out, 3)
    capfd.readouterr()
    again = train_game(out, 3, resume=True)
    assert capfd.readouterr().err == "complete already: 3 of 3 steps\n"
    assert again.history == first.history
    assert all(map(torch.equal, first.ema.state_dict().values(), again.ema.state_dict().values()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": None}, "clip was 1.0, now it is None"),
        ({"steps": 5}, "steps was 3, now it is 5"),
        ({"schedule": "linear"}, "schedule was cosine, now it is linear"),
    ],
)
def test_resume_refuses_another_run(tmp_path, change, message):
    out = tmp_path / "run.safetensors"
    train_game(out, 3)
    with pytest.raises(ValueError, match=message):
        train_game(out, **{"steps": 3, **change}, resume=True)


def test_resume_refuses_another_model(tmp_path):
    out = tmp_path / "run.safetensors"
    fit(Regression(), batches, steps=2, out=out, clip=1.0)
    other = nn.Linear(4, 1)
    other.loss = lambda batch, step: (other(batch["x"]).mean(), {})
    with pytest.raises(ValueError, match=r"another model or preset: model.bias is absent there"):
        fit(other, batches, steps=2, out=out, resume=True, clip=1.0)


def test_a_stage_is_not_put_together_with_another_run(tmp_path):
    first, out = tmp_path / "run.tokenizer.safetensors", tmp_path / "run.safetensors"
    train_game(first, 3)
    train_game(out, 3, after=first)
    train_game(out, 3, after=first, resume=True)
    load_model(out, ToyConfig, Game, after=first)
    first.unlink()
    load_model(out, ToyConfig, Game, after=first)  # nothing is there that it could contradict
    train_game(first, 4)
    with pytest.raises(ValueError, match=r"run\.safetensors was trained on another .*tokenizer"):
        load_model(out, ToyConfig, Game, after=first)
    with pytest.raises(ValueError, match="was trained on another"):
        train_game(out, 3, after=first, resume=True)


def test_a_run_moves_to_another_folder_and_goes_on(tmp_path):
    whole, here, there = (tmp_path / n / "run.safetensors" for n in ("whole", "here", "there"))
    train_game(whole, 9)

    def crash(step, model):
        if step == 4:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train_game(here, 9, save_every=2, on_step=crash)
    here.parent.rename(there.parent)
    train_game(there, 9, resume=True)
    same_run(whole, there)


def test_two_runs_do_not_share_a_file(tmp_path):
    out = tmp_path / "run.safetensors"
    code = (
        "import sys; from pathlib import Path; from gentok.training.outputs import only_writer\n"
        "with only_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout.readline() == b"held\n"
    try:
        with pytest.raises(ValueError, match="out: another run is writing"):
            train_game(out, 3)
    finally:
        other.communicate()
    train_game(out, 3)
    assert os.listdir(tmp_path) == [out.name]


def test_what_a_killed_save_left_is_swept_though_the_run_is_done(tmp_path):
    out = tmp_path / "run.safetensors"
    train_game(out, 3)
    (tmp_path / f".{out.name}.tmp").mkdir()
    (tmp_path / f".{out.name}.lock").touch()
    train_game(out, 3, resume=True)
    assert os.listdir(tmp_path) == [out.name]


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": math.nan}, "lr must be above 0"),
        ({"ema": 1.0}, "ema must lie between 0 and 1"),
        ({"clip": -1.0}, "clip must be above 0"),
        ({"accumulate": 0}, "accumulate must be at least 1"),
        ({"accumulate": 3}, "a multiple of 3"),
        ({"schedule": "step"}, "unknown schedule 'step'"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"log_every": 0}, "log_every must be at least 1"),
        ({"save_every": 0}, "save_every must be at least 1"),
        ({"resume": True}, "resume=True needs out"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        fit(Regression(), batches, **{"steps": 2, "clip": 1.0, **options})


def test_bad_models_and_batches():
    with pytest.raises(ValueError, match="Linear has neither loss"):
        fit(nn.Linear(2, 2), batches, steps=1, clip=1.0)
    with pytest.raises(ValueError, match="'Regression' has nothing to train"):
        fit(Regression().requires_grad_(False), batches, steps=1, clip=1.0)
    model = Regression()
    shared = list(model.parameters())
    model.players = lambda: [Player("a", shared, model.loss), Player("b", shared, model.loss)]
    with pytest.raises(ValueError, match="player 'b' shares parameters"):
        fit(model, batches, steps=1, clip=1.0)
    ragged = {"x": torch.zeros(4, 4), "y": torch.zeros(3, 1)}
    with pytest.raises(ValueError, match=r"equal numbers of rows.*'x': 4, 'y': 3"):
        fit(Regression(), lambda step: ragged, steps=1, clip=1.0)
    with pytest.raises(ValueError, match="equal numbers of rows"):
        fit(Regression(), lambda step: {}, steps=1, clip=1.0)


def test_says_where_it_is_in_a_pipe_unless_told_not_to(capfd):
    fit(Regression(), batches, steps=25, log_every=10, clip=1.0)
    out, err = capfd.readouterr()
    words = [line.split()[:3] for line in err.splitlines()]
    assert out == "" and words == [["step", f"{n}/25", "loss"] for n in (11, 21, 25)]
    fit(Regression(), batches, steps=21, clip=1.0, progress=False)
    assert capfd.readouterr() == ("", "")


def test_warmup_stable_decay_falls_over_the_last_fifth():
    factors = [schedule_factor(step, 100, 0, "wsd") for step in range(100)]
    assert factors[:81] == pytest.approx([1.0] * 81)
    assert factors[90] == pytest.approx(0.5) and factors[99] == pytest.approx(0.05)
