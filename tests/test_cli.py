"""The command line: exit codes, one-line errors and stable JSON."""

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from toy_training import Game, ToyConfig, train_game

from gentok import __version__ as version
from gentok import cli
from gentok.book import registry
from gentok.book.verdicts import compare
from gentok.training.checkpoint import load_checkpoint
from gentok.training.outputs import only_writer
from gentok.training.stages import stage


@dataclass(frozen=True)
class Config(ToyConfig):
    """The toy's configuration with a published count."""

    published_params: int | None = 81


class Model(Game):
    """The toy with a loss of its own."""

    def loss(self, batch, step=0):
        """Only the first player's."""
        return self.net_loss(batch, step)


SYSTEM = SimpleNamespace(
    PRESETS={"tiny": Config(), "large": Config(width=10_000_000)},
    build=Model,
    example=lambda config, batch_size=1, device="meta": {
        "x": torch.empty(batch_size, 4, device=device)
    },
)
STOPS_AT = 4


def train(preset, profile, *, out, resume, seed):
    """A recipe; a run that is no resumption is stopped by Ctrl-C."""
    stop = None
    if not resume and profile.name == "cpu":

        def stop(step, model):
            if step == STOPS_AT:
                os.kill(os.getpid(), signal.SIGINT)

    return train_game(out, 9, resume=resume, on_step=stop).model


def sample(checkpoint_path, out, *, n, seed):
    """A recipe that writes what it was asked."""
    out.write_text(f"{n} {seed}")


@pytest.fixture(autouse=True)
def stand_in(monkeypatch, tmp_path):
    """Put the toy in the place of fa_vae, and work in an empty folder."""
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda slug: SYSTEM if slug == "fa_vae" else load(slug))
    recipe = SimpleNamespace(train=train, sample=sample)
    monkeypatch.setitem(sys.modules, "gentok.latents.fa_vae.recipe", recipe)
    monkeypatch.delenv("GENTOK_PROFILE", raising=False)
    monkeypatch.setenv("GENTOK_RESULTS", str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)


def gentok(capsys, *words):
    """Run the command: (exit code, standard output, standard error)."""
    code = cli.run([str(word) for word in words])
    return code, *capsys.readouterr()


def test_list(capsys):
    code, out, err = gentok(capsys, "list", "--json")
    rows = json.loads(out)
    assert (code, err, len(rows)) == (0, "", 34 + 2)
    beside = {row["slug"]: row["part"] for row in rows[34:]}
    assert beside == {"kl_vae": "base", "axial_video": "variant"}
    assert set(rows[0]) == {
        "slug", "part", "title", "year", "arxiv", "key", "summary", "state"
    }  # fmt: skip
    code, out, _ = gentok(capsys, "list")
    assert code == 0 and all(row["slug"] in out for row in rows)


