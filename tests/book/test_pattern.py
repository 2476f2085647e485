"""The shape of a chapter, counted: for the chapters that are written in it.

A chapter joins `PATTERNED` when it is rewritten; nothing leaves the list.
"""

import re
from pathlib import Path

import nbformat
import pytest

from gentok.book import pages, pairs

ROOT = pairs.find_root()
PATTERNED = [  # slugs
    "ard_vae",
    "atvc",
    "axial",
    "cvt",
    "enat",
    "fa_vae",
    "matformer",
    "mert",
    "micro_diffusion",
    "mogo",
    "point_mae",
    "rae",
    "sg2im",
    "step_video",
    "vitok",
    "vsae",
]
every_chapter = pytest.mark.parametrize("slug", PATTERNED)

LINES, CELL_LINES, SECONDS = 250, 20, 300
HIDDEN = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
EXERCISE = re.compile(r"^[`:]{3,}\{exercise(?:-start)?\}", re.M)
FALLBACK = re.compile(
    r"\bno [\w -]{1,40}\bhere\b|\bfall(?:s|ing)? back\b|has no (?:recorded|trained)",
    re.I,
)
NEEDED = ("Predict first", "## What we learned", "## Limits", "## Further reading")


class Shape:
    """What is counted of a chapter.

    Args:
        notebook: the executed notebook.
        slug: its name.
    """

    def __init__(self, notebook, slug: str):
        cells = notebook.cells
        self.slug = slug
        self.code = [cell for cell in cells if cell.cell_type == "code"]
        self.text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")

    def visible(self) -> list[str]:
        """The sources of the cells that show their code."""
        return [
            cell.source
            for cell in self.code
            if not HIDDEN & set(pairs.tags_of(cell))
            and not cell.metadata.get("jupyter", {}).get("source_hidden")
        ]

    def printed(self) -> str:
        """All text of all outputs."""
        texts = []
        for output in (output for cell in self.code for output in cell.outputs):
            data = output.get("data", {})
            texts += [output.get("text", ""), *(v for k, v in data.items() if "text/" in k)]
        return "\n".join(texts)

    def glued(self) -> set[str]:
        """Names of values that the run filled in."""
        metadata = [o.get("metadata", {}) for cell in self.code for o in cell.outputs]
        return {m["scrapbook"]["name"] for m in metadata if "scrapbook" in m}

    def slides(self) -> tuple[int, int]:
        """Tagged cells with a picture, and tagged cells without."""
        tagged = [cell for cell in self.code if "slide" in pairs.tags_of(cell)]
        pictures = [
            any("image/" in kind for output in cell.outputs for kind in output.get("data", {}))
            for cell in tagged
        ]
        return sum(pictures), len(pictures) - sum(pictures)

    def faults(self, seconds: int | None) -> list[str]:
        """A line for each rule that is broken.

        Args:
            seconds: that the stored run took, if it says so.
        """
        sources = self.visible()
        # The whole counts blank lines and solutions, too; a cell what is written in it.
        whole = sources + [cell.source for cell in self.code if "solution" in pairs.tags_of(cell)]
        total = sum(source.count("\n") + 1 for source in whole)
        longest = max((sum(map(bool, source.split("\n"))) for source in sources), default=0)
        exercises, figures = len(EXERCISE.findall(self.text)), self.slides()
        drawn = re.search(rf"\{{figure\}} \S*img/{self.slug}\.svg", self.text)
        formula = self.text.find("$$")
        wanted = set(re.findall(r"\{glue:text\}`(\w+)(?::[^`]*)?`", self.text))
        comment = any("NBVAL_CHECK_OUTPUT" in cell.source for cell in self.code)
        rules = {
            f"{total} visible lines of code": total > LINES,
            f"a visible cell of {longest} lines": longest > CELL_LINES,
            f"{exercises} exercises": not 5 <= exercises <= 6,
            "no drawn architecture": drawn is None,
            "the drawing stands behind the first equation": bool(
                drawn and 0 <= formula < drawn.start()
            ),
            f"{figures[0]} figures and {figures[1]} cells for slides": not (
                3 <= figures[0] <= 6 and figures[1] == 2
            ),
            f"a run of {seconds} s": seconds is None or seconds > SECONDS,
            f"values that no run filled in: {sorted(wanted - self.glued())}": bool(
                wanted - self.glued()
            ),
            "a number outside its healthy range": "OUTSIDE" in self.printed(),
            "a marker for tests as a comment; use the tag nbval-check-output": comment,
        }
        missing = {f"no {words!r}": words not in self.text for words in NEEDED}
        found = {f"fallback: {words!r}": True for words in FALLBACK.findall(self.printed())}
        return [says for says, broken in (rules | missing | found).items() if broken]


