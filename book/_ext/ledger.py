"""The directive `ledger`: the claims of all systems, or of one, as tables.

    ```{ledger}
    :system: fa_vae
    ```

Verdicts are computed from book/results/<slug>.json and the chapter's claims.toml, so a page changes
when a row or a sentence does. Without records the build fails: an empty ledger would look like a
book without claims. Inside the text, `{ledger}` with `:summary:` is the sentence of all counts.

A chapter whose record is stale says so under its title, whatever its stored outputs say.
"""

from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective
from tables import table

from gentok.book import ledger, records, registry
from gentok.book.claims import NOT_STATED
from gentok.book.staleness import stale_experiments
from gentok.book.tables import verdict

HEADERS = ("claim", "expected", "measured", "difference (95 % interval)", "seeds", "verdict")
GATES = ("gate", "asks for", "worst run", "holds")
IDENTITIES = ("identity", "reads", "shown by", "verdict")


def number(value: float) -> str:
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def mean(side: dict) -> str:
    """The mean over runs; of runs that hold a value an item, over these too."""
    values = [v if isinstance(v, (int, float)) else sum(v) / len(v) for v in side["values"]]
    return f"{side['name']}: {number(sum(values) / len(values))}"


class Ledger(SphinxDirective):
    """Tables of claims, one a system, with a line on how the records were made."""

    option_spec = {"system": directives.unchanged_required, "summary": directives.flag}

    def run(self):
        root = Path(self.env.srcdir)
        files = [*root.glob("book/results/*.json"), *root.glob("notebooks/*/*.claims.toml")]
        for path in [__file__, *files]:
            self.env.note_dependency(str(path))
        book = ledger.Ledger()
        slug = self.options.get("system")
        slugs = [s.slug for s in registry.systems() if s.slug in book.records]
        if not slugs or slug and slug not in slugs:
            raise self.error(f"no record of claims for {slug or 'any system'} in book/results/")
        if slug:
            return self.one_system(book, slug)
        parts = [nodes.paragraph(text=book.sentence())]
        if "summary" in self.options:
            return parts
        for each in slugs:
            system = registry.get(each)
            title = f"{system.title} {{cite:p}}`{system.key}`"
            parts.append(nodes.rubric("", "", *self.inline(title)))
            parts += self.one_system(book, each, chapter=True)
        return parts

    def inline(self, text):
        found, messages = self.parse_inline(text)
        return [*found, *messages]

    def one_system(self, book, slug, chapter=False):
        claims = list(book.claims(slug))
        groups = {
            None: [c for c in claims if ledger.counts(c)],
            "Found while looking, and not counted": [
                c for c in claims if not c["planned"] and c["kind"] != "identity"
            ],
        }
        parts = []
        for title, group in groups.items():
            if title and group:
                parts.append(nodes.paragraph(text=title + ":", classes=["ledger-group"]))
            if group:
                rows = [self.row(claim) for claim in group]
                parts.append(table(HEADERS, rows, classes=["ledger"]))
        parts += self.identities([c for c in claims if c["kind"] == "identity"])
        parts += self.gates(book.gates[slug])
        return [*parts, *self.made(book, slug, chapter)]

    def identities(self, claims):
        if not claims:
            return []
        rows = [
            [
                self.statement(claim),
                claim["reads"] if not claim["test"] else "",
                claim["test"] or f"{len(claim['seeds'])} runs, to the last digit",
                self.word(claim),
            ]
            for claim in claims
        ]
        title = nodes.paragraph(text="True by construction:", classes=["ledger-group"])
        return [title, table(IDENTITIES, rows, classes=["ledger"])]

    def gates(self, gates):
        if not gates:
            return []
        rows = [
            [
                f"{gate['id']} ({gate['experiment']})",
                gate["what"],
                "no value" if gate["worst"] is None else number(gate["worst"]),
                "yes" if gate["passed"] else "no: what is claimed on it is not testable here",
            ]
            for gate in gates
        ]
        title = nodes.paragraph(text="What had to hold first:", classes=["ledger-group"])
        return [title, table(GATES, rows, classes=["ledger"])]

    def made(self, book, slug, chapter):
        experiments = book.records[slug]["experiments"]
        made = [experiment["made"] for experiment in experiments.values()]
        minutes = sum(experiment["seconds"] for experiment in experiments.values()) / 60
        machine, days = made[-1]["machine"], sorted({m["ended"][:10] for m in made})
        text = (
            f"Recorded {' to '.join(dict.fromkeys([days[0], days[-1]]))} in {minutes:.0f} minutes "
            f"on {machine['cores']} cores ({machine['threads']} thread a run, "
            f"{machine['processor']}) with torch {made[-1]['versions']['torch']}"
        )
        if chapter:
            system = registry.get(slug)
            text += f"; chapter: {{doc}}`/notebooks/{system.part}/{system.slug}`"
        parts = [nodes.paragraph("", "", *self.inline(text + "."), classes=["ledger-made"])]
        if stale := book.stale[slug]:
            names = ", ".join(f"*{name}*" for name in stale)
            text = (
                f"**Stale**: {names}. The code that these experiments reached has changed since "
                "their rows were made, and no replay has shown that the change was harmless."
            )
            parts.append(nodes.paragraph("", "", *self.inline(text), classes=["ledger-stale"]))
        return parts

    def statement(self, claim):
        section = f" ({claim['section']})" if claim["section"] else ""
        note = [nodes.emphasis(text=" " + claim["note"])] if claim["note"] else []
        return [nodes.strong(text=claim["id"]), nodes.Text(f" {claim['claim']}{section}"), *note]

    def word(self, claim):
        style = f"verdict-{claim['verdict'].replace(' ', '-')}"
        marks = [nodes.Text(" (stale)")] if claim["stale"] else []
        return [nodes.strong(text=verdict(claim), classes=[style]), *marks]

    def row(self, claim):
        smallest = NOT_STATED if claim["smallest"] is None else number(claim["smallest"])
        expected = f"{claim['metric']}: {claim['reads']}; smallest effect that matters: {smallest}"
        if claim["ci95"] is None:
            return [self.statement(claim), expected, "", "", "", self.word(claim)]
        low, high = claim["ci95"]
        holm = "" if claim["p_holm"] is None else f"; p {claim['p_holm']:.2g} after Holm"
        return [
            self.statement(claim),
            expected,
            f"{mean(claim['system'])}; {mean(claim['baseline'])}",
            f"{number(claim['effect'])} ({number(low)} to {number(high)}){holm}",
            str(len(claim["seeds"])),
            self.word(claim),
        ]


