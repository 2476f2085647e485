"""gentok: the library of the textbook *Generative Tokenizers*.

Floors, each importing only those below it: ``nn`` (layers), ``process`` (how samples come from
noise or tokens), ``data`` and ``measure``, ``show`` (plots, pictures, sound), ``training``,
``base`` (networks that systems build on), the parts (one package a system), ``book`` (studies,
claims, notebooks, the registry), and the command line.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gentok")
except PackageNotFoundError:  # the source tree on the path, not installed
    __version__ = "0+source"
