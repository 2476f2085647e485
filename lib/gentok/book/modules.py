"""The modules of the package as text: what each binds, imports and reads, without running it."""

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from gentok.book.syntax import bound, imported, opens_with_text

PACKAGE = Path(__file__).resolve().parents[1]
ASIDE = "(statements)"  # the name under which a module's bare statements are kept


@dataclass(frozen=True)
class Definition:
    """A name at the top of a module, with all statements that bind or change it."""

    module: str
    name: str


@dataclass
class Module:
    """One source: its dotted name, its file (None for a notebook) and what it binds."""

    name: str
    path: Path | None
    statements: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    reads: dict[str, str] = field(default_factory=dict)

    @property
    def is_package(self) -> bool:
        return self.path is not None and self.path.name == "__init__.py"

    def add(self, node: ast.stmt) -> None:
        """Note what a top-level statement binds."""
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            return
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return
        names, imports = bound([node])
        for statement in imports:
            found = imported(statement, self.name, self.is_package)
            self.stars += [source for source, what in found.values() if what == "*"]
            self.imports |= {k: v for k, v in found.items() if v[1] != "*"}
        if isinstance(node, ast.Import | ast.ImportFrom):
            return
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "READS":
            self.reads = ast.literal_eval(node.value)
            return
        for name in names - {"__all__"} or changed(node):
            self.statements.setdefault(name, []).append(node)


def changed(node: ast.stmt) -> set[str]:
    """What a statement that binds no name changes: ``TABLE[x] = y`` and ``register(x)`` a name."""
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    roots = set()
    for target in targets:
        while isinstance(target, ast.Attribute | ast.Subscript):
            target = target.value
        if isinstance(target, ast.Name):
            roots.add(target.id)
    return roots or {ASIDE}


class Package:
    """The modules of a package on disk, read when they are asked for."""

    def __init__(self, folder: Path = PACKAGE):
        self.folder = folder
        self._modules: dict[str, Module | None] = {}
        self.followed: dict[tuple, Any] = {}  # what `gentok.book.closure` found, kept

    def find(self, name: str) -> Module | None:
        """The module of this dotted name, or None if the package has no such file."""
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def _read(self, name: str) -> Module | None:
        first, *rest = name.split(".")
        if first != self.folder.name:
            return None
        base = self.folder.joinpath(*rest)
        for path in (base / "__init__.py", base.with_suffix(".py") if rest else None):
            if path is not None and path.is_file():
                module = Module(name, path)
                body = _parse(path.read_text(encoding="utf-8")).body
                for node in body[1:] if opens_with_text(body) else body:
                    module.add(node)
                return module
        return None

    def lookup(self, module: Module, name: str) -> "Definition | Module | str | None":
        """What a name at the top of a module stands for.

        Returns:
            a definition or module of the package, the dotted name of something outside it, or None
            if the module does not bind the name (a builtin, or a mistake).
        """
        if name in module.statements:
            return Definition(module.name, name)
        if name in module.imports:
            return self._imported(*module.imports[name])
        for source in module.stars:
            other = self.find(source)
            found = self.lookup(other, name) if other else None
            if found is not None:
                return found
        return None

    def _imported(self, source: str, what: str | None) -> "Definition | Module | str | None":
        module = self.find(source)
        if module is None:
            return source if what is None else f"{source}.{what}"
        return module if what is None else self.member(module, what)

    def member(self, module: Module, name: str) -> "Definition | Module | str | None":
        """``module.name``: what its file binds, else its submodule."""
        found = self.lookup(module, name)
        return self.find(f"{module.name}.{name}") if found is None else found

    def within(self, name: str) -> list[Module]:
        """A module and, if it is a package, all modules inside it."""
        module = self.find(name)
        if module is None or not module.is_package:
            return [module] if module else []
        files = sorted(module.path.parent.rglob("*.py"))
        parts = [file.relative_to(self.folder).with_suffix("").parts for file in files]
        names = [".".join([self.folder.name, *p]).removesuffix(".__init__") for p in parts]
        return [self.find(each) for each in names]


@cache
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def package() -> Package:
    """The installed package."""
    return Package()


def package_of(root: Path) -> Package:
    """The package in a source tree; the installed one if the tree holds none."""
    folder = root / "lib" / "gentok"
    return Package(folder) if folder.is_dir() and folder.resolve() != PACKAGE else package()
