"""Training plans: every preset of every system has one, and nothing guesses."""

import ast
import dataclasses
from pathlib import Path

import pytest
from torch import nn

from gentok.base import recipe as base_recipe
from gentok.book import registry
from gentok.training.loop import fit
from gentok.training.parameter_groups import SPARED
from gentok.training.plan import Stage, preset_of
from gentok.training.profiles import SEEDS, Profile

RECIPES = {
    system.slug: registry.recipe(system.slug) for system in registry.systems() if system.module
}
RECIPES["base"] = base_recipe
CASES = [
    (slug, preset)
    for slug, recipe in RECIPES.items()
    for preset in (recipe.PRESETS if slug == "base" else registry.load(slug).PRESETS)
]


def stages(plan) -> list[Stage]:
    """All stages of a plan, those in its tuples included."""
    found = []
    for field in dataclasses.fields(plan):
        value = getattr(plan, field.name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Stage):
                found.append(item)
            found += [
                part
                for name in ("model", "training")
                if isinstance(part := getattr(item, name, None), Stage)
            ]
    return found


@pytest.mark.parametrize("profile", SEEDS)
@pytest.mark.parametrize(("slug", "preset"), CASES)
def test_every_preset_has_a_plan(slug, preset, profile):
    plan = RECIPES[slug].plan(preset, Profile(profile, (0,), "cpu"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.size = None
    assert stages(plan), "a plan without a stage trains nothing"
    for stage in stages(plan):
        assert stage.steps >= 1 and stage.batch_size >= 1 and stage.lr > 0
        assert 0 <= stage.warmup < stage.steps and stage.batch_size % stage.accumulate == 0
        if profile == "smoke":  # a nested network takes three steps for each of its four widths
            assert stage.steps <= 12, "the smoke profile takes seconds"


@pytest.mark.parametrize("slug", RECIPES)
def test_an_unknown_preset_is_named(slug):
    with pytest.raises(ValueError, match="unknown preset 'huge'; accepted: "):
        RECIPES[slug].plan("huge", Profile("cpu", (0,), "cpu"))


@pytest.mark.parametrize("slug", RECIPES)
def test_fit_is_told_nothing_but_the_plan(slug):
    """Numbers that decide a training stand in plans: calls of fit name seeds and files alone."""
    tree = ast.parse(Path(RECIPES[slug].__file__).read_text(encoding="utf-8"))
    decided = {field.name for field in dataclasses.fields(Stage)} | {"groups"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "fit":
            named = {keyword.arg for keyword in node.keywords}
            assert None in named and not named & decided


def test_a_stage_knows_all_that_fit_can_be_told_of_an_optimisation():
    how = Stage(steps=9, batch_size=3, lr=0.1, clip=1.0, ema=0.9, weight_decay=0.2)
    told = how.fit_arguments()
    assert "batch_size" not in told and told["steps"] == 9 and told["clip"] == 1.0
    assert set(told) <= set(fit.__kwdefaults__) | {"steps"}


def test_a_stage_may_spare_parameters_from_decay():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    how = Stage(steps=9, batch_size=3, lr=0.1, weight_decay=0.2, spare=SPARED, clip=1.0)
    groups = {name: g.weight_decay for g in how.fit_arguments(model)["groups"] for name in g.names}
    assert groups == {"0.weight": 0.2, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0}
    with pytest.raises(ValueError, match="has to see them"):
        how.fit_arguments()


def test_a_preset_by_name():
    assert preset_of({"a": 1}, "a") == 1
    with pytest.raises(ValueError, match="unknown preset 'c'; accepted: a, b"):
        preset_of({"a": 1, "b": 2}, "c")
