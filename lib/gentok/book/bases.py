"""What `gentok` can train beside the systems: bases and variants without a chapter of their own.

A base is a tokenizer that systems build on; a variant is a system's model for other data. Each is
one module, and how it is trained stands in ``<module>_recipe`` beside it. The command takes them as
it takes systems, so `get`, `load` and `recipe` here answer for systems, too.
"""

import importlib
from types import ModuleType

from gentok.book import registry
from gentok.book.registry import System

BASE, VARIANT = "base", "variant"  # in place of a part of the book
_BASES = (
    System(
        slug="kl_vae",
        part=BASE,
        title="High-Resolution Image Synthesis with Latent Diffusion Models",
        year=2021,
        arxiv="2112.10752",
        key="rombach2022ldm",
        summary="The autoencoder of latent diffusion, as Stable Diffusion and VA-VAE have it.",
        module="gentok.base.kl_vae",
    ),
    System(
        slug="axial_video",
        part=VARIANT,
        title="Axial Attention in Multidimensional Transformers",
        year=2019,
        arxiv="1912.12180",
        key=registry.get("axial").key,
        summary="The Axial Transformer for clips, with time as a third axis of its encoder.",
        module="gentok.tokens.axial.video",
    ),
)
_BY_SLUG = {base.slug: base for base in _BASES}


def bases() -> tuple[System, ...]:
    """All bases and variants that the command trains."""
    return _BASES


def get(slug: str) -> System:
    """Return the base, variant or system of that slug.

    Raises:
        ValueError: as `registry.get`.
    """
    return _BY_SLUG[slug] if slug in _BY_SLUG else registry.get(slug)


def load(slug: str) -> ModuleType:
    """Import the module of a base, variant or system.

    Raises:
        ValueError: as `registry.load`.
    """
    return importlib.import_module(get(slug).module) if slug in _BY_SLUG else registry.load(slug)


def recipe(slug: str) -> ModuleType:
    """Import how a base, variant or system is trained.

    Raises:
        ValueError: as `registry.load`.
    """
    if slug not in _BY_SLUG:
        return registry.recipe(slug)
    return importlib.import_module(f"{get(slug).module}_recipe")
