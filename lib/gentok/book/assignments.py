"""Exercises that grade themselves: ``python -m gentok.book.assignments grade FILE.ipynb``.

Of each chapter the exercises that have a check become a notebook of their own: imports, words, a
cell for the answer and a locked cell that asks the check. Nothing is trained, so that grading takes
seconds. ``make student`` writes two folders for each:

- ``_build/nbgrader/source/<slug>/<slug>.ipynb``: with solutions, marked as nbgrader wants them (its
  metadata, schema 3), beside a configuration; ``nbgrader generate_assignment enat`` takes it up;
- ``_build/nbgrader/release/...``: what students get, for teachers without nbgrader; what they hand
  in is graded by the command above, which needs nothing but this library.

An exercise gives as many points as its difficulty.
"""

import argparse
import ast
import copy
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from gentok.book.pairs import find_root, give_ids, read_source, source_of, sources, tags_of

EXERCISE = re.compile(
    r"^(?P<fence>`{3,})\{exercise\} (?P<title>.*?)\n"
    r":label: (?P<label>[\w-]+)\n(?P<body>.*?)^(?P=fence)[ \t]*$",
    re.M | re.S,
)
DIFFICULTY = re.compile(r" *\(difficulty (\d)[^)]*\)")
CHECK = re.compile(r"^check\.\w+\(\w+\)$", re.M)
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
OFTEN = ("torch", "F", "np", "math")  # names that answers use, whatever the solution does
SECONDS = 120  # that one cell may take
# Nothing stands in the place of a solution but the exercise's own `...`.
CONFIGURATION = """c = get_config()
c.CourseDirectory.course_id = "generative_tokenizers"
c.ClearSolutions.code_stub = {"python": ""}
"""
INTRODUCTION = """# Exercises: {title}

Put your own code in the place of each `...` and run the cell below it: it says nothing if the
answer is right, and what is likely wrong if it is not. The words are explained in the chapter
`notebooks/{part}/{slug}`."""


@dataclass(frozen=True)
class Exercise:
    """One exercise with a check.

    Args:
        label: its address in the book; ``title`` and ``text``, its words.
        points: what it gives.
        stub: the code that students get; ``solution`` a right answer; ``check`` the question.
    """

    label: str
    title: str
    text: str
    points: int
    stub: str
    solution: str
    check: str


def exercises(notebook) -> list[Exercise]:
    """The exercises of a chapter that have a check, in order."""
    found, asked, stub = [], None, ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for match in EXERCISE.finditer(cell.source):
                asked, stub = match, ""
        elif asked and (check := CHECK.search(cell.source)):
            code = CHECK.sub("", cell.source).strip()
            if "solution" not in tags_of(cell):
                stub = code
            elif stub:
                points = DIFFICULTY.search(asked["title"])
                found.append(
                    Exercise(
                        asked["label"],
                        DIFFICULTY.sub("", asked["title"]),
                        asked["body"].strip(),
                        int(points[1]) if points else 1,
                        stub,
                        code,
                        check[0],
                    )
                )
                asked = None
    return found


def assignment(notebook, part: str, slug: str, solutions: bool):
    """The exercises of a chapter as a notebook with nbgrader's marks.

    Args:
        notebook: the chapter.
        part, slug: where it stands.
        solutions: put them in, between the marks at which nbgrader cuts them out.

    Raises:
        ValueError: if the chapter has no exercise with a check.
    """
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    asked = exercises(notebook)
    if not asked:
        raise ValueError(f"{slug} has no exercise with a check")
    title = notebook.cells[0].source.split("\n")[0].removeprefix("# ")
    cells = [new_markdown_cell(INTRODUCTION.format(title=title, part=part, slug=slug))]
    installs = (cell for cell in notebook.cells if "install" in tags_of(cell))
    cells += [new_code_cell(cell.source) for cell in installs]
    cells.append(new_code_cell(_imports(notebook, asked)))
    for exercise in asked:
        words = f"## {exercise.title} ({_points(exercise.points)})\n\n{exercise.text}"
        solved = f"{exercise.stub}\n{BEGIN}\n{exercise.solution}\n{END}"
        answer = solved if solutions else exercise.stub
        question = f"verdict = {exercise.check}\nassert verdict.correct, verdict"
        cells += [
            new_markdown_cell(words),
            _marked(new_code_cell(answer), exercise.label, solution=True),
            _marked(new_code_cell(question), f"{exercise.label}-check", points=exercise.points),
        ]
    made = new_notebook(cells=cells, metadata=copy.deepcopy(notebook.metadata))
    made.metadata.pop("gentok", None)
    give_ids(made, None)
    return made


