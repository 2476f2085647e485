"""The syntax of Python code as a text that holds what the code does and nothing else.

Two pieces of code that compute the same by the same steps are written alike: layout, comments,
docstrings, annotations and the words of error messages are left out, import lines too, and a name
that comes from an import is written as what it stands for. So a definition may move to another
file, and its text stays. `ast.dump` is not used, since it differs between versions of Python.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

SILENT = {"kind", "type_comment", "type_ignores", "type_params", "ctx", "annotation", "returns"}
# Annotations that change what a dataclass does.
MEANT = re.compile(r"ClassVar|InitVar|KW_ONLY")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# (dotted name as written, imports of the function around it) -> (what to write, parts it covers)
Resolve = Callable[[list[str], dict[str, tuple[str, str | None]]], tuple[str, int] | None]


@dataclass(frozen=True)
class Scope:
    """Names that mean something local here, and what the functions around here import."""

    local: frozenset[str] = frozenset()
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)


def opens_with_text(body: list[ast.stmt]) -> bool:
    """Whether the first statement is a string, as a docstring is."""
    first = body[0] if body else None
    return (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )


def chain(node: ast.AST) -> list[str] | None:
    """``a.b.c`` as ["a", "b", "c"]; None for anything that does not start at a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else None


def imported(node: ast.stmt, module: str, is_package: bool) -> dict[str, tuple[str, str | None]]:
    """What an import statement binds: name -> (module, attribute or None for the module itself)."""
    found: dict[str, tuple[str, str | None]] = {}
    if isinstance(node, ast.Import):
        for alias in node.names:
            first = alias.name.split(".")[0]
            found[alias.asname or first] = (alias.name if alias.asname else first, None)
    elif isinstance(node, ast.ImportFrom):
        source = node.module or ""
        if node.level:
            parts = module.split(".")
            parts = parts[: len(parts) - node.level + is_package]
            source = ".".join([*parts, source] if source else parts)
        for alias in node.names:
            found[alias.asname or alias.name] = (source, alias.name)
    return found


def bound(nodes: Iterable[ast.AST]) -> tuple[set[str], list[ast.stmt]]:
    """Names that these nodes bind in their own scope, and the import statements among them."""
    names, lifted, imports, todo = set(), set(), [], list(nodes)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, COMPREHENSIONS):  # a walrus inside binds outside
            walrus = (n.target.id for n in ast.walk(node) if isinstance(n, ast.NamedExpr))
            names.update(walrus)
        elif isinstance(node, ast.Global):
            lifted.update(node.names)
        elif not isinstance(node, ast.Lambda):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                names.add(node.id)
            elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
                names.add(node.name)
            elif isinstance(node, ast.MatchMapping) and node.rest:
                names.add(node.rest)
            todo.extend(ast.iter_child_nodes(node))
    return names - lifted, imports


