"""The crop that ViTok's images are trained on: most of the picture, slightly stretched."""

import numpy as np
from PIL import Image


def gentle_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A random part of an RGB picture as a square of ``size`` pixels, mirrored half the time.

    Cuts 80 % to 100 % of the area at an aspect ratio from 3/4 to 4/3, bilinearly scaled; where the
    part would not fit, its longer side is cut to the picture's.
    """
    area = image.width * image.height * rng.uniform(0.8, 1.0)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    width = min(image.width, max(1, round((area * aspect) ** 0.5)))
    height = min(image.height, max(1, round((area / aspect) ** 0.5)))
    x, y = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
    part = image.resize((size, size), Image.Resampling.BILINEAR, (x, y, x + width, y + height))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part
