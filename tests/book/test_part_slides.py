"""Decks of the parts: every page gives one, whole and in order."""

import re

import pytest

from gentok.book import pairs, registry
from gentok.book.part_slides import part_deck

ROOT = pairs.find_root()
PAGE = """# Toys

**The question of this part.** Why?

## The shared idea

Much is said. One sentence leads to it:

$$
x = y
$$ (eq-toy)

## The systems

**Alpha** {cite:p}`someone2020` *does it.* It does more. It does too much. (Planned.)

## How they relate

| system | way |
|---|---|
| Alpha | any |

## To discuss

1. Is it so?

## Further reading
"""


def slides_of(deck):
    parts = re.findall(r"<section>(.*?)</section>", deck, re.S)
    return [re.sub(r"<[^>]*>", " ", part).split() for part in parts]


def test_slides_of_a_page_in_order(tmp_path):
    page = tmp_path / "toys.md"
    page.write_text(PAGE, "utf-8")
    found = [" ".join(words) for words in slides_of(part_deck(page))]
    assert found[0] == "Toys part toys · Generative Tokenizers"
    assert found[1] == "The question Why?"
    assert found[2].startswith("The shared idea One sentence leads to it:") and "x = y" in found[2]
    assert found[3] == "Alpha Alpha does it. It does more."
    assert found[4] == "How they relate system way Alpha any"
    assert found[5] == "To discuss Is it so?" and len(found) == 6


@pytest.mark.parametrize("missing", ["**The question of this part.**", "## To discuss"])
def test_an_incomplete_page_is_refused(tmp_path, missing):
    page = tmp_path / "toys.md"
    page.write_text(PAGE.replace(missing, "## Nothing"), "utf-8")
    with pytest.raises(ValueError, match=re.escape(missing.strip("#* "))):
        part_deck(page)


@pytest.mark.parametrize("part", registry.PARTS)
def test_every_part_has_a_deck_and_four_questions(part):
    deck = part_deck(ROOT / "book" / "parts" / f"{part}.md")
    slides = slides_of(deck)
    systems = sum(system.part == part for system in registry.systems())
    assert len(slides) >= 3 + systems, "a slide a system"
    assert deck.count("<li>") >= 4 and 'class="math' in deck
    text = re.sub(r"<script>.*?</script>", "", deck, flags=re.S)
    assert "{cite" not in text and "{term}" not in text and "src=" not in text
