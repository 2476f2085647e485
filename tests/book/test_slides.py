"""Decks from tagged cells: complete in one file, in order, readable."""

import re
import shutil
import subprocess

import nbformat
import pytest

from gentok.book import notebook as tool
from gentok.book import pairs
from gentok.book.slides import deck

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PNG = "iVBORw0KGgo="  # what a browser would draw does not matter here


def cell(source, *outputs, tags=("slide",), **metadata):
    made = nbformat.v4.new_code_cell(source, outputs=list(outputs))
    made.metadata = nbformat.from_dict({"tags": list(tags), **metadata})
    return made


def text(source, *tags):
    made = nbformat.v4.new_markdown_cell(source)
    made.metadata = nbformat.from_dict({"tags": list(tags)})
    return made


def show(**data):
    return nbformat.v4.new_output("display_data", data)


@pytest.fixture
def toy():
    glued = nbformat.v4.new_output(
        "display_data",
        {"application/papermill.record/text/plain": "'83%'"},
        metadata={"scrapbook": {"name": "toy_share"}},
    )
    figure = show(**{"image/png": PNG})
    return nbformat.v4.new_notebook(
        cells=[
            text("# Must every *token* pass?\n\nA first word."),
            cell("secret = 1", tags=()),
            text("## What it costs\n\nNot on a slide."),
            cell("plot(1)", figure, mystnb={"image": {"alt": 'A "rising" line'}}),
            text("## The idea\n\nAs {cite:p}`ni2024enat` says, $N=hw_2$; {glue:text}`toy_share`.\n"
                 "```{note}\nsee {doc}`the page </book/data>`\n```", "slide"),
            cell("x = 1 < 2\nprint(x)", nbformat.v4.new_output("stream", text="True\n"), glued),
        ]
    )  # fmt: skip


def sections(html):
    return re.findall("<section>.*?</section>", html, re.S)


def test_slides_follow_the_tagged_cells(toy):
    first, figure, idea, code = sections(deck(toy, "toy"))
    assert "<h1>Must every <em>token</em> pass?</h1>" in first
    assert '<h2>What it costs</h2><img alt="A &quot;rising&quot; line"' in figure
    assert "plot" not in figure, "a figure stands without its code"
    assert "<h2>The idea</h2>" in idea and "83%" in idea and "see the page" in idea
    assert r"\(N=hw_2\)" in idea and "{" not in idea.replace(r"\(N=hw_2\)", "")
    assert "True" in code and re.sub("<[^>]+>", "", code).count("x = 1 &lt; 2") == 1
    assert "secret" not in deck(toy, "toy") and "Not on a slide" not in deck(toy, "toy")


def test_a_deck_uses_no_address_outside_itself(toy):
    html = deck(toy, "toy")
    assert "MathJax" in html, "there is a formula"
    page = re.sub("<script>.*?</script>", "", html, flags=re.S)
    assert not re.search(r"https?://|src=\"(?!data:)|<link|@import", page)
    toy.cells = [c for c in toy.cells if "$" not in c.source]
    assert "MathJax" not in deck(toy, "toy") and "http" not in deck(toy, "toy")


def test_a_deck_reads_in_the_dark_and_on_paper(toy):
    html = deck(toy, "toy")
    assert "prefers-color-scheme: dark" in html and "@media print" in html
    assert '<html lang="en">' in html


def test_no_tagged_cell_no_deck(toy):
    for one in toy.cells:
        one.metadata["tags"] = []
    assert deck(toy, "toy") is None


def test_a_tagged_cell_that_was_not_run_is_an_error(toy):
    toy.cells[3].outputs = []
    with pytest.raises(ValueError, match="no stored output"):
        deck(toy, "toy")


def test_decks_are_written_beside_each_other(toy, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "notebooks" / "latents"
    folder.mkdir(parents=True)
    (tmp_path / "notebooks" / "jupytext.toml").write_text("")
    (folder / "toy.py").write_text("# %%\n1\n")
    nbformat.write(toy, folder / "toy.ipynb")
    monkeypatch.chdir(tmp_path)
    assert tool.main(["slides"]) == 0
    assert capsys.readouterr().out.strip() == "_build/slides/toy.html"
    written = (tmp_path / "_build" / "slides" / "toy.html").read_text("utf-8")
    assert written == deck(pairs.read_pair(folder / "toy.py"), "toy")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_deck_opens_in_a_browser_at_the_slide_of_its_address(toy, tmp_path):
    path = tmp_path / "toy.html"
    path.write_text(deck(toy, "toy"), encoding="utf-8")
    line = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    line += ["--virtual-time-budget=5000", f"--user-data-dir={tmp_path / 'profile'}"]
    run = subprocess.run([*line, f"{path.as_uri()}#3"], capture_output=True, text=True, timeout=120)
    assert "<footer>3 / 4</footer>" in run.stdout
    assert run.stdout.count('<section class="now">') == 1 and "<mjx-container" in run.stdout
