"""Which definitions does a piece of code reach, and have they changed? Answered without running it.

The unit is the definition: a function, a class or a module's constant. From the code at hand names
are followed through imports into the package, from definition to definition. What is never used
does not count, nor does the file a definition stands in: the hash is of the set of definitions
(their texts by `gentok.book.syntax`) and of which name in one means which other.

Where names cannot be followed, more is counted rather than less: a class counts whole, with its
bases; a module that is passed around, or asked with ``getattr``, counts whole; so does a system
that is looked up in the registry; statements that a module runs when it is imported count as soon
as anything of it does.

Files count by their bytes. A module declares those that its functions read:

    READS = {"load_classifier": "../weights/classifier_{0}.safetensors"}

a pattern beside the module, where ``{0}`` stands for the first argument if the call gives it as a
literal, and for any name if not.
"""

import ast
import hashlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from gentok.book.modules import ASIDE, Definition, Module, Package, package
from gentok.book.syntax import Scope, Writer, chain

# What runs, lists or judges, and how much a profile does: the values that an experiment picks for
# a profile stand in its own code.
TOOLS = ("cli", "doctor", "book", "training.profiles")
# What draws or shows progress, too: no recorded number depends on it.
DISPLAY = (*TOOLS, "show", "training.progress")
KEPT = ("book.checks",)  # what the exercises of a page print


@dataclass
class Trace:
    """What one definition leads to: its text, the names in it, what to follow, files it reads."""

    text: str = ""
    edges: set[tuple[str, Definition]] = field(default_factory=set)
    targets: list[Definition] = field(default_factory=list)
    files: set[Path] = field(default_factory=set)


