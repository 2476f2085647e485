"""Drawn architectures: what is drawn is inside, told without colour, and described."""

import re
from xml.etree import ElementTree

import pytest

from gentok.show.diagram import INK, NEW_EDGE, PAPER, QUIET, Diagram

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def diagram():
    return Diagram("A < B", "Two boxes, one arrow.", 400, 200)


def luminance(colour):
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("ink", [INK, QUIET, NEW_EDGE])
@pytest.mark.parametrize("paper", [PAPER, "#ffffff", "#fde3bd", "#e6eef5"])
def test_words_have_contrast(ink, paper):
    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_it_is_svg_with_title_and_description(diagram):
    a = diagram.box("encoder", (10, 50), (120, 60), ["2 blocks"], new=True)
    b = diagram.box("judge", (250, 50), (120, 60), frozen=True)
    diagram.arrow(a.right(), b.left())
    diagram.note("(B, N, D)", (190, 70), mono=True)
    diagram.legend((10, 180))
    tree = ElementTree.fromstring(diagram.svg())
    assert tree.get("role") == "img" and tree.get("viewBox") == "0 0 400 200"
    assert tree.find(f"{SVG}title").text == "A < B"
    assert tree.find(f"{SVG}desc").text == "Two boxes, one arrow."
    words = [node.text for node in tree.iter(f"{SVG}text")]
    assert {"encoder", "2 blocks", "judge", "new", "(B, N, D)"} <= set(words)
    assert {"new in this paper", "frozen"} <= set(words)
    assert not {"data", "a part, trained"} & set(words), "the legend lists what was drawn only"


def test_nothing_is_loaded_and_no_script_runs(diagram):
    diagram.tokens((10, 50), [["new", "old", "masked"]])
    text = diagram.svg()
    assert not re.search(r"<script|<style|<image|url\((?!#)|href", text)
    assert re.findall(r"https?://\S+", text) == ['http://www.w3.org/2000/svg"']


def test_new_and_frozen_are_not_told_by_colour_alone(diagram):
    diagram.box("plain", (10, 50), (80, 40))
    plain = diagram.svg()
    diagram.box("frozen", (110, 50), (80, 40), frozen=True)
    diagram.box("added", (210, 50), (80, 40), new=True)
    text = diagram.svg()[len(plain) - 10 :]
    assert 'stroke-dasharray="6 4"' in text and ">new</text>" in text


def test_arrows_join_the_sides_of_boxes(diagram):
    a, b = (diagram.box("f", (x, 50), (80, 40)) for x in (10, 210))
    assert a.right() == (90, 70) and b.left() == (210, 70)
    assert a.top(0.25) == (30, 50) and b.bottom(1) == (290, 90)
    diagram.arrow(a.right(), (150, 70), (150, 150), b.bottom())
    assert 'd="M90 70 L142 70 Q150 70 150 78 ' in diagram.svg()


def test_what_does_not_fit_is_an_error(diagram):
    with pytest.raises(ValueError, match="leaves the drawing of 400x200"):
        diagram.box("far", (350, 50), (80, 40))
    with pytest.raises(ValueError, match="'a long description' does not fit"):
        diagram.box("f", (10, 50), (80, 40), ["a long description"])
    with pytest.raises(ValueError, match="a token is one of"):
        diagram.tokens((10, 50), [["hidden"]])
