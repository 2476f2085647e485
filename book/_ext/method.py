"""The directive `two-designs`: one question by two designs, as a table and in words.

    ```{two-designs}
    ```

The numbers come from book/results/method.json, which `python -m gentok.book.method` makes.
"""

from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from tables import table

from gentok.book import method, records, staleness

HEADERS = (
    "question", "design", "effect", "95 % interval", "scatter of the difference",
    "correlation of the arms", "seeds for the narrower interval",
)  # fmt: skip
NAMES = {"apart": "nothing in common", "common": "common random numbers"}
QUESTIONS = {"sampling": "XL drawn more often", "decay": "weight decay"}


def number(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}g}".replace("-", "\N{MINUS SIGN}")


class Method(SphinxDirective):
    """Every interval, by both designs."""

    def run(self):
        path = Path(self.env.srcdir) / "book" / "results" / "method.json"
        for file in (__file__, method.__file__, str(path)):
            self.env.note_dependency(file)
        record = records.read_record(path)
        found = method.compared(record)
        rows = [
            [
                QUESTIONS[question],
                NAMES[design],
                number(d["effect"]),
                f"{number(d['low'])} to {number(d['high'])}",
                f"{d['scatter']:.2g}",
                number(d["correlation"]),
                str(d["seeds"]),
            ]
            for (question, design), d in found.items()
        ]
        words = " ".join(self.words(found, question) for question in method.QUESTIONS)
        parts = [table(HEADERS, rows), nodes.paragraph(text=words)]
        if stale := staleness.stale_experiments(record):
            names = ", ".join(stale)
            text = f"Stale: the code of {names} has changed since these rows were made."
            parts.append(nodes.paragraph(text=text, classes=["ledger-stale"]))
        return parts

    def words(self, found, question):
        apart, common = (found[question, design] for design in method.DESIGNS)
        ratio = (apart["high"] - apart["low"]) / (common["high"] - common["low"])
        return (
            f"{QUESTIONS[question].capitalize()}: with six seeds the interval of runs apart is "
            f"{ratio:.2g} times as wide, and they would need {apart['seeds']} seeds for the other."
        ).replace("Xl", "XL")


def setup(app):
    app.add_directive("two-designs", Method)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
