"""A notebook's two halves: read the source, tell whether outputs still belong to it, write them.

The source is `notebooks/<part>/<slug>.py` in jupytext's percent format. Its partner `<slug>.ipynb`
holds the outputs of one run and says in its metadata which profile and which code made them.
Packages that only notebooks need are imported inside the functions that use them.
"""

import hashlib
from pathlib import Path

from gentok.book import slices, staleness
from gentok.book.modules import package_of

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


def outputs_hash(path: Path, profile: str) -> str:
    """Hash of all that the outputs of a notebook depend on.

    Its cells, the definitions they reach, the profile, and the recorded rows that it shows. Text,
    comments, docstrings and error messages do not count, nor do packages' versions or the reader's
    data.

    Args:
        path: the notebook's source; ``profile`` the one it runs in.
    """
    root = path.resolve().parents[2]
    shown = staleness.record_words(path.stem, root)
    return slices.outputs_digest(
        slices.code_cells(path), {"profile": profile}, shown, sources=package_of(root)
    )


def why_stale(path: Path, profile: str) -> str:
    """Why the outputs of a notebook must be made again, in words; empty if they need not."""
    committed = read_pair(path)
    if committed is None:
        return "it has no outputs yet"
    made = committed.metadata.get("gentok", {})
    if made.get("profile") != profile:
        return f"its outputs are of profile {made.get('profile')!r}, not {profile!r}"
    if made.get("code") != outputs_hash(path, profile):
        return "its code, or library code that it reaches, changed since its outputs were made"
    return ""


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


def that_compute(notebook) -> list:
    """The code cells without the one that fetches a missing gentok, which has no outputs."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in code if slices.INSTALL not in tags_of(cell)]


def sync(path: Path) -> bool:
    """Carry changed text of a source into its `.ipynb`, outputs kept; True if the file changed.

    Only for a notebook that is not stale: its code cells are then the committed ones, in order.
    """
    notebook, committed = read_source(path), read_pair(path)
    give_ids(notebook, committed)
    old = iter(that_compute(committed))
    for cell in that_compute(notebook):
        partner = next(old)
        cell.outputs, cell.id = partner.outputs, partner.id
    return write(notebook, path, committed.metadata["gentok"])
