"""The crop that published generators learn from: the middle of a picture, or its mirror image."""

import numpy as np
from PIL import Image, ImageOps


def mirrored_crop(picture: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """The largest square in the middle, scaled to ``size`` pixels, mirrored half of the time."""
    square = ImageOps.fit(picture, (size, size))
    return ImageOps.mirror(square) if rng.random() < 0.5 else square
