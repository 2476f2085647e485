"""Labelled clouds: normalised, even over the surface; batches are a function of the step."""

import numpy as np
import pytest
import torch

from gentok.data.clouds import (
    OBJECT_NAMES,
    PART_NAMES,
    PARTS_OF,
    cloud_batches,
    cloud_files,
    normalize,
    object_clouds,
    read_cloud,
    scale_and_shift,
    solid_clouds,
)
from gentok.data.imageset import generator


@pytest.mark.parametrize("make", [solid_clouds, object_clouds])
def test_clouds_are_normalised_and_follow_the_seed(make):
    clouds = make(14, 100, seed=3)
    assert clouds.points.shape == (14, 100, 3) and len(clouds) == 14
    assert clouds.labels.tolist() == [i % len(clouds.class_names) for i in range(14)]
    assert float(clouds.points.mean(1).abs().max()) < 1e-6
    torch.testing.assert_close(clouds.points.norm(dim=-1).amax(1), torch.ones(14))
    assert torch.equal(make(14, 100, seed=3).points, clouds.points)
    assert not torch.allclose(make(14, 100, seed=4).points, clouds.points)
    assert torch.equal(make(5, 100, seed=3).points, clouds.points[:5]), "a longer set begins alike"


def test_proportions_differ_within_a_class():
    points = solid_clouds(40, 400, seed=0, classes=("box",)).points
    height = points[..., 2].amax(1) - points[..., 2].amin(1)
    assert height.max() > 1.4 * height.min()


def test_parts_belong_to_their_object_and_lie_where_they_should():
    clouds = object_clouds(40, 512, seed=1)
    for points, parts, label in zip(clouds.points, clouds.parts, clouds.labels, strict=True):
        assert set(parts.unique().tolist()) == set(PARTS_OF[label])
        z = {PART_NAMES[p]: points[parts == p, 2].mean() for p in parts.unique().tolist()}
        name = OBJECT_NAMES[label]
        if name == "table":
            assert z["table top"] > z["table leg"]
        if name == "lamp":
            assert z["lamp shade"] > z["lamp pole"] > z["lamp base"]
        if name == "chair":
            assert z["chair back"] > z["chair seat"] > z["chair leg"]


def test_points_are_spread_by_area():
    """A table top has far more surface than four thin legs; both must be met."""
    clouds = object_clouds(4, 4000, seed=5)
    top = (clouds.parts[0] == PART_NAMES.index("table top")).float().mean()
    assert 0.5 < top < 0.95


def test_augmentation_stays_in_its_range_and_is_one_map_a_cloud():
    points = torch.cat([torch.zeros(200, 1, 3), torch.ones(200, 1, 3)], dim=1)
    out = scale_and_shift(points, generator(0))
    shift, scale = out[:, 0], out[:, 1] - out[:, 0]
    assert shift.abs().max() <= 0.2 and shift.abs().max() > 0.18
    assert 2 / 3 <= scale.min() < 0.69 and 1.47 < scale.max() <= 1.5
    assert (scale[:, 0] != scale[:, 1]).all(), "each axis has its own factor"


def test_batches_are_a_function_of_the_step():
    clouds = object_clouds(10, 60)
    draw = cloud_batches(clouds, 4, seed=1, num_points=32)
    one, again, other = draw(3), draw(3), draw(4)
    assert one["points"].shape == (4, 32, 3) and one["parts"].shape == (4, 32)
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["points"], other["points"])


def test_points_and_parts_are_chosen_together():
    clouds = object_clouds(4, 60)
    batch = cloud_batches(clouds, 4, num_points=20, augment=False)(0)
    for points, parts, label in zip(batch["points"], batch["parts"], batch["label"], strict=True):
        rows = (points[:, None] == clouds.points[label]).all(-1)  # (20, 60)
        assert rows.any(1).all()
        assert torch.equal(clouds.parts[label][rows.to(torch.uint8).argmax(1)], parts)


def test_files_are_read_and_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="point clouds of 50 points"):
        cloud_files(50)
    for name in ("plane", "car"):
        (tmp_path / "clouds" / name).mkdir(parents=True)
        np.save(tmp_path / "clouds" / name / "a.npy", np.random.rand(50, 6).astype("float32"))
    files, labels, names = cloud_files(50)
    assert names == ("car", "plane") and labels.tolist() == [0, 1]
    cloud = read_cloud(files[0], 50)
    torch.testing.assert_close(cloud, normalize(cloud))
    with pytest.raises(ValueError, match="51 or more"):
        read_cloud(files[0], 51)
    (tmp_path / "clouds" / "car" / "b.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match="not a readable"):
        read_cloud(tmp_path / "clouds" / "car" / "b.npy", 50)


def test_bad_input():
    with pytest.raises(ValueError, match="n and num_points"):
        solid_clouds(0)
    with pytest.raises(ValueError, match="num_points must lie in 1..60, got 61"):
        cloud_batches(object_clouds(2, 60), 2, num_points=61)


def test_cloud_files_far_from_zero_and_broken_ones(tmp_path):
    shape = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    np.save(tmp_path / "far.npy", shape + 4.5e6)
    np.save(tmp_path / "near.npy", shape)
    far, near = (read_cloud(tmp_path / f"{name}.npy", 50) for name in ("far", "near"))
    assert far.dtype == torch.float32
    torch.testing.assert_close(far, near, rtol=0, atol=1e-6)
    broken = {
        "nan": np.full((50, 3), np.nan),
        "one": np.ones((50, 3)),
        "words": np.full((50, 3), "a"),
    }
    for name, array in broken.items():
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(ValueError, match=rf"{name}\.npy"):
            read_cloud(tmp_path / f"{name}.npy", 50)
    with open(tmp_path / "archive.npy", "wb") as file:
        np.savez(file, a=shape)
    with pytest.raises(ValueError, match="archive of arrays"):
        read_cloud(tmp_path / "archive.npy", 50)
