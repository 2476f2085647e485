"""One picture from one file: upright, RGB, whole, or an error that names the file."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from gentok.data.files import reason

ORIENTATION = 0x0112  # EXIF: how the camera was held
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def is_picture(path: Path) -> bool:
    """Whether a file's name ends as a picture's does, and does not begin with a dot."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_picture(path: Path) -> Image.Image:
    """Read a picture file; of an animation its first frame.

    Cameras store how they were held beside the pixels (EXIF): the picture comes back upright.
    Greys of 16 bits are scaled to 8, as Pillow's own conversion cuts them off at 255.

    Returns:
        the picture in mode RGB, 8 bits a channel.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no picture, damaged, or too large to be one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no picture {path}")
    return decode_picture(path, str(path))


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture file, held upright, from its header alone.

    Raises:
        ValueError: if the file is no picture.
    """
    try:
        with Image.open(path) as picture:
            turned = picture.getexif().get(ORIENTATION, 1) >= 5  # by a quarter
            return picture.size[::-1] if turned else picture.size
    except Exception as error:  # Pillow's decoders raise a dozen kinds
        raise ValueError(f"{path} cannot be read as a picture: {reason(error)}") from error


def decode_picture(source: Path | BinaryIO, where: str) -> Image.Image:
    """As `read_picture`, of a file or of bytes in memory; ``where`` names them.

    Raises:
        ValueError: if they are no picture, damaged, or too large to be one.
    """
    try:
        with Image.open(source) as picture:
            if picture.getexif().get(ORIENTATION, 1) != 1:
                ImageOps.exif_transpose(picture, in_place=True)
            return _eight_bits(picture).convert("RGB")
    except Exception as error:  # Pillow's decoders raise a dozen kinds
        raise ValueError(f"{where} cannot be read as a picture: {reason(error)}") from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Whole numbers of 16 bits to bytes (65535 to 255); other modes as they are."""
    if picture.mode == "F":
        raise ValueError("its pixels are floats; accepted: 8 or 16 bits a channel")
    if not picture.mode.startswith("I"):
        return picture
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"pixels from {values.min()} to {values.max()}; accepted: 0 to 65535")
    return Image.fromarray(np.round(values / 257).astype(np.uint8))
