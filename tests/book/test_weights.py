"""The book's trained weights: made as small as they go, and those that are kept, measured again."""

import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import gentok
from gentok.base.pipeline import Pipeline
from gentok.base.vqgan import VQGAN
from gentok.book import pairs, weights
from gentok.book.study import Study
from gentok.training.profiles import Profile
from gentok.training.weights import CHECKOUT, LARGEST, find, read_header

SMOKE = Profile("smoke", (0,), "cpu")
KEPT = sorted(CHECKOUT.rglob("*.safetensors")) if CHECKOUT.is_dir() else []
LEAST_ACCURACY = 0.8  # of generated pictures, where the judge gets above 0.95 on data
GENERATORS = ("enat", "fa_vae", "rae")
# What headers say of the data, and which stages they tell of besides "main"; plain floors and no
# other stage elsewhere.
SOURCES = {
    "ard_vae": "procedural blobs",
    "atvc": "orders and scenes on a grid",
    "axial": "printed digits in 2 faces of DejaVu",
    "fa_vae_photographs": "photographs",
    "matformer": "pydoc",
    "mert": "procedural tunes",
    "micro_diffusion": "procedural world: one upright shape",
    "micro_diffusion_masked": "procedural world: one upright shape",
    "mogo": "procedural motions",
    "point_mae": "procedural solids",
    "sg2im": "shapes on a grey floor",
    "step_video": "procedural world",
    "vitok": "photographs",
    "vsae": "pydoc",
}
STAGES = {
    "ard_vae": {"ard_6", "ard_24", "vae_6", "vae_12", "vae_24"},
    "atvc": {"tokenizer"},
    "cvt": {"tables"},
    "fa_vae": {"generator"},
    "fa_vae_photographs": {"pixel", "coupled"},
    "matformer": {"S", "M", "L", "XL"},
    "mert": {"codec"},
    "micro_diffusion": set(),
    "micro_diffusion_masked": set(),
    "mogo": {"tokenizer"},
    "point_mae": {"classifier", "segmenter"},
    "rae": {"mae", "generator", "guide"},
    "sg2im": {"tokenizer", "layout"},
    "step_video": {"tokenizer_4x8x8", "tokenizer", "t2i", "turbo"},
    "vitok": {"p4c2", "p4c4", "p8c2", "p8c8", "p8c16", "p16c4", "p16c8", "tuned"},
    "vsae": {"language_model", "topk"},
}
LEAST_PSNR_OF_TOKENS = 24.0  # dB, of unseen shapes through RAE's decoder, which trains on noise
# Of coloured digits, by two judges who both must be sure: whole samples, and completed halves.
LEAST_LEGIBLE, LEAST_COMPLETED = 0.9, 0.9
# Of the variance of the fourth axis to the fifth, where four factors made the data.
LEAST_RATIO = 2.0
# Of the relations that scene graphs state, in drawn pictures; the detector must read better.
LEAST_OBEYED, LEAST_READ = 0.9, 0.95
# Of answers to orders, mean over the three types, and of the places that an order changes.
LEAST_ANSWERED, LEAST_CHANGED = 0.9, 0.8
LEAST_PSNR = 26.0  # dB, of unseen patches of photographs, and of unseen clips


