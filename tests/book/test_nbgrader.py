"""The assignments in nbgrader itself: what it hands out, and that it gives the marks that we give.

It is no requirement of the book: `pip install nbgrader` beside it, then run this file.
"""

import importlib.util

import nbformat
import pytest

from gentok.book import assignments, pairs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("nbgrader") is None, reason="nbgrader is not installed"
    ),
]
SLUG = "enat"


def answers(notebook):
    """The answer cells by name."""
    marked = (cell for cell in notebook.cells if "nbgrader" in cell.metadata)
    return {c.metadata.nbgrader.grade_id: c for c in marked if c.metadata.nbgrader.solution}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course folder with the assignment, handed out; nbgrader's own interface to it."""
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    root = tmp_path_factory.mktemp("course")
    path = pairs.source_of(SLUG, pairs.find_root())
    chapter = pairs.read_source(path)
    made = assignments.assignment(chapter, path.parent.name, SLUG, True)
    (root / "source" / SLUG).mkdir(parents=True)
    nbformat.write(made, root / "source" / SLUG / f"{SLUG}.ipynb")
    settings = Config()
    exec(assignments.CONFIGURATION, {"get_config": lambda: settings})
    settings.CourseDirectory.root = str(root)
    api = NbGraderAPI(config=settings)
    told = api.generate_assignment(SLUG)
    assert told["success"], told["log"]
    return root, api, assignments.assignment(chapter, path.parent.name, SLUG, False)


def released(course):
    root, _, _ = course
    return nbformat.read(root / "release" / SLUG / f"{SLUG}.ipynb", as_version=4)


def test_what_is_handed_out_is_what_we_hand_out(course):
    theirs, ours = released(course), course[2]
    assert [c.source.strip() for c in theirs.cells] == [c.source.strip() for c in ours.cells]


def handed_in(course, student):
    """A copy that is right, one with two kinds of mistake, or one that changes the questions."""
    notebook = released(course)
    if student == "tricks":
        for cell in notebook.cells:
            if cell.metadata.get("nbgrader", {}).get("grade"):
                cell.source = "pass"
        return notebook
    chapter = pairs.read_source(pairs.source_of(SLUG, pairs.find_root()))
    cells = answers(notebook)
    for exercise in assignments.exercises(chapter):
        cells[exercise.label].source = exercise.solution
    if student == "wrong":
        cells["ex-enat-schedule"].source = "def revealed(num_tokens, num_steps): ..."
        cells["ex-enat-cost"].source = "def step_macs(:"
    return notebook


@pytest.mark.parametrize("student", ["wrong", "right", "tricks"])
def test_marks_are_ours(course, student):
    root, api, original = course
    copied, place = handed_in(course, student), root / "submitted" / student / SLUG
    place.mkdir(parents=True)
    nbformat.write(copied, place / f"{SLUG}.ipynb")
    told = api.autograde(SLUG, student)
    assert told["success"], told["log"]
    with api.gradebook as gradebook:
        marked = gradebook.find_submission_notebook(SLUG, SLUG, student)
        theirs = {
            grade.name.removesuffix("-check"): (grade.score, grade.max_score)
            for grade in marked.grades
        }
    ours = assignments.grade(copied, original)
    assert theirs == {name: (given, most) for name, (given, most, _) in ours.items()}
    assert (sum(given for given, _ in theirs.values()) == 0) == (student == "tricks")
