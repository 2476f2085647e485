"""What a notebook's outputs, and each of its experiments, depend on.

The outputs of a notebook depend on all its cells. An experiment, a call ``study.ablate("name",
train, arms)``, depends on ``train`` and ``arms`` and on the statements before it that bind or
change what these use: not on figures, tables, exercises, or another experiment's arms. A name is
changed by a statement that assigns to it or to a part of it, by a bare call that is given it or
is its method, and by a call of ``fit`` or ``train...`` that is given it. A line that sets a seed
counts for the statements below it in its cell.
"""

import ast
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gentok.book import closure
from gentok.book.closure import Closure
from gentok.book.modules import ASIDE, Definition, Module, Package, changed, package
from gentok.book.syntax import Writer, bound, cell_marks, chain, imported, parse_cell

NOTEBOOK = "(notebook)"
EXPERIMENT = Definition(NOTEBOOK, "(experiment)")
SHOWS = {"print", "display", "study", "axes", "ax", "figure"}  # names that only show or judge
SHOWN_BY = ("matplotlib", "seaborn", "IPython", "gentok.show", "gentok.book")
INSTALL = "install"  # tag of the cell that fetches a missing gentok: nothing depends on it
STATEMENTS = ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Expr
STATEMENTS |= ast.For | ast.While | ast.With | ast.If | ast.Try  # those that may change a name


@dataclass(frozen=True)
class Cell:
    """A code cell: its source, its tags, and whether it only draws or only solves an exercise."""

    source: str
    tags: tuple[str, ...] = ()
    aside: bool = False


def that_compute(cells: Iterable[Cell]) -> list[Cell]:
    """The cells without the one that fetches a missing gentok."""
    return [cell for cell in cells if INSTALL not in cell.tags]


def experiment_names(cells: Iterable[Cell]) -> list[str]:
    """The experiments of a notebook, in order; "" stands for a call whose name is no literal."""
    trees = [tree for cell in cells if (tree := parse_cell(cell.source)) is not None]
    names = [_literal_name(call) for tree in trees for call in _ablations(tree)]
    return list(dict.fromkeys(names))


def experiment_closure(
    cells: Iterable[Cell], name: str, sources: Package | None = None, without=closure.DISPLAY
) -> Closure | None:
    """All that one experiment of a notebook reaches; None if the notebook has no such experiment.

    Args:
        cells: the notebook's code cells, in order.
        name: the experiment's name.
        sources: the package to follow names into; the installed one if None.
        without: parts of the package that do not count.
    """
    module = Module(NOTEBOOK, None)
    for cell in that_compute(cells):
        tree = parse_cell(cell.source)
        seeds: list[ast.stmt] = []
        for node in tree.body if tree is not None else ():
            calls = [call for call in _ablations(node) if _literal_name(call) in (name, "")]
            if calls:
                named = (k.value for k in calls[0].keywords if k.arg in ("train", "arms"))
                wanted = ast.Expr(ast.Tuple([*calls[0].args[1:3], *named], ast.Load()))
                if isinstance(node, ast.FunctionDef) or not _literal_name(calls[0]):
                    wanted = node  # called from somewhere: what is around it counts
                module.statements[EXPERIMENT.name] = [*seeds, wanted]
                return Closure(sources, without, module).reach(EXPERIMENT)
            _add(module, node, seeds, cell.aside)
    return None


def outputs_closure(
    cells: Iterable[Cell], sources: Package | None = None, without=closure.TOOLS
) -> tuple[Closure, list[str]]:
    """All that a notebook reaches, and the text of each cell."""
    module = Module(NOTEBOOK, None)
    texts = []
    for count, cell in enumerate(that_compute(cells)):
        tree = parse_cell(cell.source)
        if tree is None:
            texts.append(cell.source)
            continue
        for node in tree.body:
            _, imports = bound([node])
            for statement in imports:
                module.imports |= imported(statement, NOTEBOOK, False)
        module.statements[f"cell {count}"] = [
            node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)
        ]
        texts.append(cell_marks(cell.source, tree))
    found = Closure(sources, without, module)
    cells_found = [Definition(NOTEBOOK, name) for name in module.statements]
    found.reach(*cells_found)
    texts += [found.texts[definition] for definition in cells_found]
    return found, texts


