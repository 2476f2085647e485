"""The classifier, its committed weights, and the perceptual distance."""

import pytest
import torch
from torch import nn

from gentok import data
from gentok.measure import (
    SmallClassifier,
    accuracy,
    count_parameters,
    embeddings,
    load_classifier,
    perceptual_distance,
    train_classifier,
)
from gentok.measure.features import weights


def images(n=4, seed=0, size=32):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_shapes_and_size():
    model = SmallClassifier(7)
    assert [tuple(f.shape) for f in model.features(images())] == [
        (4, 32, 32, 32),
        (4, 64, 16, 16),
        (4, 96, 8, 8),
    ]
    assert model.embed(images()).shape == (4, 128)
    assert model(images(size=48)).shape == (4, 7)
    assert 150_000 < count_parameters(model) < 250_000


def test_an_image_is_judged_alone_in_either_mode():
    model = SmallClassifier().train()
    together = model(images())
    alone = torch.cat([model(x[None]) for x in images()])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(model.eval()(images()), together)
    assert not list(model.buffers()), "running statistics would make training leave traces"


def test_training_learns_and_is_fixed_by_its_seed():
    sets = data.class_images(256, seed=0)
    easy = data.ImageSet(  # the label is the brightness
        (sets.labels * 25)[:, None, None, None].expand(-1, 3, 16, 16).to(torch.uint8).contiguous(),
        sets.labels,
        sets.class_names,
        "flat greys",
    )
    before = torch.random.get_rng_state()
    model = train_classifier(easy, seed=1, steps=60)
    assert torch.equal(before, torch.random.get_rng_state()), "the caller's generator was moved"
    assert accuracy(model, easy) > 0.6
    again = train_classifier(easy, seed=1, steps=2)
    torch.testing.assert_close(
        again.state_dict(), train_classifier(easy, seed=1, steps=2).state_dict(), rtol=0, atol=0
    )


@pytest.mark.parametrize("name", ["world", "photographs"])
def test_committed_weights_reach_the_accuracy_they_state(name):
    model, stated = load_classifier(name), weights.classifier_metadata(name)
    test_set = weights.CLASSIFIERS[name].test()
    found = accuracy(model, test_set)
    assert stated["classes"].splitlines() == list(test_set.class_names)
    assert found == pytest.approx(float(stated["test_accuracy"]), abs=0.01), (
        "data or code changed: run `python -m gentok.measure.features`"
    )
    assert found > 0.85
    assert weights.weights_path(name).stat().st_size < 900_000
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_embeddings_are_the_same_in_pieces():
    model = load_classifier("world")
    torch.testing.assert_close(
        embeddings(model, images(5), batch_size=2), model.embed(images(5)), rtol=1e-4, atol=1e-5
    )


def test_a_classifier_trained_on_demand_is_kept(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GENTOK_CACHE", str(tmp_path))
    small = weights.Recipe(
        lambda: data.class_images(64, seed=0),
        lambda: data.class_images(32, seed=1),
        steps=2,
        committed=False,
    )
    monkeypatch.setitem(weights.CLASSIFIERS, "cifar10", small)
    first = load_classifier("cifar10")
    assert "once" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["classifier_cifar10.safetensors"]
    monkeypatch.setattr(weights, "train_classifier", None)  # a second training would fail
    torch.testing.assert_close(load_classifier("cifar10")(images()), first(images()))


def test_unknown_and_damaged_files_are_refused(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="unknown classifier 'cats'; known: world"):
        load_classifier("cats")
    monkeypatch.setattr(weights, "COMMITTED", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gentok.measure.features world"):
        load_classifier("world")
    weights.weights_path("world").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="damaged"):
        load_classifier("world")


class Gain(nn.Module):
    """A network whose features are its input, twice: distances can be worked out by hand."""

    def features(self, x):
        return [x, 3 * x[..., :1, :1]]


def test_perceptual_distance_by_hand():
    x, y = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    x[:, 0], y[:, 0] = 1.0, 5.0  # the same direction everywhere ...
    y[0, :, 0, 0] = torch.tensor([0.0, 2.0, 0.0])  # ... but in one place a right angle
    # Squared distance of orthogonal unit vectors is 2: in one of four places, then in one of one.
    torch.testing.assert_close(perceptual_distance(Gain(), x, y), torch.tensor([2 / 4 + 2.0]))


def test_perceptual_distance_properties():
    model = load_classifier("photographs")
    x = data.photographs(split="test", count=8).floats()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert perceptual_distance(model, x, x).abs().max() < 1e-6
    small, large = (perceptual_distance(model, x, x + s * noise) for s in (0.05, 0.3))
    assert small.shape == (8,) and (small > 0).all() and (large > small).all()
    torch.testing.assert_close(
        perceptual_distance(model, x, x + noise), perceptual_distance(model, x + noise, x)
    )


def test_perceptual_distance_has_gradients_in_both_images():
    model = load_classifier("photographs")
    x, y = images(2).requires_grad_(), images(2, seed=1).requires_grad_()
    distance = perceptual_distance(model, x, y)
    for image, other in zip((x, y), torch.autograd.grad(distance.sum(), (x, y)), strict=True):
        assert other.isfinite().all() and (other.abs().sum(dim=(1, 2, 3)) > 0).all()
        moved = [image - 0.5 * other if image is item else item for item in (x, y)]
        assert (perceptual_distance(model, *moved) < distance).all()
    flat = torch.zeros(1, 3, 8, 8, requires_grad=True)  # features of length 0
    perceptual_distance(Gain(), flat, images(1, size=8)).sum().backward()
    assert flat.grad.isfinite().all()


def test_shapes_are_checked():
    model = SmallClassifier()
    with pytest.raises(ValueError, match="one shape"):
        perceptual_distance(model, images(2), images(3))
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        model(torch.zeros(2, 1, 32, 32))
