"""The directive `api`: what a package of the library offers, module by module, from its docstrings.

    ```{api} nn
    ```

Modules come from the package itself, so that a new one is in the book at once. Docstrings are
reStructuredText in Google's form; a name between single backquotes is a link where it leads
somewhere. Names of the library that pages and chapters write as code link here, too, and words of
torch and transformers to their own references, by inventories that are kept beside this file: a
build needs no network.
"""

import ast
import importlib
import pkgutil
import re
import zlib
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

LIBRARY = re.compile(r"gentok(\.\w+)+")
LINKS = (nodes.reference, nodes.title, addnodes.pending_xref)
ENTRY = re.compile(r"^(?P<indent> *)(?P<names>[\w.`*\"/]+(?:, [\w.`*\"/]+)*): (?P<text>.+)$")
INVENTORIES = Path(__file__).with_name("inventories")
PEERS = {
    "torch": "https://docs.pytorch.org/docs/stable/",
    "transformers": "https://huggingface.co/docs/transformers/",
}
AUTODOC = """```{{eval-rst}}
.. automodule:: {name}
   :members:
   :ignore-module-all:
   :member-order: bysource
```"""


class Api(SphinxDirective):
    """A section a module: its docstring, its public classes and functions."""

    required_arguments = 1

    def run(self):
        self.env.note_dependency(__file__)
        package = importlib.import_module(f"gentok.{self.arguments[0]}")
        found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        sections = []
        for name in [package.__name__, *sorted(module.name for module in found)]:
            path = Path(importlib.util.find_spec(name).origin)
            if says_something(path):
                self.env.note_dependency(str(path))
                sections.append(self.section(name))
        return sections

    def section(self, name):
        section = nodes.section("", nodes.title(text=name), ids=[nodes.make_id(name)], names=[name])
        self.state.document.note_explicit_target(section)
        lines = AUTODOC.format(name=name).split("\n")
        self.state.nested_parse(StringList(lines, name), 0, section)
        return section


def tidy(app, what, name, obj, options, lines):
    """Make reStructuredText of what docstrings say in plain words.

    Bars mean absolute values, not substitutions; a letter is no number of a list; and several
    results, a line each, are a list.
    """
    lines[:] = results_as_list([plain(line) for line in lines])


LITERAL = re.compile(r"(``.*?``|`.*?`)")
LETTER = re.compile(r": (\w)\.(?=\s|$)")


def plain(line):
    """A line whose words outside backquotes mean nothing to reStructuredText."""
    parts = LITERAL.split(line)  # every second one is between backquotes
    parts[::2] = [LETTER.sub(r": \1\\.", part.replace("|", r"\|")) for part in parts[::2]]
    return "".join(parts)


def results_as_list(lines):
    """The section `Returns` with its entries as bullets, if there are several."""
    if "Returns:" not in lines:
        return lines
    start = lines.index("Returns:") + 1
    end = next((n for n in range(start, len(lines)) if lines[n][:1].strip()), len(lines))
    block = lines[start:end]
    depth = min((len(x) - len(x.lstrip()) for x in block if x.strip()), default=0)
    entries = [bool(ENTRY.match(x)) and len(x) - len(x.lstrip()) == depth for x in block]
    if sum(entries) < 2 or not entries[0]:
        return lines
    made = ["", ":returns:"]
    for line, entry in zip(block, entries, strict=True):
        text = line.strip()
        if entry:
            names, _, words = text.partition(": ")
            names = names if "`" in names else f"``{names}``"
            made.append(f"    * {names}: {words}")
        else:
            made.append(f"      {text}" if text else "")
    return [*lines[: start - 1], *made, "", *lines[end:]]


def says_something(path):
    """Whether a module defines anything that is public; others only pass names on."""
    tree = ast.parse(path.read_text("utf-8"))
    defined = (n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef))
    return any(not node.name.startswith("_") for node in defined)


def link_library(app, doctree):
    """Make links of the library's names that stand as code in a text."""
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext()
        above = literal.parent
        if LIBRARY.fullmatch(name) and not isinstance(above, LINKS):
            link = addnodes.pending_xref(
                "", literal.deepcopy(), refdomain="py", reftype="obj", reftarget=name,
                refexplicit=True, refwarn=False, refdoc=app.env.docname,
            )  # fmt: skip
            above.replace(literal, link)


def inventory(name):
    """A project's inventory: the lines of its text, compressed as Sphinx wants them."""
    lines = (INVENTORIES / f"{name}.txt").read_text("utf-8").splitlines()
    body = "".join(f"{line}\n" for line in lines if line and not line.startswith("#"))
    head = f"# Sphinx inventory version 2\n# Project: {name}\n# Version: \n"
    head += "# The remainder of this file is compressed using zlib.\n"
    return head.encode() + zlib.compress(body.encode())


def write_inventories(app, config):
    """Before intersphinx looks for them."""
    folder = Path(app.doctreedir) / "inventories"
    folder.mkdir(parents=True, exist_ok=True)
    for name, address in PEERS.items():
        path = folder / f"{name}.inv"
        path.write_bytes(inventory(name))
        config.intersphinx_mapping[name] = (address, str(path))


def one_line(app, env):
    """A caption of two lines would break the inventory's lines: labels hold it on one."""
    labels = env.domaindata["std"]["labels"]
    for name, (page, place, title) in labels.items():
        labels[name] = (page, place, " ".join(title.split()))


def setup(app):
    for extension in ("autodoc", "napoleon", "intersphinx"):
        app.setup_extension(f"sphinx.ext.{extension}")
    app.add_directive("api", Api)
    app.connect("autodoc-process-docstring", tidy, priority=100)
    app.connect("config-inited", write_inventories, priority=1)
    app.connect("doctree-read", link_library)
    app.connect("env-check-consistency", one_line)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
