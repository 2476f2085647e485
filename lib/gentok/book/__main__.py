"""What `make` does, for people without it: `python -m gentok.book site`, in an environment with

the extras ``book`` and ``test``: ``pip install -c constraints.txt -e ".[book,test]"``. Further
words go on to the command: ``python -m gentok.book execute enat --profile cpu``.
"""

import subprocess
import sys

from gentok.book.pairs import find_root

NOTEBOOK = ("gentok.book.notebook",)
BUILD = (
    "jupyter_book.cli.main",
    "build",
    ".",
    "--toc",
    "book/_toc.yml",
    "-W",
    "--keep-going",
    "-q",
)
FAST = "not slow and not book and not mutation"
COMMANDS = {
    "site": BUILD,
    "execute": (*NOTEBOOK, "execute"),
    "study": (*NOTEBOOK, "study"),
    "stale": (*NOTEBOOK, "stale"),
    "student": (*NOTEBOOK, "student"),
    "slides": (*NOTEBOOK, "slides"),
    "pages": ("gentok.book.pages",),
    "weights": ("gentok.book.weights", "make"),
    "renew": ("gentok.book.renew",),
    "lab": ("jupyterlab", "notebooks"),
    "test-fast": ("pytest", "-q", "-m", FAST, "tests"),
    "bench": ("benchmarks",),
}  # name -> module and its first words


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
    module, *first = COMMANDS[words[0]]
    return subprocess.run([sys.executable, "-m", module, *first, *words[1:]], cwd=root).returncode


if __name__ == "__main__":
    sys.exit(main())
