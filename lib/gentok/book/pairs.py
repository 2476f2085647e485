"""A notebook's two halves: read the source, tell whether outputs still belong to it, write them.

The source is `notebooks/<part>/<slug>.py` in jupytext's percent format. Its partner `<slug>.ipynb`
holds the outputs of one run and says in its metadata which profile and which code made them.
Packages that only notebooks need are imported inside the functions that use them.
"""

import ast
import hashlib
import json
from pathlib import Path

from gentok.book import closure

CELL_KEYS = ("jupyter", "mystnb", "name", "tags")
JUPYTEXT = {
    "cell_metadata_filter": "jupyter,mystnb,name,tags,-all",
    "notebook_metadata_filter": "kernelspec,jupytext.text_representation.extension,"
    "jupytext.text_representation.format_name,-all",
}


def find_root() -> Path:
    """The book's folder: the nearest one around the working folder, else around this file."""
    here = Path.cwd()
    for folder in (here, *here.parents, *Path(__file__).parents):
        if (folder / "notebooks" / "jupytext.toml").is_file():
            return folder
    raise FileNotFoundError("no folder with notebooks/jupytext.toml here or above; run in the book")


def sources(root: Path) -> list[Path]:
    """All notebook sources, in a fixed order."""
    return sorted((root / "notebooks").glob("*/*.py"))


def source_of(slug: str, root: Path) -> Path:
    """The source of one notebook, by slug (`enat`) or path.

    Raises:
        ValueError: if no notebook has this slug.
    """
    slug = Path(slug).stem
    found = {path.stem: path for path in sources(root)}
    if slug not in found:
        raise ValueError(f"unknown notebook {slug!r}; there are: {', '.join(found) or 'none'}")
    return found[slug]


def read_source(path: Path):
    """Read a percent `.py` as a notebook."""
    import jupytext

    return jupytext.read(path, fmt="py:percent")


def read_pair(path: Path):
    """The committed `.ipynb` of a source as a notebook, or None if there is none."""
    import nbformat

    target = path.with_suffix(".ipynb")
    return nbformat.read(target, as_version=4) if target.is_file() else None


def tags_of(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def _names(source: str, context: type) -> set[str]:
    """Names that a cell binds (context ast.Store) or reads (ast.Load)."""
    tree = closure.parse_cell(source)
    names = set()
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Name) and isinstance(node.ctx, context):
            names.add(node.id)
        elif context is ast.Store:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names.update((a.asname or a.name).split(".")[0] for a in node.names)
    return names


def _computing_cells(cells: list) -> list:
    """Code cells without those that only draw or only solve an exercise.

    A figure or solution cell is kept all the same if a cell that counts reads a name it binds.
    """
    kept, read = [], set()
    for cell in reversed(cells):
        aside = "solution" in tags_of(cell) or {"figure", "image"} & set(
            cell.metadata.get("mystnb", {})
        )
        if not aside or _names(cell.source, ast.Store) & read:
            kept.append(cell)
            read |= _names(cell.source, ast.Load)
    return kept[::-1]


def _digest(cells: list, without: set[str], parameters: dict) -> str:
    trees = [tree for cell in cells if (tree := closure.parse_cell(cell.source)) is not None]
    modules = closure.reach(trees, without)
    dumps = [closure.dump_cell(cell.source) for cell in cells]
    return closure.digest([*dumps, json.dumps(parameters, sort_keys=True)], modules)


