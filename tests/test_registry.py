"""The registry against the house's map: one slug, one address everywhere."""

import importlib
import re

import pytest

from gentok import registry
from gentok.claims import checkout


def test_all_systems_are_there_once():
    systems = registry.systems()
    assert len(systems) == 34
    for field in ("slug", "title", "arxiv", "key"):
        assert len({getattr(system, field) for system in systems}) == 34, field
    counts = [sum(system.part == part for system in systems) for part in registry.PARTS]
    assert counts == [4, 4, 4, 5, 4, 2, 3, 7, 1]
    order = [list(registry.PARTS).index(system.part) for system in systems]
    assert order == sorted(order)


@pytest.mark.parametrize("system", registry.systems(), ids=lambda system: system.slug)
def test_entries_are_well_formed(system):
    assert re.fullmatch(r"\d{4}\.\d{5}", system.arxiv)
    assert 2000 + int(system.arxiv[:2]) == system.year
    assert re.fullmatch(rf"[a-z]+{system.year}[a-z0-9]+", system.key)
    assert system.summary.endswith((".", "?")) and len(system.summary) < 100


@pytest.mark.parametrize("system", registry.systems(), ids=lambda system: system.slug)
def test_the_four_places_agree(system):
    root = checkout()
    code = root / "lib" / "gentok" / system.part / f"{system.slug}.py"
    assert (system.state == "complete") == code.is_file()
    if system.module is None:
        return
    assert system.module == f"gentok.{system.part}.{system.slug}"
    assert (root / "notebooks" / system.part / f"{system.slug}.py").is_file()
    assert (root / "notebooks" / system.part / f"{system.slug}.ipynb").is_file()
    assert (root / "tests" / system.part / f"test_{system.slug}.py").is_file()
    module, recipe = registry.load(system.slug), f"gentok.recipes.{system.slug}"
    assert "tiny" in module.PRESETS and callable(module.build) and callable(module.example)
    recipe = importlib.import_module(recipe)
    assert callable(recipe.train) and callable(recipe.sample)


def test_citation_keys_are_in_the_bibliography():
    path = checkout() / "book" / "references.bib"
    entries = set(re.findall(r"@\w+\{\s*([^,\s]+)", path.read_text(encoding="utf-8")))
    missing = {system.key for system in registry.systems()} - entries
    assert not missing


def test_unknown_and_planned_systems():
    assert registry.get("vsae").part == "interpret"
    with pytest.raises(ValueError, match=r"unknown system 'favae' \(did you mean fa_vae"):
        registry.get("favae")
    with pytest.raises(ValueError, match="`gentok list` prints them all"):
        registry.get("xyzxyz")
    planned = next(system for system in registry.systems() if system.module is None)
    with pytest.raises(ValueError, match="is planned and has no code yet; ready: fa_vae"):
        registry.load(planned.slug)