def stale_chapters(app):
    """Document name -> names of its stale experiments."""
    found = {}
    for path in sorted(Path(app.srcdir).glob("book/results/*.json")):
        record = records.read_record(path)
        names = sorted(stale_experiments(record, Path(app.srcdir)))
        pages = sorted(Path(app.srcdir).glob(f"notebooks/*/{path.stem}.py"))
        if names and pages:
            found[pages[0].relative_to(app.srcdir).with_suffix("").as_posix()] = names
    return found


def outdated(app, env, added, changed, removed):
    """Read the chapters again whose state has changed since the last build."""
    before, env.gentok_stale = getattr(env, "gentok_stale", {}), stale_chapters(app)
    pages = before.keys() | env.gentok_stale.keys()
    return [p for p in pages if before.get(p) != env.gentok_stale.get(p) and p in env.found_docs]


def say_stale(app, doctree):
    """Put a note under the title of a chapter whose record is stale."""
    names = getattr(app.env, "gentok_stale", {}).get(app.env.docname)
    if not names:
        return
    title = nodes.title(text="Stale measurements")
    text = nodes.paragraph(
        text="The code that these experiments reached has changed since their rows were made, and "
        f"no replay has shown that the change was harmless: {', '.join(names)}."
    )
    note = nodes.admonition("", title, text, classes=["warning"])
    section = next(doctree.findall(nodes.section), doctree)
    section.insert(1 if isinstance(section, nodes.section) else 0, note)


def setup(app):
    app.add_directive("ledger", Ledger)
    app.connect("env-get-outdated", outdated)
    app.connect("doctree-read", say_stale)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