def outputs_hash(notebook, parameters: dict) -> str:
    """Hash of all that the outputs of a notebook depend on: its code, parameters and library.

    Text, comments and docstrings do not count, nor do packages' versions or the reader's data.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return _digest(cells, closure.TOOLS, parameters)


def code_hash(path: str | Path) -> str:
    """Hash of all that a record of claims depends on, for `made.code` of book/results/<slug>.json.

    Args:
        path: a notebook's source (under notebooks/), or a module of the library.

    Returns:
        16 hexadecimal digits. They change with the code of cells that compute and of the modules
        these reach, not with text, comments, docstrings, figures, solutions or the verdict rule.
    """
    path = Path(path)
    without = closure.TOOLS | closure.DISPLAY
    if (path.parent.parent / "jupytext.toml").is_file():
        cells = [c for c in read_source(path.with_suffix(".py")).cells if c.cell_type == "code"]
        return _digest(_computing_cells(cells), without, {})
    source = path.read_text(encoding="utf-8")
    inside = path.resolve().relative_to(closure.PACKAGE).with_suffix("")
    name = ".".join([closure.PACKAGE.name, *inside.parts])
    modules = closure.reach([ast.parse(source)], without, start=name)
    return closure.digest([closure.dump_cell(source)], modules)


def why_stale(path: Path, profile: str) -> str:
    """Why the outputs of a notebook must be made again, in words; empty if they need not."""
    committed = read_pair(path)
    if committed is None:
        return "it has no outputs yet"
    made = committed.metadata.get("gentok", {})
    if made.get("profile") != profile:
        return f"its outputs are of profile {made.get('profile')!r}, not {profile!r}"
    if made.get("code") != outputs_hash(read_source(path), {"profile": profile}):
        return "its code, or library code that it reaches, changed since its outputs were made"
    return ""


def stale_records(root: Path) -> dict[str, str]:
    """Record file -> why `make study` should make it again."""
    reasons = {}
    for path in sorted((root / "book" / "results").glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            source = source_of(record["system"], root)
            if record["made"].get("code") != code_hash(source):
                reasons[path.name] = "code that it measured changed since the record was made"
        except (ValueError, KeyError, TypeError) as error:
            reasons[path.name] = f"it cannot be read: {error}"
    return reasons


def _kept_metadata(cell) -> dict:
    return {key: cell.metadata[key] for key in CELL_KEYS if cell.metadata.get(key)}


def _same(a, b) -> bool:
    return (a.cell_type, a.source, _kept_metadata(a)) == (b.cell_type, b.source, _kept_metadata(b))


def in_step(path: Path) -> bool:
    """True if both halves of a pair hold the same cells."""
    source, committed = read_source(path), read_pair(path)
    return (
        committed is not None
        and len(source.cells) == len(committed.cells)
        and all(map(_same, source.cells, committed.cells))
    )


def give_ids(notebook, committed) -> None:
    """Cells keep the ids they had; a new cell gets one that follows from its text and place."""
    had: dict[tuple[str, str], list[str]] = {}
    for cell in committed.cells if committed is not None else ():
        had.setdefault((cell.cell_type, cell.source), []).append(cell.id)
    taken: set[str] = set()
    for index, cell in enumerate(notebook.cells):
        ids = had.get((cell.cell_type, cell.source))
        cell.id = ids.pop(0) if ids else ""
        salt = 0
        while not cell.id or cell.id in taken:
            text = f"{index} {salt} {cell.cell_type} {cell.source}"
            cell.id, salt = hashlib.sha256(text.encode()).hexdigest()[:8], salt + 1
        taken.add(cell.id)


def tidy_outputs(cell) -> None:
    """Drop progress bars: they are written over in place, and hold times that never repeat.

    They come as text with carriage returns, or as widgets, which only a running kernel could show.
    """
    kept = []
    for output in cell.outputs:
        if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
            continue
        if output.output_type == "stream" and output.name == "stderr":
            lines = output.text.split("\n")
            output.text = "\n".join(line for line in lines if "\r" not in line)
            if not output.text.strip():
                continue
        kept.append(output)
    cell.outputs = kept


def write(notebook, path: Path, made: dict) -> bool:
    """Write the `.ipynb` of a source; True if the file changed. All or nothing."""
    import nbformat

    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(_kept_metadata(cell))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict(
        {"gentok": made, "jupytext": JUPYTEXT, "kernelspec": kernel}
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    text = nbformat.writes(notebook) + "\n"
    target = path.with_suffix(".ipynb")
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        return False
    partial = target.with_suffix(".ipynb.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(target)
    return True


def sync(path: Path) -> bool:
    """Carry changed text of a source into its `.ipynb`, outputs kept; True if the file changed.

    Only for a notebook that is not stale: its code cells are then the committed ones, in order.
    """
    notebook, committed = read_source(path), read_pair(path)
    give_ids(notebook, committed)
    old = (cell for cell in committed.cells if cell.cell_type == "code")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            partner = next(old)
            cell.outputs, cell.id = partner.outputs, partner.id
    return write(notebook, path, committed.metadata["gentok"])