def name_of(path: Path) -> str:
    return path.relative_to(CHECKOUT).with_suffix("").as_posix()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with all weights, hardly trained."""
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GENTOK_WEIGHTS", str(folder))
        patch.setattr(weights, "ITEMS", 20)
        patch.setattr(weights, "CHECKED", 10)
        for name in weights.names():
            weights.make(name, folder, SMOKE)
    return folder


@pytest.mark.slow
def test_all_are_made_and_load(made):
    assert {"base/vqgan", "base/kl_vae", "enat"} | set(STAGES) <= set(weights.names())
    for name in weights.names():
        system = gentok.pretrained(name, made)
        assert not system.training and not any(p.requires_grad for p in system.parameters())
    system = gentok.pretrained("enat", made)
    assert isinstance(system, Pipeline) and isinstance(system.tokenizer, VQGAN)
    torch.manual_seed(0)
    images = system.sample(2, torch.tensor([3, 4]))
    assert images.shape == (2, 3, 32, 32) and images.isfinite().all()
    x = images.clamp(-1, 1)
    assert system.decode(system.encode(x)).shape == x.shape


@pytest.mark.slow
def test_a_header_says_what_made_the_file_and_is_true(made, monkeypatch):
    monkeypatch.setattr(weights, "ITEMS", 20)
    monkeypatch.setattr(weights, "CHECKED", 10)
    for name in weights.names():
        header = read_header(made / f"{name}.safetensors")
        assert header["name"] == name and header["profile"] == "smoke" and header["seed"] == 0
        assert all(
            0 < stage["step"] == stage["settings"]["steps"] <= 12 and stage["seconds"] > 0
            for stage in header["stages"].values()
        )
        assert set(header["stages"]) == {"main"} | STAGES.get(name, set())
        data = header["data"]["training"]
        assert data["items"] > 0 and len(data["sha256"]) == 64
        assert SOURCES.get(name, "plain floors") in data["source"]
        assert {"date", "machine", "commit", "versions", "device"} <= set(header["made"])
        check(name, made)


def check(name: str, folder: Path) -> None:
    """Measure the small part again: pictures exactly as recorded, up to the machine's rounding."""
    header, system = read_header(find(name, folder)), gentok.pretrained(name, folder)
    recorded = dict(header["check"])
    items = recorded.pop("items")
    for metric, value in weights.of(name).measure(system, items).items():
        # One picture in fifty may fall to the other side of a judge's decision elsewhere, and a
        # feature at the threshold to the other side of having a name.
        tolerance = 0.02 if "accuracy" in metric else 2 if "named" in metric else 1e-3
        assert value == pytest.approx(recorded[metric], abs=tolerance), f"{name}: {metric}"


@pytest.mark.slow
def test_a_second_call_goes_on_and_all_skips_what_is_there(made, monkeypatch, capsys):
    monkeypatch.chdir(made)
    monkeypatch.setenv("GENTOK_WEIGHTS", str(made))
    monkeypatch.setattr(weights, "ITEMS", 20)
    monkeypatch.setattr(weights, "CHECKED", 10)
    before = read_header(made / "base" / "kl_vae.safetensors")
    weights.make("base/kl_vae", made, SMOKE)
    after = read_header(made / "base" / "kl_vae.safetensors")
    assert after["check"] == before["check"] and after["stages"] == before["stages"]
    assert weights.make_all(made, minutes=1) == []
    assert capsys.readouterr().out.count("there already") == len(weights.names())


@pytest.mark.slow
def test_the_time_limit_stops_a_training_and_keeps_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights, "profile", lambda name: Profile("cpu", (0,), "cpu"))
    began = time.monotonic()
    assert weights.make_all(tmp_path, minutes=0.1) == []
    assert time.monotonic() - began < 60, "the limit of 6 s did not stop the training"
    assert "the same command goes on from here" in capsys.readouterr().out
    assert not (tmp_path / "base" / "vqgan.safetensors").exists()


def test_unknown_names(tmp_path, capsys):
    with pytest.raises(ValueError, match="unknown system 'enatt' .did you mean enat"):
        gentok.pretrained("enatt")
    with pytest.raises(ValueError, match="no weights are kept of 'base/vqgam'"):
        gentok.pretrained("base/vqgam")
    assert weights.main(["make", "base/vqgam"]) == 2
    assert "no weights are kept of 'base/vqgam'; there are: base/vqgan" in capsys.readouterr().err


