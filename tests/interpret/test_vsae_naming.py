"""The list of concepts, against slow answers; and the rule that gives a feature a name."""

import numpy as np
import pytest
import torch
from tests.interpret.sample_texts import MANUAL, PLAY

from gentok.interpret.vsae.concepts import Concept, concepts
from gentok.interpret.vsae.microscope import HeldOut
from gentok.interpret.vsae.naming import Name, Places, name_features, named

TEXT = 'ROMEO:\nThe thief said "go, then", (then) a_b.c = 12.\n\nOther: no.\n    if x:\n***** >>> y'


@pytest.fixture(scope="module")
def masks():
    return {concept.name: mask for concept, mask in concepts(TEXT)}


def picked(masks, name):
    return "".join(character for character, on in zip(TEXT, masks[name], strict=True) if on)


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("a digit", "12"),
        ("a capital letter", "ROMEOTO"),
        ("the character 'x'", "x"),
        ("the second letter of 'th'", "hhhh"),
        ("the last letter of a word's beginning 'the'", "ee"),
        ("the last letter of a word's beginning 'then'", "nn"),
        ("the letter after 'i'", "edf"),
        ("the blank after 'f'", "  "),
        ("the third letter of a word", "Meiieeh"),
        ("inside round brackets", "then"),
        ("inside double quotes", "go, then"),
        ("the first letter inside brackets", "t"),
        ("in a name with a low line, after the low line", "b"),
        ("in a dotted name, after the dot", "c"),
        ("in a word of capitals", "OMEO"),
        ("in a speaker's name", "ROMEO"),
        ("the line break after a speaker's name", "\n"),
        ("the blank after a comma", "  "),
        ("a digit after a digit", "2"),
        ("the first letter of a sentence", "O"),
        ("in the first word of a sentence", "Other"),
        ("an empty line", "\n"),
        ("the first character after an empty line", "O"),
        ("indentation", "    "),
        ("the first character after indentation", "i"),
        ("a repeated sign, as under a heading", "***>"),
        ("in a prompt or a comment", ">>> y"),
        ("the line break after a colon", "\n\n"),
        ("in the first word of a line", "ROMEOTheOtherif"),
    ],
)
def test_a_concept_holds_where_it_says(masks, name, holds):
    assert picked(masks, name) == holds


def test_the_list_is_the_same_for_every_text_and_names_are_distinct():
    lists = [[concept for concept, _ in concepts(text)] for text in (TEXT, PLAY, MANUAL)]
    assert lists[0] == lists[1] == lists[2] and len(set(lists[0])) == len(lists[0]) > 1000


def test_places_in_words_count_letters(masks):
    slow, run = [], 0
    for character in TEXT:
        run = run + 1 if character.isalpha() else 0
        slow.append(run)
    for number, name in enumerate(("first", "second", "third", "fourth", "fifth"), 1):
        assert (np.array(slow) == number).tolist() == masks[f"the {name} letter of a word"].tolist()


def sides(features, seed=0):
    """One text finds, another judges: both PLAY, in two orders of its parts."""
    return [(features[half], Places.of(text, np.arange(len(text)))) for half, text in enumerate(
        (PLAY, PLAY[len(PLAY) // 2 :] + PLAY[: len(PLAY) // 2])
    )]  # fmt: skip


def activations(*names):
    """Features that fire exactly where some concepts hold, in both texts."""
    halves = []
    for text in (PLAY, PLAY[len(PLAY) // 2 :] + PLAY[: len(PLAY) // 2]):
        masks = {concept.name: mask for concept, mask in concepts(text)}
        halves.append(torch.tensor(np.stack([masks[name] for name in names], 1)).float())
    return halves


def test_a_feature_that_is_a_concept_gets_its_name():
    wanted = ("the second letter of 'ig'", "the line break after a colon", "a digit")
    names = name_features(*sides(activations(*wanted)))
    assert [n.holds for n in names] == [True] * 3
    assert {n.feature: n.f1 for n in names} == {0: 1.0, 1: 1.0, 2: 1.0}
    by_feature = {n.feature: n.concept.name for n in names}
    assert by_feature[2] == wanted[2]
    assert len(named(names, beyond_characters=True)) == len(named(names)) - 1


def test_weak_firing_elsewhere_is_cut_by_the_threshold():
    halves = activations("a digit")
    noisy = [half + 0.05 * (torch.rand(half.shape) < 0.5) for half in halves]
    (name,) = name_features(*sides(noisy))
    assert name.concept.name == "a digit" and name.holds and name.threshold > 0.05


def test_the_judge_may_say_no():
    find, judge = activations("a digit")
    (name,) = name_features(*sides([find, judge.roll(7, 0)]))
    assert name.concept.name == "a digit" and not name.holds
    assert named([name]) == []


def test_precision_and_recall_are_both_asked():
    digit = Concept("a digit", "character")
    assert Name(0, digit, 0.0, 0.7, 0.7).holds
    assert not Name(0, digit, 0.0, 0.69, 1.0).holds and not Name(0, digit, 0.0, 1.0, 0.69).holds


def test_one_feature_a_concept_and_rare_features_none():
    find, judge = activations("a digit", "a digit", "a digit")
    for half in (find, judge):
        half[:, 1] *= torch.rand(len(half)) < 0.9  # the same concept, less well
        half[19:, 2] = 0.0
    names = name_features(*sides([find, judge]))
    assert {n.feature for n in names} == {0, 1}
    assert [n.feature for n in named(names)] == [0]


def test_random_activations_have_no_names():
    noise = torch.Generator().manual_seed(0)
    shape = (len(PLAY), 30)
    halves = [torch.rand(shape, generator=noise) * (torch.rand(shape) < 0.05) for _ in range(2)]
    assert named(name_features(*sides(halves))) == []


def test_held_out_text_comes_back_in_halves():
    held = HeldOut.of({"one": "aabbccdd\N{SNOWMAN}", "two": "xxyy"}, piece=2)
    assert held.texts("find") == {"one": "aacc?", "two": "xx"}
    assert held.texts("judge") == {"one": "bbdd", "two": "yy"}
    again = HeldOut(held.config)
    again.load_state_dict(held.state_dict())
    assert again.texts("judge") == held.texts("judge")
