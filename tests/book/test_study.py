"""Studies: what each profile trains, records and loads; runs side by side, none lost."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

from gentok.book import study as module
from gentok.book.records import read_record
from gentok.book.runs import Journal, Run
from gentok.book.study import Study, summarize
from gentok.training.profiles import SEEDS, profile

ARMS = {"full": {}, "no kl": {"weight": 0.5}}
CLAIMS = """
[[gate]]
id = "trained"
experiment = "losses"
metric = "mse"
arm = "no kl"
at_most = 9.0

[[claim]]
id = "C1"
sentence = "less is less"
kind = "arms"
experiment = "losses"
metric = "mse"
system = "full"
baseline = "no kl"
direction = "lower"
smallest = 0.1
gates = ["trained"]
planned = true
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Records, claims and journals go to folders of the test; no profile comes from outside."""
    results = tmp_path / "results"
    results.mkdir()
    (results / "fa_vae.claims.toml").write_text(CLAIMS)
    monkeypatch.setenv("GENTOK_RESULTS", str(results))
    monkeypatch.delenv("GENTOK_PROFILE", raising=False)
    monkeypatch.setattr(module, "checkout", lambda: tmp_path)
    monkeypatch.setattr(Study, "code", lambda self, name, train: "the code")
    monkeypatch.setattr(module, "cores", lambda: 1)
    return results


def train(seed, weight=0.0):
    """A stand-in for training: its metric depends on the seed and on torch's generator."""
    noise = torch.randn(())
    return {"mse": seed + weight + 0.01 * noise, "curve": [torch.tensor(0.5), 0.25], "steps": 3}


def never(seed, **arm):
    """Training that must not happen."""
    raise AssertionError("this profile must not train")


def recorded():
    """A finished study and its runs."""
    study = Study("fa_vae", "study")
    runs = study.ablate("losses", train, ARMS)
    study.finish()
    return study, runs


def test_study_records_and_cpu_reads_the_same(folder, capsys):
    study, runs = recorded()
    assert "gate trained: mse of no kl" in capsys.readouterr().out
    assert len(runs) == 2 * 6 and runs["seed"].tolist() == [0, 1, 2, 3, 4, 5] * 2
    experiment = read_record(folder / "fa_vae.json")["experiments"]["losses"]
    assert experiment["gates"][0]["passed"] and experiment["arms"] == ARMS
    made = experiment["made"]
    assert made["ended"].endswith("Z") and made["machine"]["threads"] == 1
    assert {"gentok", "python", "torch", "numpy"} == set(made["versions"])
    assert {"started", "commit", "code", "inputs", "profile"} <= set(made)

    reader = Study("fa_vae", "cpu")
    loaded = reader.ablate("losses", never, ARMS)
    printed = capsys.readouterr().out
    assert made["ended"][:10] in printed and printed.count("\n") == 1
    pd.testing.assert_frame_equal(loaded, runs)
    claim = reader.claim("C1")
    assert claim["verdict"] == "reproduced" and claim == study.claim("C1")
    assert reader.table()["verdict"].tolist() == ["reproduced"]
    assert reader.gates("losses")["passed"].tolist() == [True]
    before = (folder / "fa_vae.json").read_bytes()
    assert reader.finish() is None and (folder / "fa_vae.json").read_bytes() == before


def test_arms_of_one_seed_start_from_the_same_generator_state():
    runs = Study("fa_vae", "smoke").ablate("losses", train, ARMS).set_index(["variant", "seed"])
    difference = runs.loc["no kl"]["mse"] - runs.loc["full"]["mse"]
    assert difference.tolist() == pytest.approx([0.5, 0.5], abs=1e-6)


