"""What pages say about the state of the book, made from it: `python -m gentok.book.pages`.

The graph of prerequisites, the drawings of `book/drawings/`, and the table of chapters in the
README follow from the registry, the drawings' code and the stored runs. A test holds the committed
files equal to what this module makes.
"""

import json
import math
import re
import runpy
import sys
from pathlib import Path

from gentok.book import registry
from gentok.book.graph import prerequisites_svg
from gentok.book.pairs import find_root

BEGIN, END = "<!-- made by `python -m gentok.book.pages` -->", "<!-- end -->"
NUMBERS = (
    *("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)


def in_words(number: int) -> str:
    """Small numbers as words, as prose has them."""
    return NUMBERS[number] if number < len(NUMBERS) else str(number)


def counts() -> dict[str, str]:
    """Numbers that prose takes by ``{{ name }}``: systems, complete and planned chapters."""
    states = [system.state for system in registry.systems()]
    complete = in_words(states.count("complete"))
    return {
        "systems": str(len(states)),
        "complete": complete,
        "Complete": complete.capitalize(),
        "planned": in_words(states.count("planned")),
    }


def stored_seconds(notebook: Path) -> int | None:
    """Seconds that the stored run of a chapter took by its own clock; None if it does not say."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        data = output.get("data", {})
        glued = output.get("metadata", {}).get("scrapbook", {}).get("name", "")
        if glued == f"{notebook.stem}_seconds":
            return int("".join(data["application/papermill.record/text/plain"]).strip("'"))
        if found := re.search(r"wall time\s+(\d+) s", "".join(data.get("text/plain", ""))):
            return int(found[1])
    return None


def chapter_table(root: Path) -> str:
    """The README's sentence and table of chapters."""
    complete = sum(system.state == "complete" for system in registry.systems())
    lines = [
        f"{in_words(complete).capitalize()} of the {len(registry.systems())} chapters are complete."
        " The others are planned; their part introductions, references and place in the library"
        " exist. Times are those of the stored runs, in the `cpu` profile on two cores.",
        "",
        "| part | chapter | notebook | time | GPU | state |",
        "|---|---|---|---|---|---|",
    ]
    for system in registry.systems():
        name, spent, gpu = f"`{system.slug}`", "", ""
        if system.state == "complete":
            place = f"notebooks/{system.part}/{system.slug}.ipynb"
            seconds = stored_seconds(root / place)
            name, gpu = f"[{name}]({place})", "no"
            spent = "" if seconds is None else f"{max(1, math.ceil(seconds / 30)) / 2:g} min"
        cells = (system.part, system.title, name, spent, gpu, system.state)
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |"))
    return "\n".join(lines)


def between(text: str, new: str) -> str:
    """Put ``new`` between the two marks of a page.

    Raises:
        ValueError: if the marks are not there, once each and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page needs a line {BEGIN} and after it a line {END}")
    return f"{before}{BEGIN}\n{new}\n{END}{after}"


def generated(root: Path) -> dict[Path, str]:
    """Each file that is made, and what it should hold."""
    readme = root / "README.md"
    made = {
        root / "book" / "img" / "prerequisites.svg": prerequisites_svg(),
        readme: between(readme.read_text(encoding="utf-8"), chapter_table(root)),
    }
    for path in sorted((root / "book" / "drawings").glob("*.py")):
        drawing = runpy.run_path(str(path))["draw"]()
        made[root / "book" / "img" / f"{path.stem}.svg"] = drawing.svg()
    return made


def main() -> int:
    """Write what differs and name it."""
    root = find_root()
    for path, text in generated(root).items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(root)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
