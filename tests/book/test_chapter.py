"""What the cells of a chapter share: opening, tables, health, numbers in prose, cost."""

import threading
import time

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from gentok.book import chapter
from gentok.book.claims import read_plan
from gentok.book.closure import DISPLAY
from gentok.book.study import Study


@pytest.fixture(scope="module", autouse=True)
def shell():
    """What a cell shows is captured only where there is a notebook's shell."""
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setenv("GENTOK_RESULTS", str(tmp_path))
    monkeypatch.delenv("GENTOK_PROFILE", raising=False)
    return chapter.open("enat", "study")


def test_opening_seeds_torch_and_the_environment_wins(page, monkeypatch):
    assert page.level.name == "study" and page.device == "cpu" and page.slug == "enat"
    monkeypatch.setenv("GENTOK_PROFILE", "smoke")
    assert chapter.open("enat", "cpu", seed=5).level.name == "smoke"
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


def test_what_is_absent_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GENTOK_RESULTS", str(tmp_path))
    monkeypatch.setenv("GENTOK_PROFILE", "cpu")
    chapter.open("ddmi", "cpu")
    printed = capsys.readouterr().out
    assert "ddmi has no recorded runs yet; `make study NB=ddmi` makes them." in printed
    assert "ddmi has no trained weights yet" in printed
    (tmp_path / "ddmi.json").write_text("{}")
    chapter.open("ddmi", "cpu")
    assert "recorded runs" not in capsys.readouterr().out


def test_outside_the_book_is_one_plain_line(tmp_path, monkeypatch):
    monkeypatch.delenv("GENTOK_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gentok.__file__", str(tmp_path / "a" / "b" / "c" / "__init__.py"))
    with pytest.raises(chapter.NotInTheBook, match="git clone") as error:
        chapter.open("enat", "cpu")
    lines = error.value._render_traceback_()
    assert len(lines) == 1 and "Traceback" not in lines[0] and "GENTOK_RESULTS" in lines[0]


CLAIMS = """
[[claim]]
id = "C1"
sentence = "a < b & so on"
section = "3.2"
kind = "arms"
experiment = "toy"
metric = "m"
system = "a"
baseline = "b"
direction = "lower"
smallest = "not stated"
planned = true

[[claim]]
id = "C2"
sentence = "the reverse"
kind = "arms"
experiment = "toy"
metric = "m"
system = "a"
baseline = "b"
direction = "higher"
smallest = "not stated"
planned = true
note = "why"
"""


def test_the_verdict_stands_beside_the_claim(page, tmp_path):
    study: Study = page.study
    (tmp_path / "toy.claims.toml").write_text(CLAIMS)
    study.plan = read_plan(tmp_path / "toy.claims.toml")
    values = {"a": [1.0, 1.1, 0.9], "b": [2.0, 2.2, 2.1]}
    rows = [{"variant": v, "seed": s, "m": x} for v, xs in values.items() for s, x in enumerate(xs)]
    study.rows["toy"] = rows
    table = page.claims()
    assert [row[0] for row in table.rows] == ["reproduced", "contradicted"]
    assert table.rows[0][1] == "C1: a < b & so on (3.2)" and table.rows[1][1].endswith("\nwhy")
    assert "m: -1.1" in table.rows[0][2] and "3 seeds" in table.rows[0][2]
    html = table._repr_html_()
    assert "a &lt; b &amp; so on" in html and 'class="verdict-contradicted"' in html
    # The two stand in one row, and no long claim is cut as pandas cuts it.
    assert "reproduced</th><td" in html and "..." not in html


def test_rows_are_names_and_values(page):
    table = page.rows({"PSNR (dB)": 23.14159, "codes": 64}, "Tokenizer")
    assert table.rows == [("PSNR (dB)", "23.14"), ("codes", "64")]
    assert "<caption>Tokenizer" in table._repr_html_() and "<thead>" not in table._repr_html_()


def test_health_is_judged_against_its_own_range(page):
    page.healthy("loss", 2.5, 2.4, 2.6)
    page.healthy("edge", 2.6, 2.4, 2.6)
    page.healthy("worse", 2.61, 2.4, 2.6)
    table = page.healthy("broken", float("nan"), 0, 1)
    assert [row[0] for row in table.rows] == ["inside", "inside", "OUTSIDE", "OUTSIDE"]
    with pytest.raises(ValueError, match="from low to high"):
        page.healthy("empty", 1, 2, 1)


def test_smoke_numbers_are_not_judged(monkeypatch):
    monkeypatch.setenv("GENTOK_PROFILE", "smoke")
    table = chapter.open("enat", "cpu").healthy("loss", 1e9, 0, 1)
    assert table.rows[0][0] == "not judged (smoke)"


def test_a_sentence_takes_exactly_its_numbers(page):
    said = page.say("{share:.0%} of {n} samples", share=0.834, n=400)
    assert repr(said) == said._repr_markdown_() == "83% of 400 samples"
    for numbers in ({"share": 0.8}, {"share": 0.8, "n": 4, "m": 3}):
        with pytest.raises(ValueError, match=r"fields are \['n', 'share'\]"):
            page.say("{share:.0%} of {n} samples", **numbers)


def test_glued_values_are_what_the_site_reads(page):
    """The same output as myst_nb's own `glue`, without needing it in the kernel."""
    myst_nb = pytest.importorskip("myst_nb")
    with capture_output() as ours:
        page.glue("enat_accuracy", 0.834, ".0%")
    with capture_output() as theirs:
        myst_nb.glue("enat_accuracy", "83%", display=False)
    ours, theirs = ours.outputs[0], theirs.outputs[0]
    assert ours.metadata == theirs.metadata
    assert ours.data == theirs.data == {"application/papermill.record/text/plain": "'83%'"}
    with pytest.raises(ValueError, match="begins with enat_"):
        page.glue("accuracy", 1)


def test_cost_is_measured_and_stored(page):
    block = torch.ones(40_000_000)  # 160 MB
    time.sleep(0.3)
    with capture_output() as captured:
        table = page.cost()
    del block
    glued = {
        out.metadata["scrapbook"]["name"]: out.data["application/papermill.record/text/plain"]
        for out in captured.outputs
    }
    assert set(glued) == {"enat_seconds", "enat_time", "enat_memory", "enat_device"}
    assert 1 <= int(glued["enat_seconds"].strip("'")) < 60
    values = dict(table.rows)
    assert float(values["memory"].split()[0].replace(",", "")) > 160
    assert values["time"] in glued["enat_time"] and "thread" in values["device"]


def test_a_forgotten_page_stops_watching():
    meter = chapter.Meter()
    ours = threading.active_count()
    del meter
    time.sleep(3 * chapter.MEMORY_EVERY)
    assert threading.active_count() < ours


def test_records_do_not_depend_on_how_pages_look():
    assert {"book", "show"} <= set(DISPLAY)