@pytest.mark.parametrize("small", ["smoke", "probe"])
def test_small_profiles_run_two_seeds_and_keep_nothing(folder, small):
    study = Study("fa_vae", small)
    runs = study.ablate("losses", train, ARMS, seeds=[5, 6, 7])
    assert runs["seed"].tolist() == [5, 6] * 2
    assert study.table()["seeds"].tolist() == [2]
    assert study.finish() is None and not list(folder.glob("*.json"))
    assert Study("fa_vae", small).table().empty  # no experiment was run, none is asked for


def test_gpu_reads_unless_told_to_train(folder):
    recorded()
    assert len(Study("fa_vae", "gpu").ablate("losses", never, ARMS)) == 12
    assert len(Study("fa_vae", "gpu", live=True).ablate("losses", train, ARMS)) == 2


def test_a_missing_record_names_the_command(folder):
    with pytest.raises(FileNotFoundError, match="`make study NB=fa_vae` makes it"):
        Study("fa_vae", "cpu").ablate("losses", never, ARMS)
    recorded()
    with pytest.raises(FileNotFoundError, match=r"no experiment 'sizes'; `make study NB=fa_vae`"):
        Study("fa_vae", "cpu").ablate("sizes", never, ARMS)
    with pytest.raises(ValueError, match=r"arms \['full', 'no kl'\], not \['full'\]; `make study"):
        Study("fa_vae", "cpu").ablate("losses", never, {"full": {}})


def test_a_recorded_study_needs_three_seeds():
    with pytest.raises(ValueError, match="at least 3 seeds"):
        Study("fa_vae", "study").ablate("losses", never, ARMS, seeds=[0, 1])


def test_a_killed_study_goes_on_with_the_same_rows(folder):
    whole = Study("fa_vae", "study").ablate("once", train, ARMS).drop(columns="seconds")
    done = []

    def killed(seed, weight=0.0):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(seed)
        return train(seed, weight)

    with pytest.raises(KeyboardInterrupt):
        Study("fa_vae", "study").ablate("again", killed, ARMS)
    left = []

    def counted(seed, weight=0.0):
        left.append(seed)
        return train(seed, weight)

    again = Study("fa_vae", "study").ablate("again", counted, ARMS).drop(columns="seconds")
    assert len(done) == 5 and len(left) == 2 * 6 - 5
    pd.testing.assert_frame_equal(again, whole)
    Study("fa_vae", "study").ablate("again", counted, ARMS)
    assert len(left) == 2 * 6 - 5 + 2 * 6, "to measure again what is recorded is to run it again"


KILLED = """
import sys, time
from pathlib import Path
import torch
from gentok.book import study as module

root, processes = Path(sys.argv[1]), int(sys.argv[2])
module.checkout = lambda: root
module.cores = lambda: processes
module.Study.code = lambda self, name, train: "the code"

def train(seed, weight=0.0):
    with (root / "begun").open("a") as file:
        file.write(f"{seed} {weight}\\n")
    time.sleep(0.2)
    return {"mse": seed + weight + 0.01 * float(torch.randn(()))}

arms = {"full": {}, "heavy": {"weight": 1.0}}
runs = module.Study("fa_vae", "study").ablate("killed", train, arms)
print(runs.drop(columns="seconds").to_json(double_precision=15))
"""


def start_to_be_killed(root, processes):
    line = [sys.executable, "-c", KILLED, str(root), str(processes)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, text=True, start_new_session=True)


