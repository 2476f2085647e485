"""Which code does a notebook or module reach, and has it changed? Answered without running it.

Imports are followed statically. Comments, docstrings and layout do not count: what is hashed is
the syntax tree, written by `_dump`, since `ast.dump` differs from one Python version to the next.
A package whose `__init__.py` only re-exports is looked through: `from gentok.data import digits`
reaches the module that defines `digits`, not all of `gentok.data`.
"""

import ast
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]

# These list, hash or run the others; no number and no picture depends on them.
TOOLS = {"gentok.cli"} | {
    f"gentok.book.{name}"
    for name in ("closure", "graph", "notebook", "pages", "pairs", "registry", "slides")
}
# A record of claims does not depend on these either: what draws, what shows progress, and the rule
# for verdicts, which a test applies again to all recorded values.
DISPLAY = {
    f"gentok.{name}"
    for name in (
        "book.chapter",
        "book.checks",
        "book.claims",
        "show.code",
        "show.diagram",
        "show.media",
        "show.plot",
        "show.table",
        "training.progress",
    )
}


@dataclass(frozen=True)
class Module:
    """One source file of the package: its dotted name, its file and its syntax tree."""

    name: str
    path: Path
    tree: ast.Module


@cache
def _load(path: Path, name: str, stamp: int) -> Module:
    return Module(name, path, ast.parse(path.read_text(encoding="utf-8")))


def find_module(name: str, package: Path = PACKAGE) -> Module | None:
    """The module of this dotted name, or None if the package has no such file."""
    first, *rest = name.split(".")
    if first != package.name:
        return None
    base = package.joinpath(*rest)
    for path in (base / "__init__.py", base.with_suffix(".py") if rest else None):
        if path is not None and path.is_file():
            return _load(path, name, path.stat().st_mtime_ns)
    return None


def _imports(tree: ast.AST, module: str, is_package: bool) -> Iterable[tuple[str, str | None]]:
    """(module, imported name or None) of each import statement, relative ones made absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                source = ".".join([*parts, source] if source else parts)
            yield from ((source, alias.name) for alias in node.names)


def _is_facade(module: Module) -> bool:
    """True for an `__init__.py` that holds nothing but imports, a docstring and `__all__`."""
    if module.path.name != "__init__.py":
        return False
    for node in module.tree.body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        if not (is_text or is_all or isinstance(node, ast.Import | ast.ImportFrom)):
            return False
    return True


def _targets(source: str, name: str | None, package: Path) -> Iterable[str]:
    """Names of the modules that `import source` or `from source import name` depends on."""
    module = find_module(source, package)
    if module is None:
        return
    if name is None or name == "*":
        yield source
        return
    if find_module(f"{source}.{name}", package) is not None:
        yield f"{source}.{name}"
        return
    if _is_facade(module):
        for node in module.tree.body:
            if isinstance(node, ast.ImportFrom):
                origin = list(_imports(node, source, True))
                for alias, (where, what) in zip(node.names, origin, strict=True):
                    if (alias.asname or alias.name) == name:
                        yield from _targets(where, what, package)
                        return
    yield source


def _with_parents(name: str, package: Path) -> Iterable[str]:
    """The module and those packages around it whose `__init__.py` does more than re-export."""
    yield name
    parts = name.split(".")
    for length in range(1, len(parts)):
        parent = find_module(".".join(parts[:length]), package)
        if parent is not None and not _is_facade(parent):
            yield parent.name


def reach(
    trees: Iterable[ast.AST], without: set[str], package: Path = PACKAGE, start: str = ""
) -> list[Module]:
    """All modules of the package that these trees import, directly or through others, by name.

    Args:
        trees: syntax trees to start from.
        without: names of modules to leave out (and not to look into).
        package: folder of the package.
        start: dotted name of the module that the trees belong to (for relative imports).
    """
    found: dict[str, Module] = {}
    todo = [(tree, start, False) for tree in trees]
    while todo:
        tree, module_name, is_package = todo.pop()
        for source, imported in _imports(tree, module_name, is_package):
            for target in _targets(source, imported, package):
                for name in _with_parents(target, package):
                    if name in found or name in without or name.rpartition(".")[0] in without:
                        continue
                    module = found[name] = find_module(name, package)
                    todo.append((module.tree, name, module.path.name == "__init__.py"))
    return [found[name] for name in sorted(found)]


def data_files(module: Module) -> list[Path]:
    """Files beside a module that are not Python and that its string constants name.

    A constant names a file by its file name, or by the folder beside the module that it lies in.
    """
    constants = (node.value for node in ast.walk(module.tree) if isinstance(node, ast.Constant))
    words = {text.split("/")[0] for text in constants if isinstance(text, str)}
    named = [path for path in sorted(module.path.parent.iterdir()) if path.name in words]
    files = [file for path in named for file in ([path] if path.is_file() else path.rglob("*"))]
    return sorted(file for file in files if file.is_file() and file.suffix not in {".py", ".pyc"})


_SILENT_FIELDS = {"kind", "type_comment", "type_ignores", "ctx"}


def _dump(node: object) -> str:
    """Write a syntax tree as text, the same in every Python version; docstrings are left out."""
    if isinstance(node, list):
        return "[" + ",".join(_dump(item) for item in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name in sorted(node._fields):
        value = getattr(node, name, None)
        if name == "body" and isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ):
            value = value[1:] if _opens_with_text(value) else value
        if isinstance(node, ast.JoinedStr):  # some versions add an empty text to an f-string
            value = [part for part in value if getattr(part, "value", None) != ""]
        if name not in _SILENT_FIELDS and value not in (None, []):
            fields.append(f"{name}={_dump(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _opens_with_text(body: list[ast.stmt]) -> bool:
    return bool(
        body
        and isinstance(body[0], ast.Expr)
        and isinstance(body[0].value, ast.Constant)
        and isinstance(body[0].value.value, str)
    )


_MAGIC = re.compile(r"^( *)[%!].*$", re.M)


def parse_cell(source: str) -> ast.Module | None:
    """The syntax tree of a notebook cell, its magics left out; None if it is not Python."""
    if source.lstrip().startswith("%%"):
        return None
    try:
        return ast.parse(_MAGIC.sub(r"\1pass", source))
    except SyntaxError:
        return None


def dump_cell(source: str) -> str:
    """What matters of a cell: its syntax tree, magics, and a last semicolon that hides its value.

    A cell's first string counts: it is not a docstring but a value that is shown.
    """
    tree = parse_cell(source)
    if tree is None or not tree.body:
        return source if tree is None else ""
    last = tree.body[-1]
    # Columns count bytes, and a line may hold a comment after the semicolon.
    tail = source.splitlines()[last.end_lineno - 1].encode()[last.end_col_offset :].decode()
    magics = "".join(match.group().strip() for match in _MAGIC.finditer(source))
    return _dump(tree.body) + magics + (";" if tail.lstrip().startswith(";") else "")


def digest(sources: Iterable[str], modules: Iterable[Module], package: Path = PACKAGE) -> str:
    """Hash of some sources, of modules and of the data files these name: 16 hexadecimal digits."""
    sha = hashlib.sha256()
    for source in sources:
        sha.update(f"cell {source}\n".encode())
    for module in modules:
        sha.update(f"module {module.name} {_dump(module.tree)}\n".encode())
        for path in data_files(module):
            sha.update(f"file {path.relative_to(package).as_posix()}\n".encode())
            sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()[:16]
