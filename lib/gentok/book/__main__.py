"""What `make` does, for people without it: ``python -m gentok.book site``.

It runs in an environment with the extras: ``pip install -c constraints.txt -e ".[book,test]"``.
Further words go on to the command: ``python -m gentok.book execute enat --profile cpu``.
"""

import subprocess
import sys

from gentok.book.pairs import find_root

NOTEBOOK = ("-m", "gentok.book.notebook")
# Jupyter Book has a command and no module that `-m` could run.
JUPYTER_BOOK = ("-c", "import sys; from jupyter_book.cli.main import main; sys.exit(main())")
OPTIONS = ("--toc", "book/_toc.yml", "-W", "--keep-going", "-q")
EPUB = ("--builder", "custom", "--custom-builder", "epub")
FAST = "not slow and not book and not mutation"
COMMANDS = {
    "site": (*JUPYTER_BOOK, "build", ".", *OPTIONS),
    "epub": (*JUPYTER_BOOK, "build", ".", *EPUB, *OPTIONS),
    "pdf": ("-m", "gentok.book.pdf"),
    "execute": (*NOTEBOOK, "execute"),
    "study": (*NOTEBOOK, "study"),
    "stale": (*NOTEBOOK, "stale"),
    "student": (*NOTEBOOK, "student"),
    "grade": ("-m", "gentok.book.assignments", "grade"),
    "slides": (*NOTEBOOK, "slides"),
    "pages": ("-m", "gentok.book.pages"),
    "weights": ("-m", "gentok.book.weights", "make"),
    "renew": ("-m", "gentok.book.renew"),
    "lab": ("-m", "jupyterlab", "notebooks"),
    "test-fast": ("-m", "pytest", "-q", "-m", FAST, "tests"),
    "bench": ("-m", "benchmarks"),
}  # name -> what Python is given


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code is the command's, 2 if there is none of this name."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] not in COMMANDS:
        asked = f"unknown command {words[0]!r}" if words else "a command is missing"
        print(f"error: {asked}; accepted: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        root = find_root()
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    line = [sys.executable, *COMMANDS[words[0]], *words[1:]]
    return subprocess.run(line, cwd=root).returncode


if __name__ == "__main__":
    sys.exit(main())
