"""Step-Video's own stages, launched in slices on two processes, killed at any moment.

Each stage that can be sharded runs as ``accelerate launch --use_fsdp`` runs it, and every
checkpoint counts as large: no process puts one together. Both processes are killed as a machine is
that loses its power, and go on to the same result, with nothing left over. ``HARDEN_KILLS`` says
how many kills (200 stand for 2 a stage).
"""

import os
import random
import shutil
import socket
import time
from functools import cache

import pytest
from toy_machines import CONTEXT, PATIENCE, _machine
from toy_training import same_run

from gentok import cli
from gentok.training import slices
from gentok.training.profiles import Profile
from gentok.video.step_video import recipe

pytestmark = pytest.mark.harden
KILLS = -(-int(os.environ.get("HARDEN_KILLS", "200")) // 100)
SMOKE = Profile("smoke", (0,), "cpu")
# Of the presets that need no data of one's own: each stage once, after those before it.
STAGES = {preset: recipe.plan(preset, SMOKE).stages for preset in ("tiny", "world-32")}
KILLED = [("tiny", "generator"), ("tiny", "dpo"), ("world-32", "turbo")]
OUT = "step.safetensors"


def command(folder, preset, name) -> None:
    """One stage by the command line."""
    words = ["train", "step_video", "--preset", preset, "--profile", "smoke", "--stage", name]
    words.append("--resume")
    if code := cli.run([*words, "--out", str(folder / OUT)]):
        raise ValueError(f"exit code {code}")


def in_slices(rank, folder, preset, name) -> None:
    """One process of a sharded launch."""
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    os.environ.pop("GENTOK_PROFILE", None)
    slices.LARGE = 0
    command(folder, preset, name)


def launch(folder, preset, name) -> list:
    """Start both processes; each writes to a log of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        words = (2, probe.getsockname()[1], in_slices, (folder, preset, name))
    started = []
    for rank in range(2):
        place = folder.with_name(f"{folder.name}-{rank}")
        place.mkdir(exist_ok=True)
        started.append(CONTEXT.Process(target=_machine, args=(rank, place, *words)))
        started[-1].start()
    return started


def finish(folder, preset, name) -> float:
    """Run a stage to its end; returns how long it took."""
    began, started = time.monotonic(), launch(folder, preset, name)
    for process in started:
        process.join(PATIENCE)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    logs = [folder.with_name(f"{folder.name}-{rank}") / "log" for rank in range(2)]
    assert codes == [0, 0], [log.read_text()[-1500:] for log in logs]
    return time.monotonic() - began


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Of a preset what stands beside each stage before it and after it, and how long it takes."""
    return cache(lambda preset: _whole(preset, tmp_path_factory.mktemp(preset)))


def _whole(preset, folder) -> dict:
    run, found = folder / "run", {}
    run.mkdir()
    first, *later = STAGES[preset]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GENTOK_PROFILE", raising=False)
        command(run, preset, first)  # two players: it is trained whole
    for name in later:
        before, after = folder / f"before-{name}", folder / f"after-{name}"
        shutil.copytree(run, before)
        seconds = finish(run, preset, name)
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
def test_resumes_exactly(whole, tmp_path, preset, name, seed):
    before, after, seconds = whole(preset)[name]
    folder = tmp_path / "killed"
    shutil.copytree(before, folder)
    started = launch(folder, preset, name)
    time.sleep(random.Random(f"{name} {seed}").uniform(0, seconds))
    for process in started:
        process.kill()  # SIGKILL
    for process in started:
        process.join()
    finish(folder, preset, name)
    names = sorted(path.relative_to(after) for path in after.rglob("*"))
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == names
    for path in names:
        if path.suffix == ".safetensors" and len(path.parts) == 1:
            same_run(after / path, folder / path)