def test_info_counts_on_the_meta_device(capsys):
    code, out, _ = gentok(capsys, "info", "fa_vae", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["preset"] == "tiny" and facts["presets"] == ["tiny", "large"]
    parameters = (4 * 8 + 8) + (8 * 4 + 4) + (4 + 1)
    assert facts["parameters"] == facts["published_parameters"] == parameters
    assert facts["flops"] == 2 * (4 * 8 + 8 * 4 + 4)  # two per multiply-add, one row
    assert facts["config"]["inner"] == {"sizes": [8, 8]}
    large = json.loads(gentok(capsys, "info", "fa_vae", "--preset", "large", "--json")[1])
    assert large["parameters"] == 90_000_009  # needs no memory
    assert "90,000,009" in gentok(capsys, "info", "fa_vae", "--preset", "large")[1]


def test_info_without_flops(capsys, monkeypatch):
    monkeypatch.setattr(Model, "loss", lambda self, batch, step=0: batch["x"].sum().item())
    code, out, err = gentok(capsys, "info", "fa_vae", "--json")
    assert code == 0 and json.loads(out)["flops"] is None
    assert err.startswith("gentok: note: FLOPs of fa_vae not counted") and err.count("\n") == 1


def test_info_of_a_planned_system(capsys):
    code, out, _ = gentok(capsys, "info", "vat", "--json")
    assert code == 0 and json.loads(out)["state"] == "planned" and "preset" not in json.loads(out)


def test_train_stop_resume_sample(capsys):
    code, out, err = gentok(capsys, "train", "fa_vae", "--seed", "3")
    assert code == 130 and out == ""
    checkpoint = "runs/fa_vae-tiny-cpu.safetensors"
    command = f"train fa_vae --preset tiny --profile cpu --out {checkpoint} --seed 3 --resume"
    assert err.splitlines()[-1] == f"gentok: stopped; to go on: gentok {command}"
    code, out, err = gentok(capsys, *command.split())
    assert (code, out) == (0, f"saved {checkpoint}\n")
    steps = [line.split()[1] for line in err.splitlines()]
    assert steps == ["6/9", "7/9", "8/9", "9/9"]  # a log gets lines, not a bar
    code, _, err = gentok(capsys, *command.split())
    assert code == 0 and err == "complete already: 9 of 9 steps\n"
    words = ("sample", "fa_vae", "--from", checkpoint, "--out", "new/a.txt", "-n", 2)
    assert gentok(capsys, *words) == (0, "wrote new/a.txt\n", "")
    assert Path("new/a.txt").read_text() == "2 0"

    code, _, err = gentok(capsys, "train", "fa_vae")  # would write over it
    assert code == 2 and "is there already: add --resume" in err
    smoke = ("train", "fa_vae", "--profile", "smoke")
    assert [gentok(capsys, *smoke)[0] for _ in range(2)] == [0, 0]  # means nothing: may go


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("info favae", "unknown system 'favae' (did you mean fa_vae"),
        ("train vat", "system 'vat' is planned and has no code yet; ready: fa_vae"),
        ("info fa_vae --preset tinny", "no preset 'tinny' (did you mean tiny?); accepted: tiny"),
        ("train fa_vae --profile smok", "unknown profile 'smok' (did you mean smoke?); accepted"),
        ("train fa_vae --seed x", "--seed"),
        ("trian", "No such command 'trian'"),
        ("sample fa_vae", "Missing option"),
        ("sample fa_vae --from nothing --out a", "--from: no checkpoint at nothing"),
        ("sample fa_vae --from nothing --out a -n 0", "-n"),
        ("train fa_vae --out /dev/null/a.safetensors --profile smoke", "cannot write in /dev/null"),
        ("train fa_vae --out /dev/null --profile smoke", "/dev/null is there and is no regular"),
        ("train fa_vae --out . --profile smoke", "is there and is no regular file"),
        ("sample fa_vae --from nothing --out a -n 100001", "-n"),
        ("train fa_vae --seed -1", "--seed"),
        ("train fa_vae --seed 99999999999999999999", "--seed"),
        ("train fa_vae --log wandb", "unknown kind of log 'wandb'; accepted: csv, tensorboard"),
        ("--debugg list", "No such option"),
    ],
)
def test_errors_are_one_line_and_exit_2(capsys, words, message):
    code, out, err = gentok(capsys, *words.split())
    assert code == 2 and out == ""
    assert message in err and err.count("\n") == 1 and err.startswith("gentok: error: ")


def test_a_damaged_checkpoint_is_one_line(capsys):
    Path("runs").mkdir()
    Path("runs/a.safetensors").write_bytes(b"random")
    words = "train fa_vae --out runs/a.safetensors --resume"
    code, _, err = gentok(capsys, *words.split())
    assert code == 2 and "is damaged or of another kind" in err and err.count("\n") == 1
    assert Path("runs/a.safetensors").read_bytes() == b"random"


def test_a_full_disk_is_one_line_and_keeps_the_checkpoint(capsys, monkeypatch):
    words = ("train", "fa_vae", "--profile", "smoke")
    assert gentok(capsys, *words)[0] == 0
    checkpoint = Path("runs/fa_vae-tiny-smoke.safetensors")
    before = checkpoint.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gentok.training.checkpoint.save_file", full)
    code, _, err = gentok(capsys, *words)
    last = err.splitlines()[-1]
    assert code == 2 and err.count("gentok:") == 1 and last.startswith("gentok: error:")
    assert "No space left on device; the earlier checkpoint is intact" in last
    assert checkpoint.read_bytes() == before


CLAIMS = """
[[claim]]
id = "C1"
sentence = "less"
experiment = "losses"
metric = "mse"
system = "a"
baseline = "b"
direction = "lower"
smallest = "not stated"
planned = true
"""


def test_names_with_dots_share_no_stage():
    first, second = (stage(Path("runs") / name, "tokenizer") for name in ("lr0.1", "lr0.2"))
    assert first == Path("runs/lr0.1.tokenizer.safetensors") and first != second
    assert stage("a.safetensors", "dpo") == Path("a.dpo.safetensors") and stage(None, "x") is None


@pytest.mark.parametrize("beside", ["run.tokenizer.safetensors", "run-generator.safetensors"])
def test_checkpoints_of_stages_are_not_written_over(capsys, beside):
    Path(beside).write_bytes(b"kept")
    for stranger in ("run.1.safetensors", "runner.safetensors", "run.tokenizer.txt"):
        Path(stranger).write_bytes(b"of another run")
    code, _, err = gentok(capsys, "train", "fa_vae", "--out", "run.safetensors")
    assert code == 2 and f"{beside} is there already: add --resume" in err
    assert Path(beside).read_bytes() == b"kept"
    Path(beside).unlink()
    assert gentok(capsys, "train", "fa_vae", "--out", "run.safetensors")[0] == 130  # it ran


