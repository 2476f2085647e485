"""Step-Video's own stages, launched in slices on two processes, killed at any moment.

Each stage that can be sharded runs as ``accelerate launch --use_fsdp`` runs it, and every
checkpoint counts as large: no process puts one together. Both processes are killed as a machine is
that loses its power, and go on to the same result, with nothing left over. The world's presets have
no fine-tuning and keep no pairs: these stages are those of the published plan, on a few small clips
in files. ``HARDEN_KILLS`` says how many kills (200 stand for 2 a stage).
"""

import os
import random
import shutil
import socket
import time
from functools import cache

import pytest
import torch
from toy_clips import SMOKE, draw_files, file_plan
from toy_machines import CONTEXT, PATIENCE, _machine
from toy_training import same_run

from gentok import cli
from gentok.training import slices
from gentok.training.checkpoint import load_checkpoint
from gentok.video.step_video import recipe

pytestmark = pytest.mark.harden
KILLS = -(-int(os.environ.get("HARDEN_KILLS", "200")) // 100)
FILES = "step-video-t2v"  # the published plan; of networks and clips as small as they go
PLANS = {FILES: file_plan(later=1e-3)} | {n: recipe.plan(n, SMOKE) for n in ("tiny", "world-32")}
STAGES = {preset: task.stages for preset, task in PLANS.items()}
KILLED = [(FILES, name) for name in STAGES[FILES] if name != "tokenizer"]  # that is trained whole
KILLED += [("tiny", "generator"), ("tiny", "dpo"), ("world-32", "turbo")]
OUT = "step.safetensors"
# What starts a process has read all of this once: a kill meets the training, not the imports.
CONTEXT.set_forkserver_preload(["torch", "gentok.cli", "gentok.video.step_video.recipe"])


def command(folder, data, preset, name) -> None:
    """One stage by the command line."""
    words = ["train", "step_video", "--preset", preset, "--profile", "smoke", "--stage", name]
    words.append("--resume")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "plan", lambda preset, profile: PLANS[preset])
        patch.setenv("GENTOK_DATA", str(data))
        patch.delenv("GENTOK_PROFILE", raising=False)
        if code := cli.run([*words, "--out", str(folder / OUT)]):
            raise ValueError(f"exit code {code}")


def in_slices(rank, *job) -> None:
    """One process of a sharded launch."""
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    slices.LARGE = 0
    command(*job)


def launch(folder, *job) -> list:
    """Start both processes; each writes to a log of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        words = (2, probe.getsockname()[1], in_slices, (folder, *job))
    started = []
    for rank in range(2):
        place = folder.with_name(f"{folder.name}-{rank}")
        place.mkdir(exist_ok=True)
        started.append(CONTEXT.Process(target=_machine, args=(rank, place, *words)))
        started[-1].start()
    return started


def finish(folder, *job) -> float:
    """Run a stage to its end; returns how long it took."""
    began, started = time.monotonic(), launch(folder, *job)
    for process in started:
        process.join(PATIENCE)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    logs = [folder.with_name(f"{folder.name}-{rank}") / "log" for rank in range(2)]
    assert codes == [0, 0], [log.read_text()[-1500:] for log in logs]
    return time.monotonic() - began


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Where the published plan finds its clips and pairs."""
    draw_files(folder := tmp_path_factory.mktemp("files") / "data")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data):
    """Of a preset what stands beside each stage before it and after it, and how long it takes."""
    return cache(lambda preset: _whole(preset, tmp_path_factory.mktemp(preset), data))


def _whole(preset, folder, data) -> dict:
    run, found = folder / "run", {}
    run.mkdir()
    first, *later = STAGES[preset]
    command(run, data, preset, first)  # two players: it is trained whole
    for name in later:
        before, after = folder / f"before-{name}", folder / f"after-{name}"
        shutil.copytree(run, before)
        seconds = finish(run, data, preset, name)
        shutil.copytree(run, after)
        found[name] = before, after, seconds
    return found


@pytest.mark.parametrize("preset", STAGES)
def test_all_stages_but_the_first_keep_slices(whole, preset):
    last = whole(preset)[STAGES[preset][-1]][1]
    kept = {path.name.partition(".slices")[0] for path in last.glob("*.slices-*")}
    names = {path.name.removesuffix(".safetensors") for path in last.glob("*.safetensors")}
    assert kept == {name for name in names if "tokenizer" not in name} and kept


@pytest.mark.parametrize("seed", range(KILLS))
@pytest.mark.parametrize(("preset", "name"), KILLED)
def test_resumes_exactly(whole, data, tmp_path, preset, name, seed):
    before, after, seconds = whole(preset)[name]
    folder = tmp_path / "killed"
    shutil.copytree(before, folder)
    started = launch(folder, data, preset, name)
    time.sleep(random.Random(f"{name} {seed}").uniform(0, seconds))
    for process in started:
        process.kill()  # SIGKILL
    for process in started:
        process.join()
    finish(folder, data, preset, name)
    names = sorted(path.relative_to(after) for path in after.rglob("*"))
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == names
    for path in names:
        if len(path.parts) == 1 and path.suffix == ".safetensors":
            same_run(after / path, folder / path)
        elif path.parent.name == "step.pairs":
            same_pair(after / path, folder / path)


def same_pair(a, b):
    """Assert that two files hold the same pair, bit for bit."""
    (one, said), (other, again) = load_checkpoint(a), load_checkpoint(b)
    assert torch.equal(one["sample"], other["sample"]) and said == again
