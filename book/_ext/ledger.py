"""The directive `ledger`: the recorded claims of all systems, or of one, as tables.

    ```{ledger}
    :system: fa_vae
    ```

Rows come from book/results/<slug>.json, so a page changes when a record changes. Without records
the build fails: an empty ledger would look like a book without claims.
"""

from collections import Counter
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective
from tables import table

from gentok.book import registry
from gentok.book.claims import read_record

HEADERS = ("claim", "expected", "measured", "difference (95 % interval)", "seeds", "verdict")
SIGNS = {"lower": "<", "higher": ">", "equal": "="}


def number(value: float) -> str:
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def mean(side: dict) -> str:
    return f"{side['name']}: {number(sum(side['values']) / len(side['values']))}"


class Ledger(SphinxDirective):
    """Tables of claims, one a system, with a line on how the record was made."""

    option_spec = {"system": directives.unchanged_required}

    def run(self):
        folder = Path(self.env.srcdir) / "book" / "results"
        paths = sorted(folder.glob(f"{self.options.get('system', '*')}.json"))
        if not paths:
            what = self.options.get("system", "any system")
            raise self.error(f"no record of claims for {what} in {folder.name}/")
        self.env.note_dependency(__file__)
        records = []
        for path in paths:
            self.env.note_dependency(str(path))
            records.append(read_record(path))
        order = [system.slug for system in registry.systems()]
        records.sort(key=lambda record: order.index(record["system"]))
        parts = [] if "system" in self.options else [self.summary(records)]
        for record in records:
            parts += self.one_system(record)
        return parts

    def summary(self, records):
        verdicts = Counter(c["verdict"] for record in records for c in record["claims"])
        total = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
        return nodes.paragraph(text=f"{sum(verdicts.values())} claims: {total}.")

    def inline(self, text):
        found, messages = self.parse_inline(text)
        return [*found, *messages]

    def one_system(self, record):
        system = registry.get(record["system"])
        parts = []
        if "system" not in self.options:
            title = f"{system.title} {{cite:p}}`{system.key}`"
            parts.append(nodes.rubric("", "", *self.inline(title)))
        rows = [self.row(claim) for claim in record["claims"]]
        parts.append(table(HEADERS, rows, classes=["ledger"]))
        made, machine = record["made"], record["made"]["machine"]
        text = (
            f"Recorded {made['date'][:10]} in {made['seconds'] / 60:.0f} minutes on "
            f"{machine['cores']} cores ({machine['threads']} threads, {machine['processor']}) "
            f"with torch {made['versions']['torch']}"
        )
        if "system" not in self.options:
            text += f"; chapter: {{doc}}`/notebooks/{system.part}/{system.slug}`"
        parts.append(nodes.paragraph("", "", *self.inline(text + "."), classes=["ledger-made"]))
        return parts

    def row(self, claim):
        section = f" ({claim['section']})" if claim.get("section") else ""
        note = [nodes.emphasis(text=" " + claim["note"])] if claim.get("note") else []
        ours, theirs, (low, high) = claim["system"], claim["baseline"], claim["ci95"]
        within = f" within {number(claim['margin'])}" if claim.get("margin") is not None else ""
        names = f"{ours['name']} {SIGNS[claim['expected']]} {theirs['name']}{within}"
        return [
            [nodes.strong(text=claim["id"]), nodes.Text(f" {claim['claim']}{section}"), *note],
            f"{claim['metric']}: {names}",
            f"{mean(ours)}; {mean(theirs)}",
            f"{number(claim['effect'])} ({number(low)} to {number(high)})",
            str(len(ours["values"])),
            [nodes.strong(text=claim["verdict"], classes=[f"verdict-{claim['verdict']}"])],
        ]


def setup(app):
    app.add_directive("ledger", Ledger)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