@every_chapter
def test_a_chapter_has_the_shape(slug):
    path = pairs.source_of(slug, ROOT)
    seconds = pages.stored_seconds(path.with_suffix(".ipynb"))
    assert Shape(pairs.read_pair(path), slug).faults(seconds) == []


def figure_output():
    return nbformat.v4.new_output("display_data", {"image/png": "", "text/plain": "<Figure>"})


@pytest.fixture
def good():
    """A chapter that keeps every rule, so that each can be broken alone."""
    exercise = "```{exercise} One\n```\n"
    text = (
        "# Why?\n```{figure} ../../book/img/toy.svg\n```\n$$\nx\n$$\n**Predict first**\n"
        + 5 * exercise
        + "## What we learned\n{glue:text}`toy_share`\n## Limits\n## Further reading\n"
    )
    glued = nbformat.v4.new_output(
        "display_data",
        {"application/papermill.record/text/plain": "'1'"},
        metadata={"scrapbook": {"name": "toy_share"}},
    )
    cells = [nbformat.v4.new_markdown_cell(text)]
    for index in range(6):
        cell = nbformat.v4.new_code_cell("x = 1\n" * 5, outputs=[figure_output()])
        cell.metadata = nbformat.from_dict({"tags": ["slide"] if index < 5 else []})
        cells.append(cell)
    cells[1].outputs, cells[2].outputs = [glued], []
    return nbformat.v4.new_notebook(cells=cells)


def test_a_good_chapter_has_no_faults(good):
    assert Shape(good, "toy").faults(300) == []


def cut(words):
    def change(notebook):
        assert words in notebook.cells[0].source
        notebook.cells[0].source = notebook.cells[0].source.replace(words, "")

    return change


def add(text):
    def change(notebook):
        notebook.cells[1].outputs.append(nbformat.v4.new_output("stream", text=text))

    return change


def code(source, **metadata):
    def change(notebook):
        cell = nbformat.v4.new_code_cell(source)
        cell.metadata = nbformat.from_dict(metadata)
        notebook.cells.append(cell)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (code("x = 1\n" * 21), "a visible cell of 21 lines"),
        (lambda n: [code("x = 1\n" * 20)(n) for _ in range(12)], "288 visible lines"),
        (cut("```{exercise} One\n```\n"), "0 exercises"),
        (cut("{figure} ../../book/img/toy.svg"), "no drawn architecture"),
        (lambda n: n.cells.insert(0, nbformat.v4.new_markdown_cell("$$\ny\n$$")), "behind the"),
        (cut("## What we learned"), "What we learned"),
        (cut("**Predict first**"), "Predict first"),
        (lambda n: n.cells.pop(1), "no run filled in"),
        (add("no CIFAR-10 here: shapes instead"), "fallback"),
        (add("enat has no trained weights yet"), "fallback"),
        (add("OUTSIDE"), "healthy range"),
        (code("# NBVAL_CHECK_OUTPUT\n1"), "as a comment"),
        (code("1", tags=["slide"]), "3 cells for slides"),
    ],
)
def test_each_fault_is_named(good, change, says):
    change(good)
    faults = Shape(good, "toy").faults(300)
    assert any(says in fault for fault in faults), faults


def test_long_runs_are_named(good):
    assert Shape(good, "toy").faults(301) == ["a run of 301 s"]
    assert Shape(good, "toy").faults(None) == ["a run of None s"]


@pytest.mark.parametrize(
    "metadata", [{"tags": ["hide-input"]}, {"jupyter": {"source_hidden": True}}]
)
def test_folded_code_does_not_count(good, metadata):
    code("x = 1\n" * 300, **metadata)(good)
    assert Shape(good, "toy").faults(300) == []


def test_drawings_have_a_chapter_or_a_primer():
    names = {path.stem for path in (ROOT / "book" / "drawings").glob("*.py")}
    pages_text = "".join(p.read_text("utf-8") for p in Path(ROOT / "book").rglob("*.md"))
    known = {path.stem for path in pairs.sources(ROOT)} | {"vqgan"}
    assert {n for n in names if n not in known and f"img/{n}.svg" not in pages_text} == set()
