"""Clouds whose points know their part: what is read, drawn and refused."""

import numpy as np
import pytest
import torch

from gentok.data.cloud_parts import part_batches, part_files, read_parts


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two categories; in each cloud the part of a point is the sign of its x."""
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    for kind, (name, rows) in enumerate((("cup", 30), ("hat", 200))):
        (tmp_path / "cloud_parts" / name).mkdir(parents=True)
        for i in range(2):
            array = np.random.default_rng([kind, i]).normal(size=(rows, 4)) + 7
            array[:, 3] = 2 * kind + (array[:, 0] > array[:, 0].mean())
            np.save(tmp_path / "cloud_parts" / name / f"{i}.npy", array)
    return tmp_path / "cloud_parts"


def test_files_and_categories(folder, monkeypatch):
    found = part_files()
    assert found.categories == ("cup", "hat") and found.labels.tolist() == [0, 0, 1, 1]
    points, parts = read_parts(found.files[2], 4)
    assert points.shape == (200, 3) and parts.unique().tolist() == [2, 3]
    assert points.mean(0).abs().max() < 1e-5
    assert float(points.norm(dim=1).max()) == pytest.approx(1, abs=1e-5)
    monkeypatch.delenv("GENTOK_DATA")
    assert part_files() is None


def test_batches_keep_points_and_parts_together(folder):
    draw = part_batches(part_files(), 64, 4, 8, seed=0)
    batch = draw(0)
    assert batch["points"].shape == (8, 64, 3) and batch["parts"].shape == (8, 64)
    for points, label, parts in zip(*batch.values(), strict=True):
        right = parts - 2 * label  # 0 or 1: which side of the mean in x
        assert set(right.tolist()) == {0, 1}
        assert points[right == 0, 0].max() < points[right == 1, 0].min()
    again, other = draw(0), draw(1)
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(batch["points"], other["points"])


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "a.npy"
    for array, says in (
        (np.zeros((3, 3)), r"must be one array \(rows, 4\)"),
        (np.full((3, 4), np.nan), "finite numbers"),
        (np.zeros((0, 4)), "at least one row"),
        (np.full((3, 4), 0.5), r"whole numbers in \[0, 4\), got 0.5"),
        (np.full((3, 4), 4.0), r"whole numbers in \[0, 4\), got 4"),
        (np.zeros((3, 4)), "all its points are one"),
        (np.array([{}] * 4, object), "Python objects"),
    ):
        np.save(path, array)
        with pytest.raises(ValueError, match=says):
            read_parts(path, 4)
    head = np.lib.format.magic(1, 0) + b"\x76\0{'descr': '<f8', 'fortran_order': False, 'shape': "
    path.write_bytes((head + b"(99999999999, 4), }").ljust(127) + b"\n")
    with pytest.raises(ValueError, match="takes 3199999999968 bytes, it holds 0"):
        read_parts(path, 4)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a readable"):
        read_parts(path, 4)
