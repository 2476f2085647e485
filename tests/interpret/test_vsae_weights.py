"""The kept weights: features that fire on something nameable, in both dictionaries."""

import pytest
import torch

import gentok
from gentok.interpret.vsae.microscope import SHIFT
from gentok.interpret.vsae.naming import named
from gentok.interpret.vsae.recipe import build_topk
from gentok.training.weights import CHECKOUT, read_header

PATH = CHECKOUT / "vsae.safetensors"
LEAST_NAMES = 30  # distinct concepts with a feature of their own
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PATH.is_file(), reason="weights/vsae.safetensors is not there"),
]


@pytest.fixture(scope="module")
def system():
    return gentok.pretrained("vsae")


@pytest.fixture(scope="module")
def names(system):
    return {key: system.names(getattr(system, key)) for key in ("vsae", "topk")}


@pytest.mark.parametrize("key", ["vsae", "topk"])
def test_thirty_things_have_a_feature_of_their_own(names, key):
    found = named(names[key])
    assert len(found) >= LEAST_NAMES
    assert len({name.feature for name in found}) == len({name.concept for name in found})
    recorded = read_header(PATH)["metrics"][f"named_{key}"]
    assert abs(len(found) - recorded) <= 2, "one at the threshold may fall elsewhere"


def test_controls_earn_fewer(system, names):
    torch.manual_seed(0)
    untrained = build_topk(system.topk.config)
    untrained.bias.data.copy_(system.topk.bias)
    random = named(system.names(untrained), beyond_characters=True)
    assert len(random) < len(named(names["topk"], beyond_characters=True)) / 2
    assert len(named(system.names(system.topk, SHIFT))) <= 3


def test_a_name_can_be_checked_by_hand(system, names):
    """The best name's precision and recall, counted letter by letter."""
    _, acts, places = system.look("judge")
    best = named(names["topk"])[0]
    features = torch.cat([system.topk.encode(part) for part in acts.x.split(4096)])
    fires = features[:, best.feature].abs() > best.threshold
    column = places.known.index(best.concept)
    truth = torch.from_numpy(places.truth[:, column])
    assert float((fires & truth).sum() / fires.sum()) == pytest.approx(best.precision, abs=1e-3)
    assert float((fires & truth).sum() / truth.sum()) == pytest.approx(best.recall, abs=1e-3)


def test_the_dictionaries_work_on_the_models_own_activations(system):
    _, acts, _ = system.look("judge")
    x = acts.x[:500]
    assert acts.scale == 1.0 and float(x.square().sum(1).mean()) > 2
    for sae in (system.vsae, system.topk):
        error = (sae(x) - x).square().sum(1).mean() / x.square().sum(1).mean()
        assert float(error) < 0.15
        assert ((sae.encode(x) != 0).sum(1) <= sae.k).all()
