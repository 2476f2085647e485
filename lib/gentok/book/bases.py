"""What `gentok` can train beside the systems: base tokenizers that have no chapter of their own.

A base stands in ``lib/gentok/base/<slug>.py``, and how it is trained in ``<slug>_recipe.py`` beside
it. The command takes both alike, so `get`, `load` and `recipe` here answer for systems, too.
"""

import importlib
from types import ModuleType

from gentok.book import registry
from gentok.book.registry import System

PART = "base"  # in place of a part of the book
_BASES = (
    System(
        slug="kl_vae",
        part=PART,
        title="High-Resolution Image Synthesis with Latent Diffusion Models",
        year=2021,
        arxiv="2112.10752",
        key="rombach2022ldm",
        summary="The autoencoder of latent diffusion, as Stable Diffusion and VA-VAE have it.",
        module="gentok.base.kl_vae",
    ),
)
_BY_SLUG = {base.slug: base for base in _BASES}


def bases() -> tuple[System, ...]:
    """All bases that the command trains."""
    return _BASES


def get(slug: str) -> System:
    """Return the base or the system of that slug.

    Raises:
        ValueError: as `registry.get`.
    """
    return _BY_SLUG[slug] if slug in _BY_SLUG else registry.get(slug)


def load(slug: str) -> ModuleType:
    """Import the module of a base or a system.

    Raises:
        ValueError: as `registry.load`.
    """
    return importlib.import_module(get(slug).module) if slug in _BY_SLUG else registry.load(slug)


def recipe(slug: str) -> ModuleType:
    """Import how a base or a system is trained.

    Raises:
        ValueError: as `registry.load`.
    """
    if slug not in _BY_SLUG:
        return registry.recipe(slug)
    return importlib.import_module(f"{get(slug).module}_recipe")
