"""What pages say of the book is made from it, and the committed files are what is made."""

import json
import re

import pytest

from gentok.book import graph, pages, registry
from gentok.book.pairs import find_root

ROOT = find_root()
STATES = {system.slug: system.state for system in registry.systems()}


def test_committed_files_are_what_is_made():
    differing = [
        str(path.relative_to(ROOT))
        for path, text in pages.generated(ROOT).items()
        if not path.is_file() or path.read_text("utf-8") != text
    ]
    assert differing == [], "run: python -m gentok.book.pages"


def test_the_readme_links_finished_chapters_and_no_others():
    table = pages.chapter_table(ROOT)
    linked = set(re.findall(r"\[`(\w+)`\]\(notebooks/", table))
    assert linked == {slug for slug, state in STATES.items() if state == "complete"}
    for line in table.split("\n")[4:]:
        assert (
            line.count("|") == 7
            and line.split("|")[-2].strip() == STATES[re.search(r"`(\w+)`", line)[1]]
        )


def test_the_graph_has_a_box_for_each_chapter_and_an_arrow_for_each_need():
    svg = graph.prerequisites_svg()
    assert all(f">{slug}</text>" in svg for slug in STATES)
    needs = sum(len(registry.prerequisites(slug)) for slug in STATES)
    assert svg.count("marker-end") == needs
    complete = list(STATES.values()).count("complete")
    assert f"finished ({complete})" in svg
    assert svg.count('font-weight="700" text-anchor="middle"') == complete
    assert graph.depth("fa_vae") == 0 and graph.depth("inference_survey") == 3


def test_counts_are_words():
    counts = pages.counts()
    assert counts["systems"] == "34" and counts["Complete"] == counts["complete"].capitalize()
    assert [pages.in_words(n) for n in (0, 11, 20, 21)] == ["no", "eleven", "twenty", "21"]


@pytest.mark.parametrize("page", sorted((ROOT / "book").glob("*.md")), ids=lambda p: p.stem)
def test_no_page_counts_chapters_by_hand(page):
    words = "|".join([*pages.NUMBERS, *map(str, range(35))])
    pattern = rf"\b({words}) (of the (34|\S+) )?chapters are complete|the other \d+ systems"
    assert re.findall(pattern, page.read_text("utf-8"), re.I) == []


def test_course_plans_ask_for_finished_chapters_only():
    text = (ROOT / "book" / "teaching.md").read_text("utf-8")
    planned = [slug for slug, state in STATES.items() if state == "planned" and f"`{slug}`" in text]
    assert planned == []
    for part, slug in re.findall(r"/notebooks/(\w+)/(\w+)", text):
        assert registry.get(slug).part == part and STATES[slug] == "complete"


@pytest.mark.parametrize(
    ("output", "seconds"),
    [
        ({"data": {"text/plain": ["profile cpu\n", "wall time   61 s"]}}, 61),
        (
            {
                "data": {"application/papermill.record/text/plain": "'75'"},
                "metadata": {"scrapbook": {"name": "demo_seconds"}},
            },
            75,
        ),
        ({"text": "nothing"}, None),
    ],
)
def test_seconds_come_from_the_stored_run(tmp_path, output, seconds):
    path = tmp_path / "demo.ipynb"
    path.write_text(json.dumps({"cells": [{"outputs": [output]}, {}]}))
    assert pages.stored_seconds(path) == seconds


def test_a_page_without_marks_is_an_error():
    assert pages.between(f"a\n{pages.BEGIN}\nold\n{pages.END}\nb", "new").split("\n")[2] == "new"
    with pytest.raises(ValueError, match="needs a line"):
        pages.between("a", "new")
