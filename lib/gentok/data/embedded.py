"""Small sets that every installation holds: handwritten digits and English text.

Digits are scikit-learn's (UCI "Optical Recognition of Handwritten Digits", test part, 1,797 items).
The text is the language reference inside Python itself, about 465,000 characters of technical
English that differ a little from one Python version to the next.
"""

import torch
import torch.nn.functional as F

from gentok.data import folder
from gentok.data.files import read_text
from gentok.data.imageset import ImageSet, to_uint8

SHAKESPEARE = "text/tinyshakespeare.txt"


def digits(size: int = 8) -> ImageSet:
    """All 1,797 handwritten digits, white on black, grey in three equal channels.

    Args:
        size: side in pixels; the originals have 8, larger ones are bicubic enlargements.

    Raises:
        ValueError: if ``size`` is below 8.
    """
    from sklearn.datasets import load_digits

    if size < 8:
        raise ValueError(f"size must be 8 or more (the originals have 8 x 8 pixels), got {size}")
    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 8 - 1  # 0..16 -> [-1, 1]
    if size != 8:
        images = F.interpolate(images, size=(size, size), mode="bicubic", align_corners=False)
    return ImageSet(
        images=to_uint8(images).repeat(1, 3, 1, 1),
        labels=torch.tensor(bunch.target, dtype=torch.int64),
        class_names=tuple("0123456789"),
        source="handwritten digits of the scikit-learn package (UCI optical digits, 8 x 8 pixels)",
    )


def text(source: str = "pydoc", download: bool = False) -> str:
    """English text as one string.

    Args:
        source: "pydoc" (always there) or "tinyshakespeare" (GENTOK_DATA or the hub).
        download: fetch "tinyshakespeare" from the hub where the folder has none.

    Raises:
        ValueError: if ``source`` is neither of the two, or the file is empty or not UTF-8.
        FileNotFoundError: if "tinyshakespeare" is not in the folder and not to be downloaded.
    """
    if source == "pydoc":
        from pydoc_data.topics import topics

        return "\n\n".join(topics[name].strip() for name in sorted(topics))
    if source != "tinyshakespeare":
        raise ValueError(f"source must be 'pydoc' or 'tinyshakespeare', got {source!r}")
    path = folder.find(SHAKESPEARE)
    if path is not None:
        words = read_text(path)
        if not words.strip():
            raise ValueError(f"{path} holds no text")
        return words
    if not download:
        raise folder.missing(
            "tinyshakespeare", SHAKESPEARE, "text('tinyshakespeare', download=True)"
        )
    # The set's home on the hub is a script, which `datasets` no longer runs: take its parquet copy.
    parts = [
        folder.from_hub("karpathy/tiny_shakespeare", split, revision="refs/convert/parquet")
        for split in ("train", "validation", "test")
    ]
    return "".join(row["text"] for part in parts for row in part)
