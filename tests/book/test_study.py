"""Studies: what each profile trains, records and loads."""

import json

import pandas as pd
import pytest
import torch

from gentok.book.claims import read_record
from gentok.book.study import Study, summarize
from gentok.training.profiles import SEEDS, profile

ARMS = {"full": {}, "no kl": {"weight": 0.5}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Records go to a folder of the test, and no profile comes from outside."""
    monkeypatch.setenv("GENTOK_RESULTS", str(tmp_path))
    monkeypatch.delenv("GENTOK_PROFILE", raising=False)
    return tmp_path


def train(seed, weight=0.0):
    """A stand-in for training: its metric depends on the seed and on torch's generator."""
    noise = torch.randn(())
    return {"mse": seed + weight + 0.01 * noise, "curve": [torch.tensor(0.5), 0.25], "steps": 3}


def never(seed, **arm):
    """Training that must not happen."""
    raise AssertionError("this profile must not train")


def recorded(**claim):
    """A finished study."""
    study = Study("fa_vae", "study")
    runs = study.ablate("losses", train, ARMS)
    options = {"system": "full", "baseline": "no kl", "expected": "lower", **claim}
    study.claim("C1", "less is less", runs, "mse", section="3.1", **options)
    study.finish()
    return study, runs


def test_study_records_and_cpu_reads_the_same(folder, capsys):
    study, runs = recorded()
    assert len(runs) == 2 * 5 and runs["seed"].tolist() == [0, 1, 2, 3, 4] * 2
    record = read_record(folder / "fa_vae.json")
    assert record["claims"][0]["verdict"] == "reproduced"
    assert record["claims"][0]["seeds"] == [0, 1, 2, 3, 4]
    made = record["made"]
    assert made["seeds"] == [0, 1, 2, 3, 4] and made["date"].endswith("Z")
    assert set(made["versions"]) == {"gentok", "python", "torch"}
    assert {"seconds", "machine", "code"} <= set(made)

    capsys.readouterr()
    reader = Study("fa_vae", "cpu")
    loaded = reader.ablate("losses", never, ARMS)
    printed = capsys.readouterr().out
    assert made["date"][:10] in printed and printed.count("\n") == 1
    pd.testing.assert_frame_equal(loaded, runs)
    options = {"system": "full", "baseline": "no kl", "expected": "lower"}
    comparison = reader.claim("C1", "less is less", loaded, "mse", **options)
    assert comparison.effect == record["claims"][0]["effect"]  # JSON keeps every digit
    assert reader.table()["verdict"].tolist() == ["reproduced"]
    before = (folder / "fa_vae.json").read_bytes()
    assert reader.finish() is None and (folder / "fa_vae.json").read_bytes() == before


def test_arms_of_one_seed_start_from_the_same_generator_state():
    runs = Study("fa_vae", "smoke").ablate("losses", train, ARMS).set_index(["variant", "seed"])
    difference = runs.loc["no kl"]["mse"] - runs.loc["full"]["mse"]
    assert difference.tolist() == pytest.approx([0.5, 0.5], abs=1e-6)


def test_smoke_runs_two_seeds_and_keeps_nothing(folder):
    study = Study("fa_vae", "smoke")
    runs = study.ablate("losses", train, ARMS, seeds=[5, 6, 7])
    assert runs["seed"].tolist() == [5, 6] * 2
    assert study.finish() is None and not list(folder.iterdir())


def test_gpu_reads_unless_told_to_train(folder):
    recorded()
    assert len(Study("fa_vae", "gpu").ablate("losses", never, ARMS)) == 10
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


def test_claims_name_what_is_wrong():
    study = Study("fa_vae", "smoke")
    runs = study.ablate("losses", train, ARMS)
    options = {"system": "full", "baseline": "no kl", "expected": "lower"}
    with pytest.raises(ValueError, match=r"unknown metric 'fid'; the runs have"):
        study.claim("C1", "", runs, "fid", **options)
    with pytest.raises(
        ValueError, match=r"unknown variant 'ful'; the runs have \['full', 'no kl'\]"
    ):
        study.claim("C1", "", runs, "mse", **{**options, "system": "ful"})
    with pytest.raises(ValueError, match=r"C1: seeds differ: full \[0, 1\], no kl \[0\]"):
        study.claim("C1", "", runs.iloc[:3], "mse", **options)


def test_pairs_by_seed_and_not_by_row():
    study = Study("fa_vae", "smoke")
    runs = pd.DataFrame(
        {"variant": ["a", "a", "b", "b"], "seed": [0, 1, 1, 0], "mse": [1.0, 5.0, 6.0, 2.0]}
    )
    comparison = study.claim("C1", "", runs, "mse", system="a", baseline="b", expected="lower")
    assert comparison.ci95 == (-1, -1)


def test_a_claim_stated_again_replaces_itself():
    study = Study("fa_vae", "smoke")
    runs = study.ablate("losses", train, ARMS)
    for expected in ("higher", "lower"):
        study.claim("C1", "", runs, "mse", system="full", baseline="no kl", expected=expected)
    assert study.table()["verdict"].tolist() == ["reproduced"]


def test_a_diverged_metric_is_kept_as_missing(folder):
    study = Study("fa_vae", "study")
    study.ablate("losses", lambda seed: {"mse": float("nan")}, {"full": {}})
    study.finish()
    assert "NaN" not in (folder / "fa_vae.json").read_text()
    assert Study("fa_vae", "cpu").ablate("losses", never, {"full": {}})["mse"].isna().all()


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
    with pytest.raises(ValueError, match="no value for the profile 'smoke'"):
        profile("smoke").pick(cpu=2)
    with pytest.raises(ValueError, match=r"unknown profile 'quick'; accepted: smoke, cpu, study"):
        profile("quick")
    monkeypatch.setenv("GENTOK_PROFILE", "smoke")
    assert profile("study").name == "smoke"
    monkeypatch.setenv("GENTOK_PROFILE", "quick")
    with pytest.raises(ValueError, match="GENTOK_PROFILE: unknown profile 'quick'"):
        profile("cpu")


def test_records_are_readable_by_people(folder):
    recorded()
    text = (folder / "fa_vae.json").read_text()
    assert '"seeds": [0, 1, 2, 3, 4]' in text  # a list of numbers stands on one line
    assert json.loads(text)["claims"][0]["claim"] == "less is less"