def test_one_stage_reads_the_checkpoints_beside_it_and_keeps_its_own(capsys, monkeypatch):
    seen = []

    def written(preset, profile, name, out):
        return [stage(out, name)]

    def staged(preset, profile, *, out, resume, seed, stages=None):
        seen.append(stages)
        stage(out, stages[0]).write_bytes(b"new")

    recipe = SimpleNamespace(train=staged, STAGES=("tokenizer", "dpo"), written=written)
    monkeypatch.setitem(sys.modules, "gentok.latents.fa_vae.recipe", recipe)
    Path("run.tokenizer.safetensors").write_bytes(b"earlier")
    words = ["train", "fa_vae", "--out", "run.safetensors", "--stage"]
    code, out, _ = gentok(capsys, *words, "dpo")
    assert code == 0 and seen == [("dpo",)] and "saved run.dpo.safetensors" in out
    assert Path("run.tokenizer.safetensors").read_bytes() == b"earlier"
    for name in ("dpo", "tokenizer"):
        code, _, err = gentok(capsys, *words, name)
        assert code == 2 and f"run.{name}.safetensors is there already: add --resume" in err
    code, _, err = gentok(capsys, "train", "enat", "--stage", "dpo")
    assert code == 2 and "--stage: enat trains all at once" in err and "step_video" in err


def test_two_runs_do_not_write_one_file(capsys):
    out = Path("run.safetensors")
    with only_writer(out):
        script = "import sys; from gentok import cli; sys.exit(cli.run(sys.argv[1:]))"
        words = ["train", "enat", "--profile", "smoke", "--out", str(out)]
        done = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True
        )
    assert done.returncode == 2 and "another run is writing run.safetensors" in done.stderr
    with only_writer(out):  # and nothing is left of the lock
        pass
    assert not list(Path().glob(".run*"))


def test_a_sample_is_whole_and_of_the_kind_that_its_name_says(capsys, monkeypatch):
    assert gentok(capsys, "train", "fa_vae", "--profile", "smoke")[0] == 0
    checkpoint = "runs/fa_vae-tiny-smoke.safetensors"
    Path("old.png").write_bytes(b"an earlier picture")

    def gif(checkpoint_path, out, *, n, seed):
        Image.new("RGB", (2, 2)).save(out, "GIF")

    def breaks(checkpoint_path, out, *, n, seed):
        out.write_bytes(b"half")
        raise ValueError("no memory for more")

    for recipe, message in ((gif, "writes GIF files, the name ends in '.png'"), (breaks, "memory")):
        monkeypatch.setattr(sys.modules["gentok.latents.fa_vae.recipe"], "sample", recipe)
        words = ("sample", "fa_vae", "--from", checkpoint, "--out", "old.png")
        code, _, err = gentok(capsys, *words)
        assert code == 2 and message in err
        assert Path("old.png").read_bytes() == b"an earlier picture"
    monkeypatch.setattr(sys.modules["gentok.latents.fa_vae.recipe"], "sample", gif)
    assert gentok(capsys, "sample", "fa_vae", "--from", checkpoint, "--out", "a.gif")[0] == 0
    assert sorted(path.name for path in Path().iterdir()) == ["a.gif", "old.png", "runs"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("lost"), "error: KeyError: 'lost' (--debug shows where)"),
        (EOFError("cut"), "error: a file ended too early: cut"),
        (MemoryError(), "error: too little memory:"),
        (ValueError(), "error: ValueError: (--debug shows where)"),
        (ValueError("two\nlines of \x1b[31mred"), "error: two lines of [31mred"),
        (
            RuntimeError("[..] Connection closed by peer [..]"),
            "error: another process of this run has ended, and this one cannot go on without it",
        ),
    ],
)
def test_what_nobody_foresaw_is_one_line(capsys, monkeypatch, error, message):
    def breaks():
        raise error

    monkeypatch.setattr(registry, "systems", breaks)
    code, out, err = gentok(capsys, "list")
    assert (code, out, err.lstrip()) == (2, "", f"gentok: {message}\n")
    code, out, err = gentok(capsys, "list", "--debug")
    assert code == 2 and "Traceback" in err and err.endswith(f"gentok: {message}\n")


def test_version_and_help_without_a_command(capsys):
    assert gentok(capsys, "--version") == (0, f"gentok {version}\n", "")
    code, out, err = gentok(capsys)
    assert code == 0 and "Usage: gentok" in out and err == ""


