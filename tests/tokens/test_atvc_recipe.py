"""The recipe of `gentok train atvc`: plans, files, and readers of the two published sets."""

import json

import pytest
import torch
from PIL import Image

from gentok.tokens.atvc import recipe
from gentok.tokens.atvc.dvae import DVAEConfig, build_dvae
from gentok.tokens.atvc.model import build
from gentok.tokens.atvc.orders import UNDER
from gentok.tokens.atvc.pairs import PairBatches, clip_words, read_pairs
from gentok.tokens.atvc.plans import plan
from gentok.tokens.atvc.stream import StreamConfig
from gentok.training.loop import load_model
from gentok.training.profiles import Profile
from gentok.training.stages import stage

SMOKE, CPU, GPU = (Profile(name, (0,), "cpu") for name in ("smoke", "cpu", "gpu"))


def test_published_plans():
    for name, size in (("clevr-atvc", 128), ("fruit-atvc", 256)):
        task = plan(name, GPU)
        assert (task.tokenizer.lr, task.stream.lr, task.stream.clip) == (1e-3, 3e-4, 0.5)
        assert task.tokenizer_size.image_size == size and task.tokenizer_size.floor == 0.5
        assert task.size.codebook_size == task.tokenizer_size.codebook_size == 8192
        assert task.size.grid == task.tokenizer_size.grid == 32
    with pytest.raises(ValueError, match="unknown preset"):
        plan("huge", GPU)


def test_small_plans():
    for name in ("tiny", "orders-24"):
        task = plan(name, CPU)
        assert task.size.codebook_size == task.tokenizer_size.codebook_size
        assert task.size.grid == task.tokenizer_size.grid
        assert task.tokenizer_size.anneal <= 2 * task.tokenizer.steps // 3 < task.tokenizer.steps
    assert UNDER in plan("orders-24", CPU).templates


def test_trains_keeps_and_answers(tmp_path, capsys):
    out = tmp_path / "run.safetensors"
    model = recipe.train("orders-24", SMOKE, out=out, resume=False, seed=0)
    beside = stage(out, "tokenizer")
    again = load_model(out, StreamConfig, build, after=beside)
    assert all(torch.equal(again.state_dict()[k], v) for k, v in model.state_dict().items())
    assert load_model(beside, DVAEConfig, build_dvae).config.grid == 3
    recipe.sample(out, tmp_path / "samples.png", n=3, seed=0)
    assert Image.open(tmp_path / "samples.png").size == (3 * 24, 2 * 24)
    said = capsys.readouterr().out.splitlines()
    assert len([line for line in said if line[:2] in ("1.", "2.", "3.")]) == 3
    assert "please" in "".join(said)


def test_the_tokenizer_rests_while_the_stream_learns():
    task, orders = plan("tiny", SMOKE), recipe.draw(plan("tiny", SMOKE), 0)
    tokenizer = recipe.train_tokenizer(task, orders, SMOKE, 0, progress=False).model
    before = {k: v.clone() for k, v in tokenizer.state_dict().items()}
    recipe.train_stream(task, orders, SMOKE, 0, tokenizer, progress=False)
    assert all(torch.equal(before[k], v) for k, v in tokenizer.state_dict().items())


# --- published sets -------------------------------------------------------------------------------


def made(folder, rows, name="tain_annotation.json"):
    base = folder / "train2023"
    for part in ("V", "M"):
        (base / part).mkdir(parents=True, exist_ok=True)
        for k in range(2):
            Image.new("RGB", (60, 40), (200 * (part == "V"), 30, 90 * k)).save(
                base / part / f"{k}.png"
            )
    (base / name).write_text(json.dumps(rows))
    return folder


ROWS = [
    {"T": "Please remove PEAR.", "V": "0.png", "M": "1.png", "A": "No problem."},
    {"T": "Please remove APPLE.", "V": "1.png", "M": None, "A": "This action cannot be done."},
]


@pytest.mark.parametrize("name", ["tain_annotation.json", "train_annotation.json"])
def test_pairs(tmp_path, name):
    entries = read_pairs("fruit-atvc", folder=made(tmp_path, ROWS, name))
    assert [entry.after is None for entry in entries] == [False, True]

    def read(texts, length):
        return torch.tensor([[len(text)] * length for text in texts])

    draw = PairBatches(entries, 16, 5, 0, read, (3, 2))
    batch, again = draw(4), draw(4)
    assert all(torch.equal(batch[k], again[k]) for k in batch)
    assert batch["before"].shape == batch["after"].shape == (5, 3, 16, 16)
    assert batch["order"].shape == (5, 3) and batch["answer"].shape == (5, 2)
    same = (batch["before"] == batch["after"]).flatten(1).all(1)
    assert torch.equal(same, ~batch["obeyed"]) and 0 < same.sum() < 5


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([ROWS[0], {"T": "x", "V": "0.png"}], ValueError, "entry 1 must have the keys"),
        ([{**ROWS[0], "A": 3}], ValueError, "entry 0: A must be a text"),
        ([{**ROWS[0], "V": None}], ValueError, "entry 0: V must be a text"),
        ([{**ROWS[0], "M": "7.png"}], FileNotFoundError, "entry 0: no picture"),
        ([{**ROWS[0], "V": "../M/0.png"}], ValueError, "leaves its folder"),
        ([], ValueError, "must hold a list"),
        ({"T": 1}, ValueError, "must hold a list"),
    ],
)
def test_bad_pairs_are_named(tmp_path, rows, error, words):
    made(tmp_path, rows)
    with pytest.raises(error, match=words) as caught:
        read_pairs("clevr-atvc", folder=tmp_path)
    assert "train2023" in str(caught.value)


def test_files_that_are_no_json_or_absent(tmp_path, monkeypatch):
    made(tmp_path, ROWS)
    (tmp_path / "train2023" / "tain_annotation.json").write_text("{")
    with pytest.raises(ValueError, match="tain_annotation.json cannot be read as JSON"):
        read_pairs("clevr-atvc", folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="no test_annotation.json"):
        read_pairs("clevr-atvc", "test", tmp_path)
    with pytest.raises(ValueError, match="unknown set"):
        read_pairs("coco", folder=tmp_path)
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="CLEVR-ATVC"):
        recipe.train("clevr-atvc", SMOKE, out=None, resume=False, seed=0)
    with pytest.raises(FileNotFoundError, match="CLIP"):
        clip_words(["please"], 5)
