"""Batches from a folder of pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from gentok.data import folder_batches


@pytest.mark.slow
def test_folder_batches_depend_on_the_step_alone(tmp_path):
    for name, value in (("dark", 0), ("light", 255)):
        (tmp_path / name).mkdir()
        for i in range(3):
            picture = np.full((20, 30, 3), value, np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f"{i}.png")
    draw, num_classes = folder_batches(tmp_path, 16, 8, seed=3)
    assert num_classes == 2
    first, again, next_ = draw(5), draw(5), draw(6)
    assert first["image"].shape == (8, 3, 16, 16)
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["label"], next_["label"])
    # "dark" comes first in the alphabet: label 0 has pixels at -1, label 1 at +1.
    expected = first["label"].float() * 2 - 1
    torch.testing.assert_close(first["image"].mean((1, 2, 3)), expected)
