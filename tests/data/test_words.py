"""Words: every sentence of the world goes there and back; anything else is refused by name."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gentok.data import captions, sample_scenes
from gentok.data.clips import DIRECTIONS, SPEEDS, caption
from gentok.data.words import WORLD_WORDS, Words, split_words, word_mask
from gentok.data.world import COLOURS, SHAPES


def test_every_caption_of_the_world_comes_back():
    words, texts = Words(), captions(sample_scenes(300, 0, max_objects=4))
    ids = words.encode(texts, 64, start=True, end=True)
    assert words.decode(ids) == texts
    used = word_mask(ids).sum(1)
    assert used.tolist() == [len(split_words(text)) + 2 for text in texts]


def test_every_caption_of_a_clip_comes_back():
    looks = [(c, s, d) for c in range(len(COLOURS)) for s in range(len(SHAPES)) for d in range(4)]
    texts = [caption(*look, manner) for look in looks for manner in ("", *SPEEDS)]
    words = Words()
    assert words.decode(words.encode(texts, 6)) == texts
    assert len(set(texts)) == len(COLOURS) * len(SHAPES) * len(DIRECTIONS) * 3


@given(st.lists(st.sampled_from([w for w in WORLD_WORDS if w not in ",."]), max_size=9), st.data())
def test_there_and_back(chosen, data):
    words, text = Words(), " ".join(chosen)
    start, end = data.draw(st.booleans()), data.draw(st.booleans())
    ids = words.encode([text], 11, start, end)
    assert words.decode(ids) == [text]
    assert ids[0, : len(chosen) + start + end].gt(0).all() and not ids[0, 11:].any()


def test_numbers_do_not_depend_on_use():
    words = Words(["red", "disc"])
    assert len(words) == 5
    assert words.encode(["Red disc", "disc"], 4, start=True, end=True).tolist() == [
        [1, 3, 4, 2],
        [1, 4, 2, 0],
    ]
    assert words.decode(torch.tensor([[1, 4, 2, 3]])) == ["disc"], "read beyond the end"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Words().encode(["a mauve disc"], 8), "unknown word 'mauve' in 'a mauve disc'"),
        (lambda: Words().encode(["a red disc"], 2), "at most 2 places, got 3 for 'a red disc'"),
        (lambda: Words().encode(["a red disc"], 4, True, True), "at most 4 places, got 5"),
        (lambda: Words(["red", "red"]), "got red more than once"),
        (lambda: Words(["left of"]), "got 'left of'"),
        (lambda: Words(["Red"]), "got 'Red'"),
        (lambda: Words(["red"]).decode(torch.tensor([[4]])), r"ids must lie in \[0, 4\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
