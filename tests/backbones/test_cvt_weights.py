"""What the chapter's opening rests on: the kept weights, measured again on more pictures."""

from dataclasses import replace

import pytest

import gentok
from gentok.backbones.cvt import recipe
from gentok.backbones.cvt.model import PRESETS, build
from gentok.backbones.cvt.rivals import Rivals, accuracies, start
from gentok.data import scattered_shapes
from gentok.training.profiles import Profile
from gentok.training.weights import find, read_header

PICTURES = 2000
kept = pytest.mark.skipif(find("cvt") is None, reason="no weights of cvt are kept")


@kept
@pytest.mark.slow
def test_without_a_table_it_is_as_good_as_with_one():
    """Within two points of its twin, and as recorded."""
    found = accuracies(gentok.pretrained("cvt"), 32, PICTURES)
    assert found["network"] > 0.9
    assert found["network"] >= found["tables"] - 0.02
    metrics = read_header(find("cvt"))["metrics"]
    for name, value in found.items():  # 500 and 2,000 pictures: three standard errors
        assert value == pytest.approx(metrics[f"{name}_accuracy_at_32"], abs=0.03)


@kept
@pytest.mark.slow
@pytest.mark.parametrize("side", recipe.UNSEEN)
def test_it_knows_shapes_at_sizes_never_seen(side):
    sides = recipe.plan("world-32", Profile("long", (0,), "cpu")).sides
    assert side not in sides and side % 16 == 0
    found = accuracies(gentok.pretrained("cvt"), side, 500)
    assert found["network"] > 0.8
    recorded = read_header(find("cvt"))["metrics"][f"network_accuracy_at_{side}"]
    assert found["network"] == pytest.approx(recorded, abs=0.004), "the very pictures recorded"


def test_rivals_start_alike():
    size = PRESETS["study-32"]
    one = start(build, size, size, seed=3)
    two = start(build, replace(size, position="every"), size, seed=3)
    shared = {name: value for name, value in two.state_dict().items() if "position" not in name}
    assert shared.keys() == one.state_dict().keys()
    assert all((one.state_dict()[name] == value).all() for name, value in shared.items())
    assert sum("position" in name for name in two.state_dict()) == 3
    other = start(build, size, size, seed=4)
    assert not (other.head.weight == one.head.weight).all()


def test_a_call_of_the_pair_is_the_network_without_tables():
    size = PRESETS["world-32"]
    pair = Rivals(
        start(build, size, size, seed=0),
        start(build, replace(size, position="every"), size, seed=1),
    ).eval()
    images = scattered_shapes(3, 48).floats()
    assert (pair(images) == pair.network(images)).all()
    assert set(accuracies(pair, 32, 4)) == {"network", "tables"}