def _messages(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """The parts of raise and assert statements that only speak to people."""
    for node in (inner for statement in body for inner in ast.walk(statement)):
        if isinstance(node, ast.Raise):
            yield from getattr(node.exc, "args", [])
            yield from getattr(node.exc, "keywords", [])
        elif isinstance(node, ast.Assert) and node.msg is not None:
            yield node.msg


def only_for_messages(body: list[ast.stmt]) -> set[int]:
    """Ids of the assignments in a function whose values nothing but error messages read."""
    spoken = {id(n) for part in _messages(body) for n in ast.walk(part)}
    if not spoken:
        return set()
    nodes = [n for statement in body for n in ast.walk(statement)]
    simple = [
        n
        for n in nodes
        if isinstance(n, ast.Assign) and len(n.targets) == 1 and isinstance(n.targets[0], ast.Name)
    ]
    dropped: set[int] = set()
    while True:
        loads = [n for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
        told = {n.id for n in loads if id(n) in spoken}
        used = {n.id for n in loads if id(n) not in spoken}
        fresh = [
            n
            for n in simple
            if id(n) not in dropped and n.targets[0].id in told and n.targets[0].id not in used
        ]
        if not fresh:
            return dropped
        dropped.update(id(n) for n in fresh)
        spoken.update(id(inner) for n in fresh for inner in ast.walk(n.value))


class Writer:
    """Writes syntax trees of one module.

    Args:
        resolve: tells what a dotted name stands for; it may note the name as a reference.
        is_function: tells whether a dotted name is a function of the package, which a ``raise``
            calls to make its exception.
        module: dotted name of the module, for relative imports; ``is_package`` for `__init__.py`.
    """

    def __init__(
        self,
        resolve: Resolve,
        is_function: Callable[[list[str]], bool] = lambda chain: False,
        module: str = "",
        is_package: bool = False,
    ):
        self.resolve, self.is_function = resolve, is_function
        self.module, self.is_package = module, is_package
        self._silent: set[int] = set()

    def write(self, node: object, scope: Scope = Scope()) -> str:  # noqa: B008, frozen
        """The text of a node, of a list of nodes, or of a plain value."""
        if isinstance(node, list):
            return "[" + ",".join(text for item in node if (text := self.write(item, scope))) + "]"
        if not isinstance(node, ast.AST):
            return repr(node)
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Pass) or id(node) in self._silent:
            return ""
        if isinstance(node, ast.Name | ast.Attribute) and (parts := chain(node)):
            return self._name(parts, scope)
        if isinstance(node, (*FUNCTIONS, ast.Lambda)):
            return self._function(node, scope, scope)
        if isinstance(node, ast.ClassDef):
            return self._class(node, scope)
        if isinstance(node, COMPREHENSIONS):
            targets, _ = bound(generator.target for generator in node.generators)
            return self._fields(node, self._inside(scope, targets))
        if isinstance(node, ast.Raise):
            return self._raise(node, scope)
        if isinstance(node, ast.Assert):
            return f"Assert({self.write(node.test, scope)})"
        if isinstance(node, ast.AnnAssign):
            return self._annotated(node, scope)
        return self._fields(node, scope)

    def _inside(self, scope: Scope, names: set[str], imports: list[ast.stmt] = ()) -> Scope:
        local_imports = dict(scope.imports)
        for statement in imports:
            local_imports |= imported(statement, self.module, self.is_package)
        local = (scope.local | names) - local_imports.keys()
        return Scope(frozenset(local), local_imports)

    def _name(self, parts: list[str], scope: Scope) -> str:
        found = None if parts[0] in scope.local else self.resolve(parts, scope.imports)
        label, used = found or (parts[0], 1)
        return "Name(" + ".".join([label, *parts[used:]]) + ")"

    def _function(self, node: ast.AST, scope: Scope, outer: Scope) -> str:
        """A function; ``scope`` is where its defaults stand, ``outer`` what its body sees."""
        arguments = [n for n in ast.walk(node.args) if isinstance(n, ast.arg)]
        body = node.body if isinstance(node.body, list) else [node.body]
        names, imports = bound(body)
        inner = self._inside(outer, names | {a.arg for a in arguments}, imports)
        if isinstance(node, ast.Lambda):
            return f"Lambda({self._arguments(node.args, scope)},{self.write(node.body, inner)})"
        self._silent |= only_for_messages(body)
        body = body[1:] if opens_with_text(body) else body
        kind = type(node).__name__
        decorators = self.write(node.decorator_list, scope)
        arguments = self._arguments(node.args, scope)
        return f"{kind}({node.name},{decorators},{arguments},{self.write(body, inner)})"

    def _arguments(self, node: ast.arguments, scope: Scope) -> str:
        """Names and defaults of arguments; annotations are left out."""
        places = [[a.arg for a in kind] for kind in (node.posonlyargs, node.args, node.kwonlyargs)]
        rest = [a.arg if a else None for a in (node.vararg, node.kwarg)]
        defaults = [
            [None if d is None else self.write(d, scope) for d in kind]
            for kind in (node.defaults, node.kw_defaults)
        ]
        return repr((places, rest, defaults))

    def _class(self, node: ast.ClassDef, scope: Scope) -> str:
        names, imports = bound(node.body)
        inside = self._inside(scope, names, imports)
        body = node.body[1:] if opens_with_text(node.body) else node.body
        parts = [
            self._function(part, inside, scope)
            if isinstance(part, FUNCTIONS)
            else self.write(part, inside)
            for part in body
        ]
        heads = [self.write(x, scope) for x in (node.decorator_list, node.bases, node.keywords)]
        return f"ClassDef({node.name},{','.join(heads)},[{','.join(p for p in parts if p)}])"

    def _raise(self, node: ast.Raise, scope: Scope) -> str:
        exception = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        if exception is None:
            return "Raise()"
        parts = chain(exception)
        if parts and parts[0] not in scope.local and self.is_function(parts):
            return "Raise(made)"  # a helper builds it, message and all
        return f"Raise({self.write(exception, scope)})"

    def _annotated(self, node: ast.AnnAssign, scope: Scope) -> str:
        written = ast.unparse(node.annotation)
        meant = "".join(MEANT.findall(written))
        value = "" if node.value is None else self.write(node.value, scope)
        if value and not meant:
            return f"Assign(targets=[{self.write(node.target, scope)}],value={value})"
        return f"AnnAssign({self.write(node.target, scope)},{meant},{value})"

    def _fields(self, node: ast.AST, scope: Scope) -> str:
        fields = []
        for name in sorted(node._fields):
            value = getattr(node, name, None)
            if name in SILENT or value is None or value == []:
                continue
            if isinstance(node, ast.JoinedStr):  # some versions add an empty text
                value = [part for part in value if getattr(part, "value", None) != ""]
            fields.append(f"{name}={self.write(value, scope)}")
        return f"{type(node).__name__}({','.join(fields)})"


MAGIC = re.compile(r"^( *)[%!].*$", re.M)


def parse_cell(source: str) -> ast.Module | None:
    """The syntax tree of a notebook cell, its magics left out; None if it is not Python."""
    if source.lstrip().startswith("%%"):
        return None
    try:
        return ast.parse(MAGIC.sub(r"\1pass", source))
    except SyntaxError:
        return None


def cell_marks(source: str, tree: ast.Module) -> str:
    """What a cell says beside its statements: magics, and a last semicolon that hides its value."""
    magics = "".join(match.group().strip() for match in MAGIC.finditer(source))
    if not tree.body:
        return magics
    last = tree.body[-1]
    # Columns count bytes, and a line may hold a comment after the semicolon.
    tail = source.splitlines()[last.end_lineno - 1].encode()[last.end_col_offset :].decode()
    return magics + (";" if tail.lstrip().startswith(";") else "")
