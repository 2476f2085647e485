"""The book's page about the data: its examples run, and its pictures can be drawn again."""

import re
from pathlib import Path

import pytest
import torch
from matplotlib import pyplot as plt

from gentok.data import gallery

BOOK = Path(__file__).parents[2] / "book"


def test_examples_of_the_page_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", (BOOK / "data.md").read_text(), re.DOTALL)
    assert len(blocks) >= 8
    names: dict = {}
    for block in blocks:
        exec(compile(block, "book/data.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "torch.Size([64, 3, 32, 32])" in printed and "tensor(True)" in printed


def test_page_and_gallery_name_the_same_pictures():
    page = (BOOK / "data.md").read_text()
    named = set(re.findall(r"\{figure\} img/(\w+)\.png\n:name: [\w-]+\n:alt: .{40,}", page))
    assert named == set(gallery.FIGURES)
    assert all((BOOK / "img" / f"{name}.png").is_file() for name in named)


@pytest.mark.parametrize("name", gallery.FIGURES)
def test_pictures_can_be_drawn(name):
    plt.switch_backend("agg")
    figure = gallery.FIGURES[name]()
    assert all(axis.get_title() for axis in figure.axes)
    plt.close(figure)


def test_tiles_keep_the_order():
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 4, 4)
    grid = gallery.tiles(images, columns=3)
    assert grid.shape == (12, 18, 3)
    assert grid[2::6, 3::6, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