def test_a_reader_that_has_seen_enough_is_no_error():
    """As ``gentok list | head -1``, with the pipe closed at once."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "gentok", "list"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_request_to_stop_outside_of_training(name):
    """Where no checkpoint is at stake it ends the command at once, in one line."""
    script = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "from gentok import cli\n"
        f"cli.registry.systems = lambda: os.kill(os.getpid(), signal.{name})\n"
        "sys.argv = ['gentok', 'list']\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 130 and done.stderr.split() == ["gentok:", "stopped"]


def test_curves_in_a_table_for_other_programs(capsys):
    words = ("train", "fa_vae", "--out", "run.safetensors", "--log", "csv")
    assert gentok(capsys, *words)[0] == 130
    with open("run.csv", "a") as file:
        file.write("lost,with,the,kill\n")
    assert gentok(capsys, *words, "--resume")[0] == 0
    with open("run.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    history = load_checkpoint("run.safetensors")[1]["history"]
    assert [{k: float(v) for k, v in row.items()} for row in rows] == history and len(rows) == 9


def test_tensorboard_says_what_it_needs(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = gentok(capsys, "train", "fa_vae", "--log", "tensorboard")
    assert code == 2 and "pip install tensorboard" in err and err.count("\n") == 1


def test_an_ending_that_a_system_does_not_write_is_refused_first(capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["gentok.latents.fa_vae.recipe"], "SAMPLES", (".gif",), False)
    Path("a.safetensors").write_bytes(b"never read")
    words = ("sample", "fa_vae", "--from", "a.safetensors", "--out")
    code, _, err = gentok(capsys, *words, "new/a.png")
    assert code == 2 and "fa_vae writes .gif; got a.png" in err and not Path("new").exists()
    code, _, err = gentok(capsys, *words, "a.safetensors")
    assert code == 2


def test_claims(capsys, tmp_path):
    code, _, err = gentok(capsys, "claims", "--json")
    assert code == 2 and "no folder of records" in err, "an empty table would say: no claims"
    (tmp_path / "results").mkdir()
    assert gentok(capsys, "claims", "--json") == (0, "[]\n", "")
    values = {"a": [1, 2, 3], "b": [4, 6, 5]}
    result = compare(values["a"], values["b"], "lower")
    rows = [
        {"variant": arm, "seed": seed, "mse": value}
        for arm, found in values.items()
        for seed, value in enumerate(found)
    ]
    made = {"ended": "", "machine": {}, "versions": {}, "code": ""}
    experiment = {"made": made, "seconds": 1, "seeds": [0, 1, 2], "gates": [], "renewals": []}
    folder = tmp_path / "results"
    record = {"system": "fa_vae", "experiments": {"losses": {**experiment, "rows": rows}}}
    (folder / "fa_vae.json").write_text(json.dumps(record))
    (folder / "fa_vae.claims.toml").write_text(CLAIMS)
    code, out, _ = gentok(capsys, "claims", "--json")
    (claim,) = json.loads(out)
    assert code == 0 and claim["slug"] == "fa_vae" and claim["verdict"] == result.verdict
    assert claim["system"] == {"name": "a", "values": [1, 2, 3]}
    assert claim["effect"] == result.effect and claim["ci95"] == list(result.ci95)
    assert set(claim) >= STABLE
    out = " ".join(gentok(capsys, "claims")[1].split())
    assert result.verdict in out and "1 planned claims: 1 reproduced" in out
    (folder / "fa_vae.claims.toml").write_text(CLAIMS.replace('"lower"', '"less"'))
    code, _, err = gentok(capsys, "claims")
    assert code == 2 and "fa_vae" in err and err.count("\n") == 1


STABLE = {
    "slug", "id", "claim", "section", "metric", "seeds", "baseline", "system", "expected",
    "margin", "effect", "ci95", "verdict", "note",
}  # fmt: skip


def test_doctor(capsys):
    code, out, _ = gentok(capsys, "doctor", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["versions"]["torch"] == torch.__version__
    assert facts["memory"]["total_gib"] > 0 and facts["device"]["cores"] == os.cpu_count()
    assert set(facts) == {"versions", "device", "memory", "data", "book"}
    assert gentok(capsys, "doctor")[0] == 0


@pytest.mark.parametrize("command", ["", "list", "info", "train", "sample", "claims", "doctor"])
def test_help_gives_an_example(capsys, command):
    code, out, _ = gentok(capsys, *command.split(), "--help")
    assert code == 0 and f"gentok {command}".strip() in " ".join(out.split())
    assert "Example:" in out or command == ""


def test_installed_command_and_its_exit_code(tmp_path):
    command = [Path(sys.executable).with_name("gentok"), "info", "favae"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1


def test_ctrl_c_outside_training(capsys, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "systems", interrupted)
    assert gentok(capsys, "list") == (130, "", "gentok: stopped\n")
