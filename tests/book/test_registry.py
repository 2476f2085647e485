"""The registry against the house's map: one slug, one address everywhere."""

import re

import pytest

from gentok.book import registry
from gentok.book.records import checkout


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
def test_one_address_in_four_places(system):
    """Package, chapter, tests and page: who knows one finds the other three."""
    root, place = checkout(), f"{system.part}/{system.slug}"
    tests = (root / "tests" / system.part).glob(f"test_{system.slug}*.py")
    places = {
        "package": (root / "lib" / "gentok" / place / "__init__.py").is_file(),
        "chapter": (root / "notebooks" / f"{place}.py").is_file(),
        "outputs": (root / "notebooks" / f"{place}.ipynb").is_file(),
        "tests": any(tests),
        "page": f"file: notebooks/{place}\n" in (root / "book" / "_toc.yml").read_text(),
    }
    assert set(places.values()) == {system.state == "complete"}, places


@pytest.mark.parametrize("slug", [s.slug for s in registry.systems() if s.module])
def test_packages_have_one_face(slug):
    system, module, recipe = registry.get(slug), registry.load(slug), registry.recipe(slug)
    assert module.__name__ == f"gentok.{system.part}.{slug}"
    assert "tiny" in module.PRESETS and callable(module.build) and callable(module.example)
    assert callable(recipe.train) and callable(recipe.sample)


@pytest.mark.parametrize("part", registry.PARTS)
def test_nothing_else_stands_in_a_part(part):
    """What two systems share stands lower; every other file is in its system's folder."""
    slugs = {system.slug for system in registry.systems() if system.part == part}
    for folder, extra in (("lib/gentok", {"__init__.py"}), ("notebooks", set())):
        here = {p.name for p in (checkout() / folder / part).glob("*") if "__" not in p.stem}
        names = {name.split(".")[0] for name in here - extra}
        assert names <= slugs, names - slugs
    for path in (checkout() / "tests" / part).glob("test_*.py"):
        assert any(path.stem.startswith(f"test_{slug}") for slug in slugs), path.name


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


def test_prerequisites_lead_from_written_chapters_to_the_rest():
    """All have an entry, none waits for itself, and no finished one for a planned one."""
    states = {system.slug: system.state for system in registry.systems()}

    def before(slug, seen=()):
        assert slug not in seen, f"{slug} waits for itself"
        for earlier in registry.prerequisites(slug):
            before(earlier, (*seen, slug))

    for slug, state in states.items():
        before(slug)
        planned = [s for s in registry.prerequisites(slug) if states[s] == "planned"]
        assert state == "planned" or planned == [], f"{slug} is finished and asks for {planned}"
