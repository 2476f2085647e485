"""Image sets and batches: pure functions of the step, each item once an epoch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentok.data import ImageSet, batches, generator, to_float, to_uint8


def numbered(n: int, size: int = 4) -> ImageSet:
    """Image i is filled with i, except that its left half is darker by half."""
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, size, size)
    images[..., : size // 2] //= 2
    return ImageSet(images, torch.arange(n), tuple(str(i) for i in range(n)), "numbers")


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 40), size=st.integers(1, 50), seed=st.integers(0, 5))
def test_every_epoch_visits_each_item_once(n, size, seed):
    batch = batches({"item": torch.arange(n)}, size, seed)
    steps = -(-3 * n // size)  # enough for three epochs
    row = torch.cat([batch(step)["item"] for step in range(steps)])
    assert all(len(batch(step)["item"]) == size for step in range(steps))
    for epoch in range(3):
        assert sorted(row[epoch * n : (epoch + 1) * n].tolist()) == list(range(n))


def test_batches_depend_on_seed_and_step_only():
    source = numbered(50)
    first, second = batches(source, 8, seed=3, flip=True), batches(source, 8, seed=3, flip=True)
    forward = [first(step) for step in range(20)]
    backward = [second(step) for step in reversed(range(20))][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert torch.equal(a["image"], b["image"]) and torch.equal(a["label"], b["label"])
    other = batches(source, 8, seed=4)(0)
    assert not torch.equal(forward[0]["label"], other["label"])


def test_epochs_are_shuffled_differently():
    batch = batches({"item": torch.arange(100)}, 100)
    assert not torch.equal(batch(0)["item"], batch(1)["item"])


def test_images_come_as_floats_and_labels_go_with_them():
    batch = batches(numbered(200), 64)(5)
    assert batch["image"].dtype == torch.float32 and batch["image"].shape == (64, 3, 4, 4)
    right = to_uint8(batch["image"])[:, 0, 0, -1]
    assert torch.equal(right.long(), batch["label"])


def test_flip_mirrors_about_half_of_the_images():
    plain, flipped = batches(numbered(200), 128), batches(numbered(200), 128, flip=True)
    a, b = plain(2)["image"], flipped(2)["image"]
    mirrored = torch.tensor([torch.equal(x.flip(-1), y) for x, y in zip(a, b, strict=True)])
    kept = torch.tensor([torch.equal(x, y) for x, y in zip(a, b, strict=True)])
    assert bool((mirrored | kept).all())
    assert 40 <= int(mirrored.sum()) <= 88  # 64 +- 4 standard deviations


def test_tokens_pass_unchanged():
    codes = torch.randint(512, (10, 16))
    assert batches({"codes": codes}, 4)(0)["codes"].dtype == torch.int64


def test_bytes_survive_the_way_to_floats_and_back():
    every = torch.arange(256, dtype=torch.uint8)
    floats = to_float(every)
    assert floats.min() == -1 and floats.max() == 1
    assert torch.equal(to_uint8(floats), every)
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_split_is_disjoint_and_complete():
    left, right = numbered(50).split(0.7, seed=1)
    assert (len(left), len(right)) == (35, 15)
    assert sorted(torch.cat([left.labels, right.labels]).tolist()) == list(range(50))


def test_generators_of_neighbouring_keys_differ():
    keys = [(0, 1), (1, 0), (0, 2), (0,), (1,)]
    draws = {tuple(torch.rand(4, generator=generator(*k)).tolist()) for k in keys}
    assert len(draws) == len(keys)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: batches({}, 4), "batch_size"),
        (lambda: batches({"a": torch.zeros(3)}, 0), "batch_size"),
        (lambda: batches({"a": torch.zeros(0)}, 2), "batch_size"),
        (lambda: batches({"a": torch.zeros(3), "b": torch.zeros(4)}, 2), "equal length"),
        (lambda: batches({"a": torch.zeros(3)}, 2)(-1), "step"),
        (lambda: generator(-1), "seeds"),
        (lambda: numbered(4).split(1.5), "fraction"),
        (lambda: numbered(4).split(0.01), "fraction"),
        (lambda: ImageSet(torch.zeros(2, 3, 4, 4), torch.zeros(2).long(), ("a",), ""), "images"),
        (
            lambda: ImageSet(
                torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3).long(), ("a",), ""
            ),
            "labels",
        ),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