def _points(number: int) -> str:
    return f"{number} point{'s' if number > 1 else ''}"


def _imports(notebook, asked: list[Exercise]) -> str:
    """The chapter's imports that its exercises need, and those that answers are likely to need."""
    used = set(OFTEN)
    for code in (text for e in asked for text in (e.stub, e.solution, e.check)):
        used |= {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    lines = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and not {"install", "solution"} & set(tags_of(cell)):
            for node in _parsed(cell.source):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    node.names = [name for name in node.names if _bound(name) in used]
                    lines += [ast.unparse(node)] if node.names else []
    return "\n".join(dict.fromkeys(lines))


def _parsed(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except SyntaxError:  # a line of IPython's own
        return []


def _bound(name: ast.alias) -> str:
    return name.asname or name.name.partition(".")[0]


def _marked(cell, name: str, solution: bool = False, points: int = 0):
    """Nbgrader's metadata: an answer that is written, or a locked question that gives points."""
    marks = {
        "grade": points > 0,
        "grade_id": name,
        "locked": not solution,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }
    cell.metadata["nbgrader"] = marks | ({"points": points} if points else {})
    return cell


def write(root: Path) -> Path:
    """Write all assignments, with solutions and without; returns their folder."""
    import nbformat

    folder = root / "_build" / "nbgrader"
    for path in sources(root):
        chapter = read_source(path)
        if not exercises(chapter):
            continue
        for kind, solutions in (("source", True), ("release", False)):
            made = assignment(chapter, path.parent.name, path.stem, solutions)
            target = folder / kind / path.stem / f"{path.stem}.ipynb"
            target.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(made, target)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nbgrader_config.py").write_text(CONFIGURATION, "utf-8")
    return folder


def grade(handed_in, original) -> dict[str, tuple[int, int, str]]:
    """Run what was handed in and count points.

    Only the answers are taken from it: questions, words and imports are the original's, so that a
    changed question gives nothing.

    Args:
        handed_in: a student's notebook.
        original: the assignment.

    Returns:
        exercise -> points given, points to be had, what the check says (empty if right).
    """
    from nbclient import NotebookClient

    answers = {_name(cell): cell.source for cell in handed_in.cells if _name(cell)}
    run = copy.deepcopy(original)
    for cell in run.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = answers.get(_name(cell), "")
    NotebookClient(run, timeout=SECONDS, allow_errors=True, kernel_name="python3").execute()
    found = {}
    for cell in run.cells:
        marks = cell.metadata.get("nbgrader", {})
        if marks.get("grade"):
            errors = [output for output in cell.outputs if output.output_type == "error"]
            given = 0 if errors else marks["points"]
            says = errors[0].evalue if errors else ""
            found[marks["grade_id"].removesuffix("-check")] = (given, marks["points"], says)
    return found


def _name(cell) -> str:
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def main(arguments: list[str] | None = None) -> int:
    """Entry point; 2 if an argument is wrong."""
    import nbformat

    parser = argparse.ArgumentParser(prog="python -m gentok.book.assignments", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("write", help="write assignments under _build/nbgrader/")
    marking = commands.add_parser("grade", help="count the points of notebooks that were handed in")
    marking.add_argument("files", nargs="+", type=Path, metavar="FILE", help="<slug>.ipynb")
    marking.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    try:
        root = find_root()
        if options.command == "write":
            print(f"wrote {write(root)}")
            return 0
        reports = {}
        for file in options.files:
            path = source_of(file.stem, root)
            original = assignment(read_source(path), path.parent.name, path.stem, False)
            reports[str(file)] = grade(nbformat.read(file, as_version=4), original)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        json.dumps(reports) if options.json else "\n".join(_told(*item) for item in reports.items())
    )
    return 0


def _told(file: str, report: dict[str, tuple[int, int, str]]) -> str:
    lines = [
        f"  {name}: {given} of {points}{'  ' if says else ''}{says}"
        for name, (given, points, says) in report.items()
    ]
    total, most = (sum(row[k] for row in report.values()) for k in (0, 1))
    return "\n".join([f"{file}: {total} of {most} points", *lines])


if __name__ == "__main__":
    sys.exit(main())