def printed_rows(job):
    return json.loads(job.communicate()[0].splitlines()[-1])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The rows of the study that nobody kills, from one process."""
    root = tmp_path_factory.mktemp("undisturbed")
    (root / "results").mkdir()
    (root / "results" / "fa_vae.claims.toml").write_text(CLAIMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENTOK_RESULTS", str(root / "results"))
        patch.delenv("GENTOK_PROFILE", raising=False)
        return printed_rows(start_to_be_killed(root, 1))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_study_may_be_killed_at_any_moment(undisturbed, folder, processes):
    """By a signal that no program can catch; lost are at most the runs that were in flight."""
    root = folder.parent
    job, moment = start_to_be_killed(root, processes), random.uniform(0, 1.2)
    while not (root / "begun").exists():
        assert job.poll() is None
        time.sleep(0.02)
    time.sleep(moment)
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
    assert job.returncode != 0, "it had ended before it was killed"
    again = printed_rows(start_to_be_killed(root, processes))
    begun = (root / "begun").read_text().splitlines()
    assert len(set(begun)) == 12, f"killed {moment:.2f} s after the first run began"
    assert len(begun) - 12 <= processes, "a finished run was run again"
    assert again == undisturbed


def test_a_run_is_made_anew_when_code_arm_or_seed_differ(tmp_path):
    run = Run("full", {"weight": 1.0}, 0)
    Journal(tmp_path, "a").do(run, train)
    assert Journal(tmp_path, "a").find(run)["mse"] == Journal(None, "a").do(run, train)[0]["mse"]
    assert Journal(tmp_path, "b").find(run) is None
    assert Journal(tmp_path, "a").find(Run("full", {"weight": 2.0}, 0)) is None
    assert Journal(tmp_path, "a").find(Run("full", {"weight": 1.0}, 1)) is None


def test_runs_that_leave_something_in_memory_are_all_done_here(folder):
    kept = {}

    def keeps(seed):
        kept[seed] = seed
        return {"mse": float(seed)}

    for _ in range(2):
        kept.clear()
        Study("fa_vae", "study").ablate("kept", keeps, {"full": {}}, together=True)
        assert sorted(kept) == [0, 1, 2, 3, 4, 5]


def test_seeds_are_added_to_rows_that_hold(folder, monkeypatch):
    whole = Study("fa_vae", "study").ablate("whole", train, ARMS).drop(columns="seconds")
    Study("fa_vae", "study").ablate("grown", train, ARMS, seeds=[0, 1, 2])
    few = read_record(folder / "fa_vae.json")["experiments"]["grown"]
    monkeypatch.setenv("GENTOK_ADD_SEEDS", "1")
    with monkeypatch.context() as changed:
        changed.setattr(Study, "code", lambda self, name, train: "other code")
        with pytest.raises(ValueError, match="code changed since it was recorded; `make renew NB"):
            Study("fa_vae", "study").ablate("grown", never, ARMS)
    with pytest.raises(ValueError, match="arms changed since it was recorded"):
        Study("fa_vae", "study").ablate("grown", never, ARMS | {"full": {"weight": 3.0}})
    assert read_record(folder / "fa_vae.json")["experiments"]["grown"] == few
    calls = []
    monkeypatch.setattr(module, "run_all", _counting(module.run_all, calls))
    grown = Study("fa_vae", "study").ablate("grown", train, ARMS)
    assert sorted(calls) == [(arm, seed) for arm in sorted(ARMS) for seed in (3, 4, 5)]
    pd.testing.assert_frame_equal(grown.drop(columns="seconds"), whole)
    made = read_record(folder / "fa_vae.json")["experiments"]["grown"]
    assert made["seeds"] == [0, 1, 2, 3, 4, 5]
    assert made["before"] == [{key: few[key] for key in ("made", "seeds", "renewals")}]
    Study("fa_vae", "study").ablate("grown", never, ARMS)
    assert read_record(folder / "fa_vae.json")["experiments"]["grown"] == made


def _counting(run_all, calls):
    def counted(runs, train, journal, processes, title, known):
        had = {(row["variant"], row["seed"]) for row in known}
        calls.extend((r.variant, r.seed) for r in runs if (r.variant, r.seed) not in had)
        return run_all(runs, train, journal, processes, title, known)

    return counted


@pytest.mark.slow
def test_side_by_side_gives_the_rows_of_one_after_another(folder, monkeypatch):
    """With a closure of the test over a network and batches, as a notebook has them."""
    from gentok.data import batches
    from gentok.training import fit

    source = {"x": torch.arange(64.0).reshape(16, 4)}

    def learn(seed, lr):
        class Net(torch.nn.Linear):
            def loss(self, batch, step):
                return (self(batch["x"]) ** 2).mean(), {}

        draw = shared if lr == 1e-3 else batches(source, 4, seed=seed)
        done = fit(Net(4, 2), draw, steps=4, lr=lr, seed=seed, progress=False)
        return {"loss": done.history[-1]["loss"], "threads": torch.get_num_threads()}

    shared = batches(source, 4)  # its cache must travel
    shared(0)
    arms = {"slow": {"lr": 1e-3}, "fast": {"lr": 1e-2}}
    serial = Study("fa_vae", "study").ablate("serial", learn, arms, seeds=[0, 1, 2])
    monkeypatch.setattr(module, "cores", lambda: 2)
    parallel = Study("fa_vae", "study").ablate("parallel", learn, arms, seeds=[0, 1, 2])
    pd.testing.assert_frame_equal(
        serial.drop(columns="seconds"), parallel.drop(columns="seconds"), check_exact=True
    )
    assert set(serial["threads"]) == {1}


CACHED = """
import functools, sys
from pathlib import Path
from gentok.book.runs import Journal, Run, run_all