@pytest.mark.parametrize("path", KEPT, ids=name_of)
def test_the_page_has_words_for_what_was_measured(path, monkeypatch):
    """Beside the number of items; a metric without words stays off the page."""
    monkeypatch.syspath_prepend(str(pairs.find_root() / "book" / "_ext"))
    from weights import METRICS

    assert set(METRICS) & set(read_header(path)["metrics"])


@pytest.mark.slow
@pytest.mark.parametrize("path", KEPT, ids=name_of)
def test_kept_weights(path):
    name, header = name_of(path), read_header(path)
    assert path.stat().st_size <= LARGEST + 100_000, "larger than a file of weights may be"
    assert header["name"] == name and header["profile"] == "long"
    assert header["made"]["commit"] and not header["made"]["commit"].endswith("+")
    if name in GENERATORS:
        metrics = header["metrics"]
        assert metrics["items"] >= 500 and metrics["judge_accuracy"] >= LEAST_ACCURACY
    if name == "mogo":
        assert metrics_of_motion(header["metrics"]) and metrics_of_motion(header["check"])
    if name == "axial":
        assert metrics_of_digits(header["metrics"])
    if name == "mert":
        assert hears(header["metrics"])
    if name == "step_video":
        assert metrics_of_video(header["metrics"])
    check(name, CHECKOUT)


def metrics_of_digits(metrics: dict) -> bool:
    """Drawn digits are read, other halves and shuffled rows less; blue costs well below red."""
    read = metrics["legible_accuracy"] >= LEAST_LEGIBLE
    read &= metrics["completed_accuracy"] >= LEAST_COMPLETED
    fair = metrics["legible_accuracy_on_data"] >= 0.97
    fair &= metrics["legible_accuracy_on_shuffled"] <= 0.05
    fair &= metrics["completed_accuracy_by_others"] <= metrics["completed_accuracy"] - 0.1
    return read and fair and metrics["bits_plane_2"] <= 0.7 * metrics["bits_plane_0"]


def hears(metrics: dict) -> bool:
    """Every code makes the sound clearer; probes of key and pitch gain by training."""
    errors = [metrics[f"error_{q}"] for q in (1, 2, 3, 4)]
    clearer = all(later < earlier for earlier, later in pairwise(errors))
    gains = {
        name: metrics[f"{name}_accuracy"] - metrics[f"untrained_{name}_accuracy"]
        for name in ("key", "bass", "melody")
    }
    return clearer and min(gains.values()) > 0


def metrics_of_motion(metrics: dict) -> bool:
    """The samples do what was asked, within the training length and beyond; 10 mm a joint."""
    obeys = min(metrics["judge_accuracy"], metrics["judge_accuracy_late"])
    return obeys >= 0.9 and metrics["joint_error_mm"] <= 10


def metrics_of_video(metrics: dict) -> bool:
    """Clips come back sharp, and samples show each word of their captions."""
    words = [metrics[f"{word}_accuracy"] for word in ("shape", "colour", "direction")]
    return metrics["psnr"] >= LEAST_PSNR and min(words) >= LEAST_ACCURACY


@pytest.mark.skipif(find("fa_vae_photographs") is None, reason="the file is not kept yet")
def test_decoupling_pays_on_photographs_at_equal_training():
    header = read_header(find("fa_vae_photographs"))
    metrics, stages = header["metrics"], header["stages"].values()
    assert metrics["items"] >= 500 and metrics["decoupled_psnr"] >= LEAST_PSNR
    for rival in ("pixel", "coupled"):
        assert metrics["decoupled_high_mse"] < metrics[f"{rival}_high_mse"], rival
    settings = [stage["settings"] for stage in stages]
    assert len(settings) == 3 and all(other == settings[0] for other in settings)


@pytest.mark.skipif(find("rae") is None, reason="the file is not kept yet")
def test_tokens_can_be_painted_and_training_shows_in_every_seed():
    assert read_header(find("rae"))["metrics"]["psnr"] >= LEAST_PSNR_OF_TOKENS
    gates = Study("rae", "cpu").gates("encoders").set_index("id")
    assert gates.loc["trained-encoder", "passed"], "the untrained encoder is read as well"


