"""Pictures with a sentence under each, as one sheet."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from gentok.show.media import GAP, INK, PAPER, video_frames

LINE = 14  # pixels of a line of text
LETTER = 6  # pixels of a letter, about


def captioned_sheet(images: Tensor, captions: Sequence[str], columns: int = 4) -> Image.Image:
    """Lay pictures side by side, each above its caption; small ones are enlarged.

    Args:
        images: (n, C, H, W), floats in [-1, 1] or uint8; ``captions``: n sentences.
        columns: pictures in a row, at the most.

    Raises:
        ValueError: if there are not as many captions as pictures, or none.
    """
    if not len(images) or len(captions) != len(images):
        raise ValueError(f"need a caption a picture, got {len(captions)} for {len(images)}")
    tiles = [video_frames(image[None])[0] for image in images]  # (height, width, 3) each
    height, width = tiles[0].shape[:2]
    texts = [textwrap.wrap(text, max(8, width // LETTER)) or [""] for text in captions]
    below = LINE * max(len(lines) for lines in texts) + GAP
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    size = (columns * (width + GAP) - GAP, rows * (height + below))
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, (tile, lines) in enumerate(zip(tiles, texts, strict=True)):
        left, top = index % columns * (width + GAP), index // columns * (height + below)
        sheet.paste(Image.fromarray(np.ascontiguousarray(tile)), (left, top))
        pen.text((left + 1, top + height + 1), "\n".join(lines), fill=INK, font_size=LINE - 3)
    return sheet


def save_captioned(
    images: Tensor, captions: Sequence[str], path: str | Path, columns: int = 4
) -> None:
    """Write a `captioned_sheet`; the name's ending says the format."""
    captioned_sheet(images, captions, columns).save(path)
