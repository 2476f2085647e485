"""Directives `systems` (a table of systems), `prerequisites` (which chapter needs which) and
`block-matrix` (which system uses which block).

    ```{systems}
    :part: latents
    ```

All follow the registry and the library's own imports, so they cannot fall behind the code.
"""

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective
from tables import table

from gentok.book import closure, modules, pages, registry


class Directive(SphinxDirective):
    """What both tables share: inline markup and a link to a system's chapter."""

    option_spec = {"part": directives.unchanged_required}

    def chosen(self):
        self.env.note_dependency(__file__)
        self.env.note_dependency(registry.__file__)
        part = self.options.get("part")
        if part is not None and part not in registry.PARTS:
            raise self.error(f"unknown part {part!r}; there are: {', '.join(registry.PARTS)}")
        return [system for system in registry.systems() if part in (None, system.part)]

    def inline(self, text):
        found, messages = self.parse_inline(text)
        return [*found, *messages]

    def chapter(self, system):
        page = f"notebooks/{system.part}/{system.slug}"
        if page in self.env.found_docs:
            return self.inline(f"{{doc}}`{system.slug} </{page}>`")
        return [nodes.literal(text=system.slug)]


class Systems(Directive):
    """One row a system: name, paper, what it does, part, state."""

    def run(self):
        systems, rows = self.chosen(), []
        for system in systems:
            part = (
                []
                if "part" in self.options
                else [self.inline(f"{{doc}}`/book/parts/{system.part}`")]
            )
            paper = self.inline(f"{{cite:t}}`{system.key}`")
            rows.append([self.chapter(system), paper, system.summary, *part, system.state])
        part = [] if "part" in self.options else ["part"]
        return [table(["system", "paper", "what it does", *part, "state"], rows)]


class Prerequisites(Directive):
    """One row a system: its part, its chapter, and which chapters to read first for what."""

    def run(self):
        rows = []
        for system in self.chosen():
            cells = []
            for slug, why in registry.prerequisites(system.slug).items():
                gap = [nodes.Text("; ")] if cells else []
                cells += [*gap, *self.chapter(registry.get(slug)), nodes.Text(f" ({why})")]
            rows.append([system.part, self.chapter(system), cells or "none", system.state])
        return [table(["part", "chapter", "read first (for what)", "state"], rows)]


class BlockMatrix(Directive):
    """One row a written system, one column a module of nn/ and process/ that any of them uses."""

    def run(self):
        uses = {system.slug: self.blocks(system) for system in self.chosen() if system.module}
        columns = sorted(set().union(*uses.values()))
        rows = [
            [self.chapter(registry.get(slug)), *("yes" if name in used else "" for name in columns)]
            for slug, used in uses.items()
        ]
        headers = [name.removeprefix("gentok.").replace(".", " ") for name in columns]
        return [table(["system", *headers], rows, classes=["block-matrix"])]

    def blocks(self, system):
        """Names of the modules of nn/ and process/ of which a system uses a definition."""
        module = modules.package().find(system.module)
        if module is None:
            raise self.error(f"the registry names {system.module}, which has no file")
        self.env.note_dependency(str(module.path))
        found = closure.Closure(without=closure.TOOLS)
        found.reach(*found.whole(module))
        floors = ("gentok.nn.", "gentok.process.")
        return {each.module for each in found.texts if each.module.startswith(floors)}


def count(app, config):
    """Prose takes the counts of chapters as ``{{ complete }}``, ``{{ planned }}`` and so on."""
    config.myst_substitutions = {**config.myst_substitutions, **pages.counts()}


def setup(app):
    app.connect("config-inited", count)
    app.add_directive("prerequisites", Prerequisites)
    app.add_directive("systems", Systems)
    app.add_directive("block-matrix", BlockMatrix)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
