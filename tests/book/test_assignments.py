"""Assignments: every chapter has one, solutions earn all points, wrong answers and tricks none."""

import copy
import json

import nbformat
import pytest

from gentok.book import assignments, pairs

ROOT = pairs.find_root()
SOURCES = pairs.sources(ROOT)
chapters = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)


def made(path, solutions):
    chapter = pairs.read_source(path)
    return assignments.assignment(chapter, path.parent.name, path.stem, solutions)


def answer_cells(notebook):
    marked = (cell for cell in notebook.cells if "nbgrader" in cell.metadata)
    return {c.metadata.nbgrader.grade_id: c for c in marked if c.metadata.nbgrader.solution}


@chapters
def test_every_check_of_a_chapter_is_asked(path):
    notebook = made(path, False)
    nbformat.validate(notebook)
    checks = set(assignments.CHECK.findall(path.read_text("utf-8")))
    asked = [exercise.check for exercise in assignments.exercises(pairs.read_source(path))]
    assert set(asked) == checks and len(asked) == len(checks)
    text = "\n".join(cell.source for cell in notebook.cells)
    assert "solution" not in text and assignments.BEGIN not in text
    for cell in answer_cells(notebook).values():
        assert "..." in cell.source


@chapters
def test_marks_are_nbgraders(path):
    """As nbgrader's own validator of schema 3 asks for."""
    for solutions in (True, False):
        marks = [c.metadata.nbgrader for c in made(path, solutions).cells if c.metadata]
        assert len({mark.grade_id for mark in marks}) == len(marks)
        for mark in marks:
            assert mark.schema_version == 3 and not mark.task
            assert mark.grade != mark.solution == (not mark.locked)
            assert ("points" in mark) == mark.grade


@pytest.mark.slow
@chapters
def test_solutions_need_no_more_than_the_imports(path):
    """Run in one namespace, in this process: every solution stands in front of its check."""
    names = {}
    for cell in made(path, True).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, path.stem, "exec"), names)


@pytest.fixture(scope="module")
def reports():
    """Points of a right, a half-right and a tampered copy of one chapter."""
    path = pairs.source_of("enat", ROOT)
    original, right = made(path, False), made(path, True)
    wrong = copy.deepcopy(right)
    cells = answer_cells(wrong)
    cells["ex-enat-schedule"].source = "def revealed(num_tokens, num_steps): ..."
    cells["ex-enat-guidance"].source = (
        "def guided(given, free, guidance_scale, step, num_steps):\n"
        "    return given + guidance_scale * (given - free)"
    )
    cells["ex-enat-cost"].source = "def step_macs(:"
    tricks = copy.deepcopy(original)
    for cell in tricks.cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            cell.source = "pass"
    copies = {"right": right, "wrong": wrong, "tricks": tricks}
    return {name: assignments.grade(handed, original) for name, handed in copies.items()}


@pytest.mark.slow
def test_a_right_copy_earns_all_points(reports):
    report = reports["right"]
    assert len(report) == 4 and all(given == most > 0 for given, most, _ in report.values())


@pytest.mark.slow
def test_a_wrong_copy_earns_the_points_of_its_right_answers(reports):
    report = reports["wrong"]
    assert {name for name, (given, _, _) in report.items() if given} == {"ex-enat-attention"}
    assert "returned nothing" in report["ex-enat-schedule"][2]
    assert report["ex-enat-guidance"][2].startswith("not yet: ")
    assert "step_macs" in report["ex-enat-cost"][2]


@pytest.mark.slow
def test_changed_questions_earn_nothing(reports):
    assert all(given == 0 for given, _, _ in reports["tricks"].values())


def test_both_kinds_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(assignments, "sources", lambda root: SOURCES[:1])
    folder = assignments.write(tmp_path)
    slug = SOURCES[0].stem
    texts = [(folder / k / slug / f"{slug}.ipynb").read_text() for k in ("source", "release")]
    assert assignments.BEGIN in texts[0] and assignments.BEGIN not in texts[1]
    assert "course_id" in (folder / "nbgrader_config.py").read_text()


def test_command_prints_points_and_names_what_it_does_not_know(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(assignments, "grade", lambda *given: {"ex-a": (1, 2, "not yet: why")})
    file = tmp_path / "enat.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), file)
    assert assignments.main(["grade", str(file)]) == 0
    assert "1 of 2 points" in capsys.readouterr().out
    assert assignments.main(["grade", "--json", str(file)]) == 0
    assert json.loads(capsys.readouterr().out) == {str(file): {"ex-a": [1, 2, "not yet: why"]}}
    assert assignments.main(["grade", str(tmp_path / "nope.ipynb")]) == 2
    assert "unknown notebook 'nope'" in capsys.readouterr().err