class Closure:
    """All definitions that some code reaches.

    Args:
        sources: the package to follow names into.
        without: parts of the package (below its name) that are not looked into.
        start: the source to begin at, if it is no module of the package: a notebook.
    """

    def __init__(
        self, sources: Package | None = None, without=DISPLAY, start: Module | None = None
    ):
        self.sources = sources or package()
        root = self.sources.folder.name
        self.without = tuple(f"{root}.{part}" for part in without)
        self.kept = tuple(f"{root}.{part}" for part in KEPT)
        self.registry = f"{root}.book.registry"
        self.start = start
        self.texts: dict[Definition, str] = {}
        self.edges: dict[Definition, set[tuple[str, Definition]]] = {}
        self.files: set[Path] = set()
        self._todo: list[Definition] = []

    def reach(self, *definitions: Definition) -> "Closure":
        """Add definitions and all that they reach."""
        self._todo += definitions
        while self._todo:
            definition = self._todo.pop()
            if definition not in self.texts:
                self._follow(definition)
        return self

    def digest(self, *more: str) -> str:
        """Hash of all definitions, of the files they read, and of some words: 16 hex digits."""
        shallow = {d: _sha(text) for d, text in self.texts.items()}
        lines = set(shallow.values())
        for definition, targets in self.edges.items():
            lines |= {f"{shallow[definition]} {name} {shallow[to]}" for name, to in targets}
        lines |= {f"file {path.name} {_sha_file(path)}" for path in self.files}
        return _sha("\n".join([*more, *sorted(lines)]))[:16]

    def names(self) -> list[str]:
        """The definitions as ``module.name``, sorted: for people who ask why a hash changed."""
        return sorted(f"{d.module}.{d.name}" for d in self.texts)

    def _module(self, name: str) -> Module:
        return self.start if self.start and name == self.start.name else self.sources.find(name)

    def _hidden(self, module: str) -> bool:
        return _below(module, self.without) and not _below(module, self.kept)

    def _follow(self, definition: Definition) -> None:
        of_package = self.start is None or definition.module != self.start.name
        known = self.sources.followed if of_package else {}
        if (self.without, definition) not in known:
            known[self.without, definition] = self._trace(definition)
        found = known[self.without, definition]
        self.texts[definition], self.edges[definition] = found.text, found.edges
        self.files |= found.files
        self._todo += found.targets

    def _trace(self, definition: Definition) -> "Trace":
        """One definition's text, and what it leads to."""
        module = self._module(definition.module)
        statements = module.statements[definition.name]
        found = Trace()

        def resolve(parts: list[str], imports: dict) -> tuple[str, int] | None:
            target, used = self._resolve(module, parts, imports)
            if target is None or isinstance(target, str):
                return target and (target, used)
            if isinstance(target, Module):
                found.targets += self.whole(target)
                return target.name.rpartition(".")[2], used
            if target.module == self.registry:
                found.targets += self._looked_up(statements)
            if not self._hidden(target.module):
                found.edges.add((target.name, target))
                found.targets.append(target)
            return target.name, used

        def is_function(parts: list[str]) -> bool:
            target, _ = self._resolve(module, parts, {})
            if not isinstance(target, Definition):
                return False
            first = self._module(target.module).statements[target.name][0]
            return isinstance(first, ast.FunctionDef)

        writer = Writer(resolve, is_function, module.name, module.is_package)
        found.text = "".join(writer.write(node, Scope()) for node in statements)
        if ASIDE in module.statements and module is not self.start:
            found.targets.append(Definition(module.name, ASIDE))
        for node in statements:
            self._read_files(module, node, found.files)
        return found

    def _resolve(self, module: Module, parts: list[str], imports: dict):
        """What a dotted name stands for, and how many of its parts that covers."""
        if parts[0] in imports:
            target = self.sources._imported(*imports[parts[0]])
        else:
            target = self.sources.lookup(module, parts[0])
        used = 1
        while isinstance(target, Module) and used < len(parts):
            inner = self.sources.member(target, parts[used])
            if inner is None:
                break
            target, used = inner, used + 1
        if isinstance(target, str):  # outside: as written, from the outside module on
            return ".".join([target, *parts[used:]]), len(parts)
        return target, used

    def whole(self, module: Module) -> list[Definition]:
        """All that a module defines, and what it imports from the package by name."""
        if self._hidden(module.name):
            return []
        found = [Definition(module.name, name) for name in module.statements]
        for name in module.imports:
            target = self.sources.lookup(module, name)
            if isinstance(target, Definition) and not self._hidden(target.module):
                found.append(target)
        return found

    def _looked_up(self, statements: list[ast.stmt]) -> list[Definition]:
        """Systems that code looks up by name: those it names, all of them if it names none."""
        words = {n.value for s in statements for n in ast.walk(s) if isinstance(n, ast.Constant)}
        folders = sorted(self.sources.folder.glob("*/*/__init__.py"))
        named = [p for p in folders if p.parent.name in words] or folders
        names = [path.parent.relative_to(self.sources.folder.parent).parts for path in named]
        modules = [module for parts in names for module in self.sources.within(".".join(parts))]
        return [definition for module in modules for definition in self.whole(module)]

    def _read_files(self, module: Module, statement: ast.stmt, files: set[Path]) -> None:
        """Files that the functions which a statement calls or passes on declare."""
        called = set()
        for node in ast.walk(statement):  # a call comes before its parts
            if isinstance(node, ast.Call) and node.args and (parts := chain(node.func)):
                words = _literals(node.args[0])
                called |= {id(node.func)} if words else set()
                for word in words:
                    files.update(self._declared(module, parts, word))
            elif isinstance(node, ast.Name | ast.Attribute) and id(node) not in called:
                parts = chain(node)
                files.update(self._declared(module, parts, "*") if parts else ())

    def _declared(self, module: Module, parts: list[str], argument: str) -> list[Path]:
        target, _ = self._resolve(module, parts, {})
        if isinstance(target, Definition):
            owner = self._module(target.module)
            if pattern := owner.reads.get(target.name):
                return _matching(owner.path.parent, pattern.replace("{0}", argument))
        return []


def _below(module: str, parts: tuple[str, ...]) -> bool:
    return any(module == part or module.startswith(part + ".") for part in parts)


def _literals(node: ast.expr) -> list[str]:
    """The words that an argument can be, if it is one or a choice between some; else none."""
    if isinstance(node, ast.IfExp):
        both = _literals(node.body), _literals(node.orelse)
        return both[0] + both[1] if all(both) else []
    return [str(node.value)] if isinstance(node, ast.Constant) else []


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Files that a declared pattern, which may climb with ``..``, finds from a module's folder."""
    while pattern.startswith("../"):
        folder, pattern = folder.parent, pattern.removeprefix("../")
    return sorted(folder.glob(pattern))


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _sha_of(path: Path, stamp: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sha_file(path: Path) -> str:
    status = path.stat()
    return _sha_of(path, status.st_mtime_ns, status.st_size)