@pytest.mark.skipif(find("ard_vae") is None, reason="the file is not kept yet")
def test_variances_fall_behind_the_fourth_axis_whatever_there_are():
    metrics = read_header(find("ard_vae"))["metrics"]
    for axes in (6, 12, 24):
        assert metrics[f"ard_{axes}_ratio"] >= LEAST_RATIO > 1.5 * metrics[f"vae_{axes}_ratio"]
        assert metrics[f"ard_{axes}_count"] == 4 and metrics[f"ard_{axes}_read"] >= 0.9


def test_equal_floats_agree_where_a_doubling_does_not():
    """Five values of E; three of them in two shapes that were trained alike."""
    header = read_header(find("vitok"))
    psnr = {k.removesuffix("_psnr"): v for k, v in header["metrics"].items() if "_psnr" in k}
    pairs = [("p8c2", "p16c8"), ("p8c8", "p4c2"), ("p8c16", "p4c4")]
    gaps = [abs(psnr[a] - psnr[b]) for a, b in pairs]
    small, large, largest = ((psnr[a] + psnr[b]) / 2 for a, b in pairs)
    rising = [psnr["p16c4"], small, psnr["p8c4"], large, largest]
    assert max(gaps) <= 0.3 < min(after - before for before, after in pairwise(rising)), "dB"
    settings = [s["settings"] for k, s in header["stages"].items() if k != "tuned"]
    assert len(settings) == 8 and all(other == settings[0] for other in settings)


def test_pictures_obey_their_graphs_and_the_detector_reads_real_ones():
    metrics = read_header(find("sg2im"))["metrics"]
    assert metrics["real_relations"] >= 0.99 and metrics["decoded_relations"] >= LEAST_READ
    assert metrics["drawn_relations"] >= LEAST_OBEYED and metrics["layout_directions"] >= 0.95


def test_orders_are_obeyed_or_refused_with_the_right_reason():
    """Answers behind the network's own pictures; both of a pair, which words alone never have."""
    metrics = read_header(find("atvc"))["metrics"]
    assert metrics["objects"] >= 0.95 and metrics["copied"] == 0
    assert metrics["right"] >= LEAST_ANSWERED and metrics["changed"] >= LEAST_CHANGED
    assert metrics["pairs"] >= LEAST_CHANGED and metrics["reason"] >= LEAST_ANSWERED
    assert abs(metrics["forbidden"] - metrics["forbidden_swapped"]) <= 0.03


@pytest.mark.parametrize("name", ["micro_diffusion", "micro_diffusion_masked"])
def test_sentences_are_obeyed_with_and_without_an_unmasked_end(name):
    """The rule reads true pictures, and decoded ones nearly as well; samples obey each word."""
    metrics = read_header(find(name))["metrics"]
    assert metrics["items"] >= 500 and metrics["real_all"] >= LEAST_READ
    assert metrics["decoded_all"] >= LEAST_OBEYED
    words = [metrics[f"drawn_{word}"] for word in ("shape", "colour", "place")]
    assert min(words) >= LEAST_ACCURACY and metrics["drawn_all"] >= LEAST_ACCURACY


def test_a_system_may_keep_a_second_file():
    assert weights.of("fa_vae_photographs").preset == "photographs-64"
    assert list(weights.of_system("fa_vae")) == ["fa_vae", "fa_vae_photographs"]
    assert list(weights.of_system("enat")) == ["enat"]
    assert list(weights.of_system("micro_diffusion")) == [
        "micro_diffusion",
        "micro_diffusion_masked",
    ]


def test_all_kept_weights_together_are_small():
    assert sum(path.stat().st_size for path in KEPT) <= 150_000_000
