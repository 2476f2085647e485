"""Paste figures of the executed notebooks into book/img/hero.png: `python book/img/hero.py`.

The picture on the first page shows results, so it is made of them: each panel is the stored output
of the cell whose alt text begins with the words given here.
"""

import base64
import io
import json
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = [
    [
        ("tokens/enat", "Six rows of ten generated pictures, one class a column"),
        ("shapes/point_mae", "Three rows of eight point clouds"),
        ("tokens/axial", "Rows of ten coloured digits: the originals"),
    ],
    [
        ("latents/fa_vae", "Four rows of eight patches of photographs"),
        ("signals/mogo", "Five rows of eight poses of stick figures"),
    ],
]
WIDTH, GAP, PAPER = 1200, 24, "#ffffff"


def figure(notebook: str, alt: str) -> Image.Image:
    """The stored picture of a cell, found by the beginning of its alt text."""
    cells = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text("utf-8"))["cells"]
    for cell in cells:
        text = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
        for output in cell.get("outputs", []) if text.startswith(alt) else []:
            if png := output.get("data", {}).get("image/png"):
                return Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    raise ValueError(f"{notebook}: no stored picture whose alt text begins with {alt!r}")


def main() -> None:
    """Two columns of panels."""
    columns = [[figure(*panel) for panel in column] for column in COLUMNS]
    width = (WIDTH - GAP) // 2
    scaled = [
        [p.resize((width, round(p.height * width / p.width)), Image.LANCZOS) for p in column]
        for column in columns
    ]
    heights = [sum(p.height for p in column) + GAP * (len(column) - 1) for column in scaled]
    page = Image.new("RGB", (WIDTH, max(heights)), PAPER)
    for x, column, height in zip((0, width + GAP), scaled, heights, strict=True):
        y = (page.height - height) // 2
        for picture in column:
            page.paste(picture, (x, y))
            y += picture.height + GAP
    page.save(Path(__file__).with_name("hero.png"), optimize=True)


if __name__ == "__main__":
    main()
