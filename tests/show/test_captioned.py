"""Pictures with a sentence under each."""

import numpy as np
import pytest
import torch
from PIL import Image

from gentok.show.captioned import captioned_sheet, save_captioned


def test_pictures_stand_above_their_captions(tmp_path):
    images = torch.zeros(3, 3, 32, 32)
    images[1] = 1.0
    texts = ["a red star at the left", "b", "c"]
    sheet = np.asarray(captioned_sheet(images, texts, columns=2))
    tile = 128  # 32 pixels four times
    assert sheet.shape[1] == 2 * tile + 6 and sheet.shape[2] == 3
    assert (sheet[:tile, :tile] == 128).all() and (sheet[:tile, tile + 6 :] == 255).all()
    below = sheet[tile : sheet.shape[0] // 2]
    assert (below[:, :tile] < 100).any(), "no ink under the first picture"
    save_captioned(images, texts, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size[0] == 3 * (tile + 6) - 6
    with pytest.raises(ValueError, match="need a caption a picture, got 2 for 3"):
        captioned_sheet(images, texts[:2])
