"""`gentok train matformer` and `gentok sample matformer`, as small as they go."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import gentok
from gentok.efficient.matformer import recipe
from gentok.efficient.matformer.family import Family, untrained
from gentok.efficient.matformer.model import PRESETS, MatLM, MatViT
from gentok.efficient.matformer.sizes import NAMES
from gentok.training.checkpoint import load_checkpoint
from gentok.training.profiles import Profile
from gentok.training.weights import CHECKOUT, find, read_header

SMOKE = Profile("smoke", (0,), "cpu")
CPU = Profile("cpu", (0,), "cpu")
GPU = Profile("gpu", (0,), "cpu")


def test_train_resume_and_write(tmp_path, monkeypatch, capsys):
    out = tmp_path / "lm.safetensors"
    small = replace(PRESETS["tiny"], dim=32, hidden=64, context=32)
    monkeypatch.setitem(PRESETS, "tiny", small)
    network = recipe.train("tiny", SMOKE, out=out, resume=False, seed=0)
    assert isinstance(network, MatLM) and not network.training
    again = recipe.train("tiny", SMOKE, out=out, resume=True, seed=0)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    assert load_checkpoint(out)[1]["step"] == 4
    texts = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in texts:
        recipe.sample(out, path, n=2, seed=1)
    assert texts[0].read_text() == texts[1].read_text()
    body = texts[0].read_text()
    assert body.count("drafts accepted") == 2 and len(body) > 480
    assert capsys.readouterr().out.count("tokens for each pass of XL") == 4


def test_train_a_vit_and_draw_its_retrieval(tmp_path, monkeypatch):
    out = tmp_path / "vit.safetensors"
    monkeypatch.setitem(
        PRESETS, "tiny-vit", replace(PRESETS["tiny-vit"], dim=16, hidden=32, depth=2)
    )
    network = recipe.train("tiny-vit", SMOKE, out=out, resume=False, seed=0)
    assert isinstance(network, MatViT)
    recipe.sample(out, tmp_path / "a.png", n=5, seed=0)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (160, 64)


def test_twins_are_trained_beside_the_nested_network(tmp_path):
    out = tmp_path / "a.safetensors"
    recipe.train("study-text", SMOKE, out=out, resume=False, seed=0)
    family = Family(**recipe.WEIGHTS.collect(out))
    start = untrained(PRESETS["study-text"], 0)
    for name, twin in family.twins.items():
        assert load_checkpoint(tmp_path / f"a.{name}.safetensors")[1]["step"] == 3
        assert twin.config == start.twins[name].config
        moved = (twin.embedding.weight - start.twins[name].embedding.weight).abs().max()
        assert 0 < moved < 0.1, "the twin did not start from the family's numbers"
    found = recipe.WEIGHTS.measure(family, 4)
    assert set(found) == {f"{k}_{n}" for k in ("slice", "twin") for n in ("S", "M", "L", "XL")} | {
        "excess"
    }


@pytest.mark.parametrize("preset", ["text", "study-text", "study-mixtures", "study-digits"])
def test_a_granularity_is_drawn_as_often_as_its_twin_steps(preset):
    task = recipe.plan(preset, CPU)
    assert task.model.steps == 4 * task.twin.steps
    assert replace(task.model, steps=0) == replace(task.twin, steps=0), "all else is alike"


KEPT = find("matformer", CHECKOUT)


@pytest.mark.skipif(KEPT is None, reason="no weights are kept in this checkout")
def test_each_kept_cut_is_as_good_as_its_twin():
    """The gate of the weights: every cut within 5 % of a network that was trained alone."""
    metrics = read_header(KEPT)["metrics"]
    family = gentok.pretrained("matformer", CHECKOUT)
    items = metrics.pop("items")
    again = recipe.WEIGHTS.measure(family, items)
    assert items >= 500 and again == pytest.approx(metrics, abs=1e-3)
    assert again["excess"] <= 0.05
    for kind in ("slice", "twin"):
        losses = [again[f"{kind}_{name}"] for name in NAMES]
        assert losses == sorted(losses, reverse=True), "a larger network should not be worse"


def test_published_presets_ask_for_their_data(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="tokens of a vocabulary of 256,000"):
        recipe.train("matlm-78m", GPU, out=None, resume=False, seed=0)
    with pytest.raises(FileNotFoundError, match="images of 224 pixels"):
        recipe.train("matvit-b16", GPU, out=None, resume=False, seed=0)


def test_published_encoders_learn_from_augmented_crops_and_mixed_labels(monkeypatch, tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), dtype=np.uint8)
    for name, pixels in zip(("cat", "dog"), colours, strict=True):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "images" / name / "0.png")
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    small = replace(PRESETS["matvit-b16"], image_size=32, num_classes=2)
    monkeypatch.setitem(PRESETS, "matvit-b16", small)
    batch = recipe.batches_of(replace(recipe.plan("matvit-b16", SMOKE), size=small), seed=0)(0)
    assert batch["label"].shape == (2, 2) and batch["label"].sum(1).tolist() == [1, 1]
    crops = [
        np.asarray(recipe.augmented_crop(Image.fromarray(colours[0]), 32, np.random.default_rng(i)))
        for i in range(6)
    ]
    assert len({crop.tobytes() for crop in crops}) == 6, "every crop is another"
    how = recipe.plan("matvit-b16", GPU).model
    assert (how.lr, how.weight_decay, how.batch_size, how.warmup) == (1e-3, 0.1, 2048, 10_000)
    assert (how.betas, how.schedule, how.clip) == ((0.9, 0.999), "cosine", 1.0)
    assert (small.dropout, small.stochastic_depth) == (0.1, 0.1)


def test_token_files_are_read_and_checked(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    (tmp_path / "text").mkdir()
    config = replace(PRESETS["matlm-78m"], dim=16, depth=1, hidden=16, num_heads=2, context=8)
    monkeypatch.setitem(PRESETS, "matlm-78m", replace(config, vocab_size=50))
    np.save(tmp_path / "text" / "tokens.npy", np.arange(400, dtype=np.uint32) % 50)
    assert isinstance(recipe.train("matlm-78m", SMOKE, out=None, resume=False, seed=0), MatLM)
    np.save(tmp_path / "text" / "tokens.npy", np.zeros(400))
    with pytest.raises(ValueError, match="one row of whole numbers"):
        recipe.train("matlm-78m", SMOKE, out=None, resume=False, seed=0)


@pytest.mark.parametrize(
    ("preset", "objective", "steps"),
    [
        ("matlm-78m", "sampling", 40_000),
        ("matlm-78m", "joint", 10_000),
        ("matlm-850m", "sampling", 320_000),
        ("matvit-b16", "joint", 187_671),
    ],
)
def test_published_training_lengths(monkeypatch, preset, objective, steps):
    monkeypatch.setitem(PRESETS, preset, replace(PRESETS[preset], objective=objective))
    assert recipe.plan(preset, GPU).model.steps == steps


def test_sampling_without_a_checkpoint_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        recipe.sample(tmp_path / "absent.safetensors", tmp_path / "a.txt", n=1, seed=0)
