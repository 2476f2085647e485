"""Where real data are looked for: the folder named by GENTOK_DATA, then (if asked) the hub.

Layout of the folder::

    cifar10/{train,test}.parquet        the hub's own layout: img, label
    mnist/                              IDX files, plain or .gz
    spoken_digits/train.parquet         audio, label, speaker
    chorales/Jsb16thSeparated.npz       four voices on a grid of sixteenth notes
    motion/deepmimic.npz                motion capture, frames x 44
    meshes/*.obj, *.off, *.ply          triangle or polygon meshes
    text/tinyshakespeare.txt            plain text
"""

import os
from pathlib import Path
from typing import Any

VARIABLE = "GENTOK_DATA"
LAYOUT = {
    "cifar10": "cifar10/*.parquet",
    "mnist": "mnist/*-ubyte*",
    "spoken_digits": "spoken_digits/*.parquet",
    "chorales": "chorales/Jsb16thSeparated.npz",
    "mocap": "motion/deepmimic.npz",
    "meshes": "meshes/*.obj",
    "tinyshakespeare": "text/tinyshakespeare.txt",
}
EMBEDDED = {
    "photographs": "inside the scikit-image and scikit-learn packages",
    "digits": "inside the scikit-learn package",
    "pydoc": "inside Python (pydoc_data.topics)",
    "world": "drawn by gentok.data.world",
    "motion": "drawn by gentok.data.motion",
    "music": "drawn by gentok.data.music",
}


def data_folder() -> Path | None:
    """The folder that GENTOK_DATA names, or None where it is unset or empty."""
    value = os.environ.get(VARIABLE, "").strip()
    return Path(value).expanduser() if value else None


opened: dict[str, Path] = {}  # what this process has found under GENTOK_DATA so far, for records


def find(relative: str) -> Path | None:
    """The file or folder at ``relative`` under GENTOK_DATA, or None."""
    folder = data_folder()
    path = folder / relative if folder else None
    if path is None or not path.exists():
        return None
    opened[relative] = path
    return path


def missing(what: str, relative: str, download: str | None = None) -> FileNotFoundError:
    """One clear line: what is missing, where it was looked for, how to get it.

    Args:
        what: name of the set in words.
        relative: its place under GENTOK_DATA.
        download: the call that fetches it, where the hub has it.
    """
    folder = data_folder()
    looked = f"looked for {folder / relative}" if folder else f"{VARIABLE} is not set"
    ways = [f"set {VARIABLE} to a folder that holds {relative}"]
    if download:
        ways.append(f"call {download} with the network up")
    return FileNotFoundError(f"{what} not found: {looked}; {' or '.join(ways)}")


def from_hub(repository: str, split: str, **options: Any):
    """A split of a set on the Hugging Face hub, by ``datasets``, which keeps a copy.

    Raises:
        FileNotFoundError: if the hub cannot be reached or has no such set.
    """
    import datasets  # slow to import, and needed only here

    try:
        return datasets.load_dataset(repository, split=split, **options)
    except Exception as error:  # the loader raises a dozen kinds, by cause and by version
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileNotFoundError(
            f"could not download {repository} ({split}) from the hub: {reason}"
        ) from error


def available() -> dict[str, str | None]:
    """Where each data set would be read from now: words for people, or None where it is absent.

    Cheap: looks at names in the folder, opens nothing and downloads nothing.
    """
    found: dict[str, str | None] = dict(EMBEDDED)
    folder = data_folder()
    for name, pattern in LAYOUT.items():
        files = sorted(folder.glob(pattern)) if folder else []
        parent = Path(pattern).parent
        found[name] = f"{len(files)} file(s) in {VARIABLE}/{parent}" if files else None
    return found