def outputs_digest(
    cells: Iterable[Cell], parameters: dict, *more: str, sources: Package | None = None
) -> str:
    """Hash of all that the outputs of a notebook depend on; ``more`` are words beside its code."""
    found, texts = outputs_closure(cells, sources)
    return found.digest(*texts, json.dumps(parameters, sort_keys=True), *more)


def function_closure(name: str, sources: Package | None = None) -> Closure | None:
    """All that a function of the package reaches, such as ``gentok.book.method.train``.

    Returns:
        None for a function from elsewhere.
    """
    sources = sources or package()
    module_name, _, function = name.rpartition(".")
    module = sources.find(module_name)
    if module is None or function not in module.statements:
        return None
    found = Closure(sources)
    found.kept += (module.name,)
    return found.reach(Definition(module.name, function))


def _add(module: Module, node: ast.stmt, seeds: list[ast.stmt], aside: bool) -> None:
    """Note what a statement binds and changes; seeds set before it in its cell come with it.

    Of a cell that only draws, what it binds first counts, in case that others read it.
    """
    if aside and bound([node])[0] & module.statements.keys():
        return
    if _sets_seed(node):
        seeds.append(node)
        return
    before = {name: len(found) for name, found in module.statements.items()}
    module.add(node)
    module.statements.pop(ASIDE, None)
    if aside or not isinstance(node, STATEMENTS):
        return
    for name in _changed_by_calls(module, node) | (changed(node) - {ASIDE}):
        found = module.statements.setdefault(name, [])
        if not found or found[-1] is not node:
            found.append(node)
    for name, found in module.statements.items():
        if seeds and len(found) > before.get(name, 0):
            found[-1:-1] = [seed for seed in seeds if seed not in found]


def _changed_by_calls(module: Module, node: ast.stmt) -> set[str]:
    names: set[str] = set()
    for call in (n for n in ast.walk(node) if isinstance(n, ast.Call)):
        parts = chain(call.func)
        trains = bool(parts) and (parts[-1] == "fit" or parts[-1].startswith("train"))
        if parts and not _shows(module, parts[0]) and (trains or _is_bare(call, node)):
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            names |= {arg.id for arg in given if isinstance(arg, ast.Name)}
            names |= {parts[0]} if len(parts) > 1 else set()
    return names & module.statements.keys()


def _is_bare(call: ast.Call, node: ast.stmt) -> bool:
    """Whether a call's result is thrown away, so that it is there for what it changes."""
    return any(isinstance(n, ast.Expr) and n.value is call for n in ast.walk(node))


def _shows(module: Module, name: str) -> bool:
    source = module.imports.get(name, ("", None))
    return name in SHOWS or ".".join(filter(None, source)).startswith(SHOWN_BY)


def _sets_seed(node: ast.stmt) -> bool:
    parts = chain(node.value.func) if _is_call(node) else None
    return bool(parts) and parts[-1] in ("manual_seed", "seed")


def _is_call(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def _ablations(tree: ast.AST) -> list[ast.Call]:
    calls = (n for n in ast.walk(tree) if isinstance(n, ast.Call))
    return [call for call in calls if getattr(call.func, "attr", "") == "ablate"]


def _literal_name(call: ast.Call) -> str:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) else ""


def cell_text(source: str) -> str:
    """What matters of one cell, alone: for tests and for people."""
    tree = parse_cell(source)
    if tree is None:
        return source
    return Writer(lambda parts, imports: None).write(tree.body) + cell_marks(source, tree)


def code_cells(path: Path) -> list[Cell]:
    """The code cells of a notebook's source, read without jupytext, whose import takes seconds."""
    cells: list[Cell] = []
    for block in re.split(r"^(?=# %%)", path.read_text(encoding="utf-8"), flags=re.M)[1:]:
        head, _, source = block.partition("\n")
        if "[markdown]" not in head:
            tags = re.search(r"tags=(\[[^]]*\])", head)
            pictures = re.search(r'mystnb=\{"(figure|image)"', head)
            tags = tuple(json.loads(tags[1])) if tags else ()
            cells.append(Cell(source.strip("\n"), tags, bool(pictures) or "solution" in tags))
    return cells
