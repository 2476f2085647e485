"""gentok: the library of the textbook *Generative Tokenizers*.

Floors, each importing only those below it: ``nn`` (layers), ``process`` (how samples come from
noise or tokens), ``data`` and ``measure``, ``show`` (plots, pictures, sound), ``training``,
``base`` (networks that systems build on), the parts (one package a system), ``book`` (studies,
claims, notebooks, the registry), and the command line.
"""

import importlib
import os
import typing
from importlib.metadata import PackageNotFoundError, version

if typing.TYPE_CHECKING:
    from torch import nn

try:
    __version__ = version("gentok")
except PackageNotFoundError:  # the source tree on the path, not installed
    __version__ = "0+source"


def pretrained(
    name: str, folder: str | os.PathLike | None = None, *, download: bool = False
) -> "nn.Module":
    """A system with the book's trained weights, ready to use: ``gentok.pretrained("enat")``.

    The file is looked for in ``folder``, in the folder that GENTOK_WEIGHTS names, and in the
    checkout's ``weights/``; nothing is downloaded unless asked for.

    Args:
        name: a system's slug, or ``"base/vqgan"`` or ``"base/kl_vae"`` for a tokenizer alone.
        folder: that holds ``<name>.safetensors``.
        download: take the hub's copy if there is no file.

    Returns:
        the system in eval mode, on the CPU. A tokenizer with its generator is a
        `gentok.base.pipeline.Pipeline`: ``sample(n, label)`` gives pictures.

    Raises:
        ValueError: if the name is unknown, the system has no weights, or the file is damaged.
        FileNotFoundError: if there is no file.
    """
    # By name: torch takes seconds to import, and the floors below do not reach the book this way.
    weights = importlib.import_module("gentok.book.weights")
    return weights.load(name, folder, download=download)
