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

import pytest
from toy_machines import CONTEXT, PATIENCE, _machine
from toy_training import same_run

from gentok import cli
from gentok.training import slices
from gentok.training.profiles import Profile
from gentok.video.step_video import recipe

pytestmark = pytest.mark.harden
KILLS = -(-int(os.environ.get("HARDEN_KILLS", "200")) // 100)
STAGES = recipe.plan("tiny", Profile("smoke", (0,), "cpu")).stages
OUT = "step.safetensors"


def command(folder, name) -> None:
    """One stage by the command line."""
    words = ["train", "step_video", "--profile", "smoke", "--stage", name, "--resume"]
    if code := cli.run([*words, "--out", str(folder / OUT)]):
        raise ValueError(f"exit code {code}")


def in_slices(rank, folder, name) -> None:
    """One process of a sharded launch."""
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    os.environ.pop("GENTOK_PROFILE", None)
    slices.LARGE = 0
    command(folder, name)


def launch(folder, name) -> list:
    """Start both processes; each writes to a log of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        words = (2, probe.getsockname()[1], in_slices, (folder, name))
    started = []
    for rank in range(2):
        place = folder.with_name(f"{folder.name}-{rank}")
        place.mkdir(exist_ok=True)
        started.append(CONTEXT.Process(target=_machine, args=(rank, place, *words)))
        started[-1].start()
    return started


def finish(folder, name) -> float:
    """Run a stage to its end; returns how long it took."""
    began, started = time.monotonic(), launch(folder, name)
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
    """What stands beside each stage before it and after it, and how long it takes."""
    folder = tmp_path_factory.mktemp("sliced")
    run, found = folder / "run", {}
    run.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GENTOK_PROFILE", raising=False)
        command(run, STAGES[0])  # two players: it is trained whole
    for name in STAGES[1:]:
        before, after = folder / f"before-{name}", folder / f"after-{name}"
        shutil.copytree(run, before)
        seconds = finish(run, name)
        shutil.copytree(run, after)
        found[name] = before, after, seconds
    return found


def test_all_stages_but_the_first_keep_slices(whole):
    assert set(STAGES[1:]) == {"generator", "sft", "dpo", "turbo"} & set(STAGES)
    last = whole[STAGES[-1]][1]
    kept = {path.name.partition(".slices")[0] for path in last.glob("*.slices-*")}
    names = {path.name.removesuffix(".safetensors") for path in last.glob("*.safetensors")}
    assert kept == {name for name in names if "tokenizer" not in name} and kept


@pytest.mark.parametrize("seed", range(KILLS))
@pytest.mark.parametrize("name", STAGES[1:])
def test_resumes_exactly(whole, tmp_path, name, seed):
    before, after, seconds = whole[name]
    folder = tmp_path / "killed"
    shutil.copytree(before, folder)
    started = launch(folder, name)
    time.sleep(random.Random(f"{name} {seed}").uniform(0, seconds))
    for process in started:
        process.kill()  # SIGKILL
    for process in started:
        process.join()
    finish(folder, name)
    names = sorted(path.relative_to(after) for path in after.rglob("*"))
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == names
    for path in names:
        if path.suffix == ".safetensors" and len(path.parts) == 1:
            same_run(after / path, folder / path)