@functools.cache
def learned_from(seed):
    return 10 * seed

def train(seed, add):
    return {"sum": learned_from(seed) + add}

runs = [Run("one", {"add": 1}, seed) for seed in range(4)]
rows = run_all(runs, train, Journal(Path(sys.argv[1]), "code"), 2, "cached")
print([row["sum"] for row in rows])
"""


def test_functions_that_a_notebook_caches_reach_the_other_processes(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CACHED, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[1, 11, 21, 31]", done.stderr


def test_one_experiment_is_made_anew_and_the_others_stay(folder, monkeypatch):
    study, _ = recorded()
    study.ablate("sizes", train, ARMS)
    before = read_record(folder / "fa_vae.json")["experiments"]
    monkeypatch.setenv("GENTOK_EXPERIMENT", "sizes")
    again = Study("fa_vae", "study")
    again.ablate("losses", never, ARMS)
    again.ablate("sizes", lambda seed, weight=0.0: {"mse": 1.0}, ARMS)
    after = read_record(folder / "fa_vae.json")["experiments"]
    assert after["losses"] == before["losses"] and after["sizes"]["rows"][0]["mse"] == 1.0


def test_code_that_is_edited_while_it_runs_is_not_recorded(folder, monkeypatch):
    hashes = iter(["a", "b"])
    monkeypatch.setattr(Study, "code", lambda self, name, train: next(hashes))
    with pytest.raises(RuntimeError, match="edited while it ran"):
        Study("fa_vae", "study").ablate("losses", train, ARMS)
    assert not (folder / "fa_vae.json").exists()


def test_data_files_are_named_with_their_digests(folder, tmp_path, monkeypatch):
    from gentok.data import folder as data

    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    monkeypatch.setattr(data, "opened", {})
    (tmp_path / "words.txt").write_text("one two")

    def reads(seed):
        return {"mse": float(len(data.find("words.txt").read_text()) + seed)}

    run = Run("full", {}, 0)
    Journal(tmp_path / "runs", "a").do(run, reads)
    data.opened.clear()
    Journal(tmp_path / "runs", "a").find(run)  # known although nothing was read this time
    assert set(data.opened) == {"words.txt"}
    Study("fa_vae", "study").ablate("reads", reads, {"full": {}})
    made = read_record(folder / "fa_vae.json")["experiments"]["reads"]["made"]
    once = hashlib.sha256(b"one two").digest()
    assert made["inputs"] == {"words.txt": hashlib.sha256(once).hexdigest()[:16]}


def test_claims_name_what_is_wrong(folder):
    study = Study("fa_vae", "smoke")
    study.ablate("losses", train, ARMS)
    with pytest.raises(ValueError, match=r"unknown claim 'C2'; there are \['C1'\]"):
        study.claim("C2")
    wrong = CLAIMS.replace('metric = "mse"', 'metric = "fid"')
    (folder / "fa_vae.claims.toml").write_text(wrong)
    study = Study("fa_vae", "smoke")
    study.ablate("losses", train, ARMS)
    with pytest.raises(ValueError, match=r"unknown metric 'fid'; the rows have"):
        study.claim("C1")
    (folder / "fa_vae.claims.toml").write_text("[[claim]")
    with pytest.raises(ValueError, match=r"fa_vae\.claims\.toml"):
        Study("fa_vae", "smoke")


def test_arms_that_a_claim_needs_are_asked_for_before_anything_is_trained():
    with pytest.raises(ValueError, match=r"gate trained: 'losses' has no arms \['no kl'\]; there"):
        Study("fa_vae", "study").ablate("losses", never, {"full": {}})


def test_finish_refuses_a_claim_that_the_record_cannot_answer(folder):
    (folder / "fa_vae.claims.toml").write_text(CLAIMS.replace('"losses"', '"sizes"'))
    study = Study("fa_vae", "study")
    study.ablate("losses", train, ARMS)
    with pytest.raises(FileNotFoundError, match="has no experiment 'sizes'"):
        study.finish()


def test_a_diverged_metric_is_kept_as_missing(folder):
    study = Study("fa_vae", "study")
    study.ablate("losses", lambda seed, weight=0.0: {"mse": weight or float("nan")}, ARMS)
    assert "NaN" not in (folder / "fa_vae.json").read_text()
    runs = Study("fa_vae", "cpu").ablate("losses", never, ARMS)
    assert runs["mse"].isna().tolist() == [True] * 6 + [False] * 6
    claim = study.claim("C1")
    assert (claim["verdict"], claim["why"]) == ("not testable here", "a run has no value")


def test_summarize():
    runs = pd.DataFrame(
        {"variant": ["b"] * 3 + ["a"], "seed": [0, 1, 2, 0], "mse": [1.0, 2.0, 3.0, 4.0]}
    )
    table = summarize(runs, ["mse"])
    assert table["mse"].to_dict() == {"b": "2 ± 2.5", "a": "4"}
    assert list(table.index) == ["b", "a"]
    with pytest.raises(ValueError, match="unknown metric 'fid'"):
        summarize(runs, ["fid"])


def test_profiles(monkeypatch):
    assert {name: profile(name).seeds for name in SEEDS} == SEEDS
    assert profile().name == "cpu"
    chosen = profile("study")
    assert chosen.pick(smoke=1, cpu=2) == 2 and chosen.pick(cpu=2, study=None) is None
    assert profile("smoke").pick(smoke=1, cpu=2) == 1
    assert profile("probe").pick(smoke=1, cpu=2) == 1
    assert profile("probe").pick(smoke=1, probe=3, cpu=2) == 3
    with pytest.raises(ValueError, match="no value for the profile 'smoke'"):
        profile("smoke").pick(cpu=2)
    with pytest.raises(ValueError, match=r"unknown profile 'quick'; accepted: smoke, probe, cpu"):
        profile("quick")
    monkeypatch.setenv("GENTOK_PROFILE", "smoke")
    assert profile("study").name == "smoke"
    monkeypatch.setenv("GENTOK_PROFILE", "quick")
    with pytest.raises(ValueError, match="GENTOK_PROFILE: unknown profile 'quick'"):
        profile("cpu")


def test_records_are_readable_by_people(folder):
    recorded()
    text = (folder / "fa_vae.json").read_text()
    assert '"seeds": [0, 1, 2, 3, 4, 5]' in text  # a list of numbers stands on one line
    assert "sentence" not in text and "less is less" not in text
    assert json.loads(text)["system"] == "fa_vae"
