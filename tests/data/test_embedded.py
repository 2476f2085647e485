"""Photographs, digits and text that need no download."""

import numpy as np
import pytest
import torch

from gentok.data import PHOTOGRAPHS, digits, photographs, photos, text


def test_photographs_are_labelled_patches():
    patches = photographs(size=32, split="train", seed=0, count=600)
    assert patches.images.shape == (600, 3, 32, 32)
    assert set(patches.labels.tolist()) == set(range(len(PHOTOGRAPHS)))
    assert patches.class_names == PHOTOGRAPHS
    # Real texture: most patches have contrast.
    assert float((patches.images.float().std((1, 2, 3)) > 10).float().mean()) > 0.6


def test_photographs_are_reproducible_and_splits_differ():
    a, b = photographs(seed=1, count=64), photographs(seed=1, count=64)
    assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
    assert not torch.equal(a.images, photographs(seed=2, count=64).images)
    assert not torch.equal(a.labels, photographs(seed=1, split="test", count=64).labels)


def test_a_train_patch_is_cut_out_of_its_photograph():
    patches = photographs(size=16, seed=5, count=200)
    label = PHOTOGRAPHS.index("astronaut")
    whole = photos._regions("train")[label]
    patch = next(p for p, k in zip(patches.images, patches.labels, strict=True) if k == label)
    windows = [region.unfold(1, 16, 1).unfold(2, 16, 1) for region in whole]
    found = [(w == patch[:, None, None]).all(-1).all(-1).all(0).any() for w in windows]
    assert any(found)


@pytest.mark.parametrize("size", [8, 32, 64])
def test_train_and_test_come_from_disjoint_regions(monkeypatch, size):
    """On a picture whose brightness is its column, no column serves both splits."""
    columns = np.tile(np.arange(256, dtype=np.uint8), (200, 1))
    monkeypatch.setattr(photos, "_load", lambda name: columns)
    photos._regions.cache_clear()
    try:
        train = photographs(size, "train", count=300).images
        test = photographs(size, "test", count=300).images
    finally:
        photos._regions.cache_clear()
    assert int(train.max()) < 192 <= int(test.min())
    assert int(train.min()) < 20 and int(test.max()) > 230


def test_digits():
    small, large = digits(), digits(size=16)
    assert small.images.shape == (1797, 3, 8, 8) and large.images.shape == (1797, 3, 16, 16)
    assert small.images.max() == 255 and small.images.min() == 0
    assert torch.equal(small.images[:, 0], small.images[:, 2])
    assert small.labels.bincount().min() > 150
    # Enlarging keeps the picture: averaged back, the two agree up to bicubic overshoot.
    back = torch.nn.functional.avg_pool2d(large.images.float(), 2)
    assert float((back - small.images.float()).abs().mean()) < 16


def test_text_is_english():
    words = text()
    assert len(words) > 300_000
    assert all(word in words for word in ("expression", "statement", "object"))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: photographs(split="valid"), "split"),
        (lambda: photographs(size=200), "size"),
        (lambda: photographs(count=0), "count"),
        (lambda: digits(size=4), "size"),
        (lambda: text("novel"), "source"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
