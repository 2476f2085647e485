"""The directive `method`: one question by two designs, as a table and in words.

    ```{method}
    ```

The numbers come from book/results/method.json, which `python -m gentok.book.method` makes.
"""

from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from tables import table

from gentok.book import method, records, staleness

HEADERS = (
    "design", "effect", "95 % interval", "scatter of the difference", "correlation of the arms",
    "seeds", "minutes",
)  # fmt: skip
NAMES = {"apart": "nothing in common", "common": "common random numbers"}


def number(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}g}".replace("-", "\N{MINUS SIGN}")


class Method(SphinxDirective):
    """Both intervals, and what they cost."""

    def run(self):
        path = Path(self.env.srcdir) / "book" / "results" / "method.json"
        for file in (__file__, method.__file__, str(path)):
            self.env.note_dependency(file)
        record = records.read_record(path)
        found = method.compared(record)
        rows = [
            [
                NAMES[name],
                number(d["effect"]),
                f"{number(d['low'])} to {number(d['high'])}",
                f"{d['scatter']:.2g}",
                number(d["correlation"]),
                str(len(record["experiments"][name]["seeds"])),
                f"{d['minutes']:.1f}",
            ]
            for name, d in found.items()
        ]
        parts = [table(HEADERS, rows), nodes.paragraph(text=self.words(found))]
        if stale := staleness.stale_experiments(record):
            names = ", ".join(stale)
            text = f"Stale: the code of {names} has changed since these rows were made."
            parts.append(nodes.paragraph(text=text, classes=["ledger-stale"]))
        return parts

    def words(self, found):
        apart, common = found["apart"], found["common"]
        ratio = (apart["high"] - apart["low"]) / (common["high"] - common["low"])
        return (
            f"At equal cost the interval with common random numbers is narrower by a factor of "
            f"{ratio:.2g}. Runs with nothing in common would need {apart['seeds']} seeds for that."
        )


def setup(app):
    app.add_directive("method", Method)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
