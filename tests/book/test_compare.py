"""The page that puts tokenizers side by side."""

import re

import pytest
import torch
from torch import nn

from gentok.book import compare
from gentok.book.pairs import find_root
from gentok.data import plain_shapes
from gentok.measure import psnr
from gentok.nn.latents import LatentSpace

ROOT = find_root()


class Halves(nn.Module):
    """Means of 2 x 2 pixels; nothing is learned."""

    latent_space = LatentSpace("continuous", (3, 4, 4), "image")

    def __init__(self):
        super().__init__()
        self.device = nn.Parameter(torch.zeros(1))

    def encode(self, x):
        return nn.functional.avg_pool2d(x, 2)

    def decode(self, z):
        return z.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_rounding_costs_less_than_what_it_may(monkeypatch):
    x = nn.functional.avg_pool2d(plain_shapes(40, seed=3).floats(), 4)
    whole = compare.rounded(Halves(), x)
    monkeypatch.setattr(compare, "LOSS", 3.0)
    assert compare.rounded(Halves(), x) < 0.7 * whole < 0.7 * 32 * 48


def test_bits_of_an_even_choice_are_known():
    x = torch.where(torch.rand(64, 3, 8, 8) < 0.5, -1.0, 1.0)
    flat = x[:, :, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3)
    # Two values, equally frequent, so far apart that the coarsest step tells them apart.
    assert compare.rounded(Halves(), flat) == pytest.approx(48, rel=0.01)


def test_all_of_a_row_is_measured():
    x = nn.functional.avg_pool2d(plain_shapes(70, seed=3).floats(), 4)
    row = compare.measured("halves", Halves(), x)
    assert (row.numbers, row.kind) == (48, "floats")
    assert row.low < 1e-10 < row.high, "a mean of four keeps the low band and nothing else"
    assert row.psnr == pytest.approx(float(psnr(x, Halves().decode(Halves().encode(x))).mean()))
    assert row.used == 1 and row.encode_ms > 0
    text = compare.table([row.__dict__])
    assert text.splitlines()[-1].startswith("| halves | 48 floats |")


def test_jpeg_gets_better_with_every_bit():
    points = compare.jpeg(plain_shapes(8, seed=3).floats())
    assert points == sorted(points) and [p for _, p in points] == sorted(p for _, p in points)


def test_a_page_without_its_marks_is_refused():
    page = "<!-- a: made by `python -m gentok.book.compare` -->\nold\n<!-- end -->\n"
    assert "new" in compare.between(page, "a", "new") and "old" not in compare.between(
        page, "a", ""
    )
    with pytest.raises(ValueError, match="needs a line"):
        compare.between("nothing", "a", "new")


@pytest.mark.slow
@pytest.mark.parametrize("part", compare.PARTS)
def test_the_page_says_what_the_weights_give(part):
    text = (ROOT / "book" / "parts" / f"{part}_compared.md").read_text(encoding="utf-8")
    for title, (pictures, tokenizers) in compare.PARTS[part].items():
        _, _, rest = text.partition(f"<!-- {title}: made by")
        lines = rest.partition("<!-- end -->")[0].splitlines()
        x = pictures()
        for name, load in tokenizers.items():
            tokenizer = load().eval()
            quality = compare.decoded_quality(tokenizer, x)
            cells = next(line for line in lines if line.startswith(f"| {name} |")).split(" | ")
            assert int(re.sub(r"\D", "", cells[1])) == tokenizer.latent_space.numbers, name
            assert float(cells[3]) == pytest.approx(quality, abs=0.06), name
