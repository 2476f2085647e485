"""Real sets, where GENTOK_DATA has them: what each promises about shapes, ranges and content."""

import pytest
import torch

from gentok import data
from gentok.data.motion import FEET, OFFSETS, PARENTS


def needs(name: str):
    absent = data.available()[name] is None
    return pytest.mark.skipif(absent, reason=f"{name} is not in the folder GENTOK_DATA names")


@needs("cifar10")
@pytest.mark.parametrize("split", ["train", "test"])
def test_cifar10(split):
    images = data.cifar10(split)
    assert images.images.shape[1:] == (3, 32, 32) and len(images) >= 1000
    assert set(images.labels.tolist()) == set(range(10))
    assert int(images.labels.bincount().min()) > 0.05 * len(images)
    # Photographs of ships and planes are bluer than those of frogs and deer.
    blueness = images.images[:, 2].float().mean((1, 2)) - images.images[:, 0].float().mean((1, 2))
    sky = (images.labels == 0) | (images.labels == 8)
    wood = (images.labels == 4) | (images.labels == 6)
    assert float(blueness[sky].mean()) > float(blueness[wood].mean()) + 10


@needs("mnist")
def test_mnist():
    digits = data.mnist("test")
    assert digits.images.shape == (10_000, 3, 28, 28)
    assert digits.labels.bincount().tolist()[:2] == [980, 1135]  # published counts of 0 and 1
    ink = digits.images[:, 0].float().mean((1, 2))
    assert float(ink[digits.labels == 1].mean()) < float(ink[digits.labels == 0].mean()) / 2


@needs("spoken_digits")
def test_spoken_digits():
    sounds = data.spoken_digits()
    assert sounds.rate == 8000 and len(sounds) >= 1000 and len(set(sounds.speakers)) >= 4
    assert sounds.labels.unique().tolist() == list(range(10))
    padded = sounds.padded(8000)
    assert padded.shape == (len(sounds), 8000) and float(padded.abs().max()) <= 1
    assert torch.equal(padded[0, : len(sounds.waves[0])], sounds.waves[0][:8000])


@needs("chorales")
def test_chorales():
    parts = {split: data.chorales(split) for split in ("train", "valid", "test")}
    assert [len(p) for p in parts.values()] == [229, 76, 77]
    for chorale in parts["train"]:
        assert chorale.shape[1] == 4 and chorale.dtype == torch.int64
        sounding = chorale[chorale >= 0]
        assert int(sounding.min()) >= 30 and int(sounding.max()) <= 90
        mean = chorale.float().mean(0)
        assert mean[0] > mean[3]  # the soprano is above the bass


@needs("mocap")
def test_mocap():
    clips = data.mocap()
    assert len(clips) > 20
    walk = clips["humanoid3d_walk"]
    positions = walk.positions
    lengths = (positions[:, 1:] - positions[:, PARENTS[1:]]).norm(dim=-1)
    wanted = OFFSETS[1:].norm(dim=1).expand_as(lengths)
    assert torch.allclose(lengths, wanted, atol=1e-4)
    assert float(positions[:, FEET, 1].amin(-1).abs().max()) < 0.08  # a foot is on the ground
    assert 20 < walk.fps < 70 and walk.captions == ("walk",)
    speed = (walk.root[-1] - walk.root[0]).norm() / (len(walk.root) - 1) * walk.fps
    assert 0.5 < float(speed) < 2.5


@needs("meshes")
def test_meshes():
    for name, mesh in data.meshes().items():
        low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
        assert torch.allclose(low + high, torch.zeros(3), atol=1e-5), name
        assert float((high - low).max()) == pytest.approx(2.0, abs=1e-5)
        points, normals = data.sample_mesh(mesh.vertices, mesh.faces, 500)
        assert float(points.abs().max()) <= 1 + 1e-5
        assert torch.allclose(normals.norm(dim=1), torch.ones(500), atol=1e-4)


@needs("tinyshakespeare")
def test_tinyshakespeare():
    words = data.text("tinyshakespeare")
    assert len(words) > 1_000_000 and "First Citizen:" in words[:100]
